import { FaceNetError } from '../errors.ts';
import { quoteName } from './safetensors.ts';

/**
 * Refuses weights that are not numbers. Works on bit patterns, as an infinity or NaN has all exponent bits set.
 * @throws FaceNetError 'model' naming the tensor and the place.
 */
export function requireFinite(name: string, values: Float32Array): void {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    if (((bits[i] as number) & 0x7f800000) === 0x7f800000) {
      throw new FaceNetError(
        'model',
        `weights: non-finite value in ${quoteName(name)}, got ${values[i]} at ${i}. Get the file again or train anew.`,
      );
    }
  }
}
