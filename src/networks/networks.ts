import { dlibResnet } from './dlib-resnet.ts';
import { inceptionResnetV1 } from './inception-resnet-v1.ts';
import type { Network, NetworkName } from './network.ts';
import { nn1 } from './nn1.ts';
import { nn2 } from './nn2.ts';
import { nn3 } from './nn3.ts';
import { nn4 } from './nn4.ts';
import { nn4Small1 } from './nn4-small1.ts';
import { nn4Small2 } from './nn4-small2.ts';
import { nns1 } from './nns1.ts';
import { nns2 } from './nns2.ts';

/** Every network by its name. Who knows which one is wanted imports that file alone. */
export const networks: Readonly<Record<NetworkName, Network>> = {
  nn1,
  nn2,
  nn3,
  nn4,
  nns1,
  nns2,
  'nn4.small1': nn4Small1,
  'nn4.small2': nn4Small2,
  'dlib-resnet': dlibResnet,
  'inception-resnet-v1': inceptionResnetV1,
};
