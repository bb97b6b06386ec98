/**
 * MTCNN's weights as others keep them, to one detector file of ours: facenet-pytorch's pnet.pt, rnet.pt, onet.pt (three files, one state
 * dictionary of all three, or safetensors with its names) and davidsandberg/facenet's det1.npy, det2.npy, det3.npy.
 *
 * Both come from column-major MATLAB. facenet's convolutions want their image transposed: their kernels [width, height, in, out] are turned
 * here, facenet-pytorch's are turned already. Both flatten what goes into the first dense layer in the order W, H, C; here its rows are put
 * into our order H, W, C.
 */
import { FaceNetError } from '../errors.ts';
import {
  type DetectorFile,
  type DetectorMetadata,
  detectorOf,
  isDetector,
  writeDetectorFile,
} from './detector-file.ts';
import { isNpy, readNpy } from './npy.ts';
import { isPyTorch, readPyTorch } from './pytorch.ts';
import { quoteName, readSafetensors, type Tensor, toFloat32 } from './safetensors.ts';
import { sha256 } from './sha256.ts';

export interface ConvertMtcnnOptions {
  /** What it is called in messages, and in the card. */
  readonly source?: string;
  /** Name and version of the converting program. */
  readonly library: string;
}

const card: Pick<DetectorMetadata, 'network' | 'licence' | 'trainedOn'> = {
  network: 'mtcnn',
  licence: 'MIT, davidsandberg/facenet and facenet-pytorch; weights by Zhang et al. 2016',
  trainedOn: 'WIDER FACE and CelebA, as the paper states',
};

/** Names of the layers: ours; facenet-pytorch's; facenet's. */
type Layer = readonly [ours: string, pytorch: string, facenet: string];

interface Net {
  readonly name: 'pnet' | 'rnet' | 'onet';
  readonly layers: readonly Layer[];
  /** The layer that reads flattened activations, and their height (= width); pnet has none. */
  readonly flat?: { readonly layer: string; readonly side: number };
}

const nets: readonly Net[] = [
  {
    name: 'pnet',
    layers: [
      ['conv1', 'conv1', 'conv1'],
      ['prelu1', 'prelu1', 'PReLU1'],
      ['conv2', 'conv2', 'conv2'],
      ['prelu2', 'prelu2', 'PReLU2'],
      ['conv3', 'conv3', 'conv3'],
      ['prelu3', 'prelu3', 'PReLU3'],
      ['conv4-1', 'conv4_1', 'conv4-1'],
      ['conv4-2', 'conv4_2', 'conv4-2'],
    ],
  },
  {
    name: 'rnet',
    layers: [
      ['conv1', 'conv1', 'conv1'],
      ['prelu1', 'prelu1', 'prelu1'],
      ['conv2', 'conv2', 'conv2'],
      ['prelu2', 'prelu2', 'prelu2'],
      ['conv3', 'conv3', 'conv3'],
      ['prelu3', 'prelu3', 'prelu3'],
      ['dense4', 'dense4', 'conv4'],
      ['prelu4', 'prelu4', 'prelu4'],
      ['dense5-1', 'dense5_1', 'conv5-1'],
      ['dense5-2', 'dense5_2', 'conv5-2'],
    ],
    flat: { layer: 'dense4', side: 3 },
  },
  {
    name: 'onet',
    layers: [
      ['conv1', 'conv1', 'conv1'],
      ['prelu1', 'prelu1', 'prelu1'],
      ['conv2', 'conv2', 'conv2'],
      ['prelu2', 'prelu2', 'prelu2'],
      ['conv3', 'conv3', 'conv3'],
      ['prelu3', 'prelu3', 'prelu3'],
      ['conv4', 'conv4', 'conv4'],
      ['prelu4', 'prelu4', 'prelu4'],
      ['dense5', 'dense5', 'conv5'],
      ['prelu5', 'prelu5', 'prelu5'],
      ['dense6-1', 'dense6_1', 'conv6-1'],
      ['dense6-2', 'dense6_2', 'conv6-2'],
      ['dense6-3', 'dense6_3', 'conv6-3'],
    ],
    flat: { layer: 'dense5', side: 3 },
  },
];

/**
 * One detector file from MTCNN's weights: a file with all three networks, or three files with one each, in any order.
 * @throws FaceNetError 'model' for damaged files, for other weights, and where a layer is missing, doubled or of another shape.
 */
export async function convertMtcnn(
  files: Uint8Array | readonly Uint8Array[],
  { source = 'mtcnn', library }: ConvertMtcnnOptions,
): Promise<Uint8Array> {
  return writeDetectorFile(await mtcnnOf(files instanceof Uint8Array ? [files] : files, source, library));
}

async function mtcnnOf(list: readonly Uint8Array[], source: string, library: string): Promise<DetectorFile> {
  const tensors = new Map<string, Tensor>();
  for (const bytes of list) {
    for (const [name, tensor] of fromForeign(
      foreignTensors(bytes, source),
      isNpy(bytes) ? 'facenet' : 'pytorch',
      source,
    )) {
      if (tensors.has(name))
        throw new FaceNetError(
          'model',
          `${source}: each network once, got ${quoteName(name)} twice. Give det1, det2 and det3.`,
        );
      tensors.set(name, tensor);
    }
  }
  requireAll(tensors, source);
  const hashes = await Promise.all(list.map(sha256));
  const [only] = hashes;
  const sourceSha256 =
    hashes.length === 1 && only !== undefined ? only : await sha256(new TextEncoder().encode(hashes.join('\n')));
  return { metadata: { ...card, source, sourceSha256, library }, tensors, quantization: new Map() };
}

/**
 * Opens a detector: a file of ours, or MTCNN's weights in one file with facenet-pytorch's names.
 * @throws FaceNetError 'model'.
 */
export async function openDetectorFile(bytes: Uint8Array, source: string): Promise<DetectorFile> {
  const ours = !isPyTorch(bytes) && !isNpy(bytes) ? readSafetensors(bytes, { source }) : undefined;
  if (ours && (isDetector(ours) || !ours.tensors.has('pnet.conv1.weight'))) return detectorOf(ours, source);
  return mtcnnOf([bytes], source, 'read as it is');
}

function foreignTensors(bytes: Uint8Array, source: string): ReadonlyMap<string, Tensor> {
  if (isNpy(bytes)) return readNpy(bytes, source);
  if (isPyTorch(bytes)) return readPyTorch(bytes, source);
  if (bytes[8] === 0x7b) return readSafetensors(bytes, { source }).tensors;
  throw new FaceNetError(
    'model',
    `${source}: MTCNN's weights as .npy, .pt or safetensors, got another format. Name det1.npy, det2.npy, det3.npy or pnet.pt, rnet.pt, onet.pt.`,
  );
}

/** The networks of one foreign file under our names, in our layout. */
function fromForeign(
  tensors: ReadonlyMap<string, Tensor>,
  form: 'facenet' | 'pytorch',
  source: string,
): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
  for (const net of netsOf(tensors, form, source)) {
    const prefix = form === 'pytorch' && tensors.has(`${net.name}.conv1.weight`) ? `${net.name}.` : '';
    for (const [ours, pytorch, facenet] of net.layers) {
      const parts = ours.startsWith('prelu') ? (['slope'] as const) : (['weight', 'bias'] as const);
      for (const part of parts) {
        const foreign =
          form === 'pytorch'
            ? `${prefix}${pytorch}.${part === 'bias' ? 'bias' : 'weight'}`
            : `${facenet}/${{ weight: 'weights', bias: 'biases', slope: 'alpha' }[part]}`;
        const tensor = tensors.get(foreign);
        if (tensor === undefined)
          throw new FaceNetError(
            'model',
            `${source}: ${net.name} has ${quoteName(foreign)}, got none. Get the file again.`,
          );
        const name = `${net.name}/${ours}/${part}`;
        const shape = shapes.get(name) as readonly number[];
        found.set(name, {
          dtype: 'F32',
          shape,
          data: turned(
            toFloat32(tensor),
            tensor.shape,
            shape,
            form,
            net.flat?.layer === ours ? net.flat.side : 0,
            foreign,
            source,
          ),
        });
      }
    }
  }
  return found;
}

/** Which networks a file holds, told by their last layers. */
function netsOf(tensors: ReadonlyMap<string, Tensor>, form: 'facenet' | 'pytorch', source: string): readonly Net[] {
  if (form === 'pytorch' && tensors.has('pnet.conv1.weight')) return nets;
  const has = (name: string) => tensors.has(name);
  const net =
    form === 'facenet'
      ? nets.find((_, index) => has(`conv${index + 4}-1/weights`))
      : nets.find((_, index) => has(`${index === 0 ? 'conv' : 'dense'}${index + 4}_1.weight`));
  if (net) return [net];
  const [first = ''] = tensors.keys();
  throw new FaceNetError(
    'model',
    `${source}: weights of MTCNN (pnet.conv1.weight, conv4_1.weight, conv4-1/weights ...), got ${tensors.size} tensors, the first ${quoteName(first)}. Name the files of MTCNN.`,
  );
}

/** A foreign tensor's values in the order of ours. @throws 'model' where its shape is not that of its layer. */
function turned(
  values: Float32Array,
  from: readonly number[],
  to: readonly number[],
  form: 'facenet' | 'pytorch',
  side: number,
  name: string,
  source: string,
): Float32Array {
  const [a = 1, b = 1, c = 1, d = 1] = to;
  const expected = form === 'facenet' ? to : to.length === 4 ? [d, c, a, b] : to.length === 2 ? [b, a] : to;
  // Some files keep a slope or bias as [1, 1, channels].
  const trimmed = to.length === 1 ? from.filter((size) => size !== 1) : from;
  if (trimmed.length !== expected.length || trimmed.some((size, i) => size !== expected[i]))
    throw new FaceNetError(
      'model',
      `${source}: ${quoteName(name)} is [${expected.join(', ')}], got [${from.join(', ')}]. Get the file again.`,
    );
  if (to.length === 1) return values.slice();
  const result = new Float32Array(values.length);
  if (to.length === 4) {
    let at = 0;
    for (let y = 0; y < a; y++)
      for (let x = 0; x < b; x++)
        for (let i = 0; i < c; i++)
          for (let o = 0; o < d; o++)
            result[at++] = values[
              form === 'facenet' ? ((x * b + y) * c + i) * d + o : ((o * c + i) * a + y) * b + x
            ] as number;
    return result;
  }
  const channels = side > 0 ? a / (side * side) : 1;
  for (let i = 0; i < a; i++) {
    // Row i of ours is pixel (y, x), channel k; theirs has the x outermost.
    const [pixel, k] = [Math.floor(i / channels), i % channels];
    const [y, x] = [Math.floor(pixel / side), pixel % side];
    const row = side > 0 ? (x * side + y) * channels + k : i;
    for (let o = 0; o < b; o++) result[i * b + o] = values[form === 'facenet' ? row * b + o : o * a + row] as number;
  }
  return result;
}

/** Shapes of all weights, by our names. */
const shapes: ReadonlyMap<string, readonly number[]> = new Map(
  (
    [
      ['pnet/conv1', 3, 3, 3, 10],
      ['pnet/prelu1', 10],
      ['pnet/conv2', 3, 3, 10, 16],
      ['pnet/prelu2', 16],
      ['pnet/conv3', 3, 3, 16, 32],
      ['pnet/prelu3', 32],
      ['pnet/conv4-1', 1, 1, 32, 2],
      ['pnet/conv4-2', 1, 1, 32, 4],
      ['rnet/conv1', 3, 3, 3, 28],
      ['rnet/prelu1', 28],
      ['rnet/conv2', 3, 3, 28, 48],
      ['rnet/prelu2', 48],
      ['rnet/conv3', 2, 2, 48, 64],
      ['rnet/prelu3', 64],
      ['rnet/dense4', 576, 128],
      ['rnet/prelu4', 128],
      ['rnet/dense5-1', 128, 2],
      ['rnet/dense5-2', 128, 4],
      ['onet/conv1', 3, 3, 3, 32],
      ['onet/prelu1', 32],
      ['onet/conv2', 3, 3, 32, 64],
      ['onet/prelu2', 64],
      ['onet/conv3', 3, 3, 64, 64],
      ['onet/prelu3', 64],
      ['onet/conv4', 2, 2, 64, 128],
      ['onet/prelu4', 128],
      ['onet/dense5', 1152, 256],
      ['onet/prelu5', 256],
      ['onet/dense6-1', 256, 2],
      ['onet/dense6-2', 256, 4],
      ['onet/dense6-3', 256, 10],
    ] as const
  ).flatMap(([layer, ...shape]): [string, readonly number[]][] =>
    shape.length === 1
      ? [[`${layer}/slope`, shape]]
      : [
          [`${layer}/weight`, shape],
          [`${layer}/bias`, [shape[shape.length - 1] as number]],
        ],
  ),
);

function requireAll(tensors: ReadonlyMap<string, Tensor>, source: string): void {
  const missing = nets.filter(({ name }) => !tensors.has(`${name}/conv1/weight`)).map(({ name }) => name);
  if (missing.length > 0)
    throw new FaceNetError(
      'model',
      `${source}: all of pnet, rnet and onet, got none of ${missing.join(' and ')}. Give all three files.`,
    );
}
