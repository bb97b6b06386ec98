import type { DetectionModelFactory } from './detection.ts';
import { createMtcnn } from './mtcnn.ts';
import { createTinyFace } from './tiny-face.ts';

/** What makes a detector, by the name that its file's metadata carry. */
export const detectors = {
  mtcnn: createMtcnn,
  'tiny-face': createTinyFace,
} as const satisfies Readonly<Record<string, DetectionModelFactory>>;
