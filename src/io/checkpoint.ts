import { FaceNetError } from '../errors.ts';
import { readSafetensors, type Tensor, writeSafetensors } from './safetensors.ts';

/** Tensors and text of a training run between two steps. */
export interface CheckpointState {
  readonly tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>;
  readonly metadata: ReadonlyMap<string, string>;
}

const FORMAT = 'facenet-gpu/checkpoint@1';

/**
 * A checkpoint as safetensors: every tensor in float32, the rest as metadata.
 * @throws FaceNetError 'model' for a number that is not finite: such a state must not replace a good one.
 */
export function writeCheckpoint({ tensors, metadata }: CheckpointState): Uint8Array {
  for (const [name, { data }] of tensors) {
    const at = data.findIndex((value) => !Number.isFinite(value));
    if (at >= 0)
      throw new FaceNetError(
        'model',
        `checkpoint: every number must be finite, got ${data[at]} in ${name}. The run has gone wrong: go on from the last good checkpoint, with a lower learning rate or clipNorm.`,
      );
  }
  const stored = new Map<string, Tensor>(
    [...tensors].map(([name, { shape, data }]) => [name, { dtype: 'F32', shape: [...shape], data }]),
  );
  return writeSafetensors(stored, new Map([['format', FORMAT], ...metadata]));
}

/** @throws FaceNetError 'model' for a broken file, one that is no checkpoint, or a tensor that is not float32. */
export function readCheckpoint(bytes: Uint8Array, source = 'checkpoint'): CheckpointState {
  const { tensors, metadata } = readSafetensors(bytes, { source });
  const format = metadata.get('format');
  if (format !== FORMAT) {
    throw new FaceNetError(
      'model',
      `${source}: a checkpoint names the format ${FORMAT}, got ${format ?? 'none'}. Models are opened with create().`,
    );
  }
  const read = new Map<string, { shape: readonly number[]; data: Float32Array }>();
  for (const [name, tensor] of tensors) {
    if (tensor.dtype !== 'F32')
      throw new FaceNetError('model', `${source}: every tensor is F32, got ${tensor.dtype} for ${name}.`);
    read.set(name, { shape: tensor.shape, data: tensor.data });
  }
  return { tensors: read, metadata };
}
