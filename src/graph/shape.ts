import { FaceNetError } from '../errors.ts';

/** Sizes of a tensor, outermost first. Images are [batch, height, width, channels]. */
export type Shape = readonly number[];

/** Stands for the batch size in the shapes of a graph: the only size that is known at run time alone. */
export const BATCH = -1;

/** The shape with every BATCH replaced by `batch`. */
export function resolve(shape: Shape, batch: number): Shape {
  return shape.includes(BATCH) ? shape.map((size) => (size === BATCH ? batch : size)) : shape;
}

/** Number of elements of a resolved shape. A scalar has shape [] and one element. */
export function size(shape: Shape): number {
  let product = 1;
  for (const dimension of shape) {
    if (dimension < 0) throw new FaceNetError('internal', `size: the batch must be resolved, got ${text(shape)}.`);
    product *= dimension;
  }
  return product;
}

/** Number of rows: the product of all sizes but the last. Every tensor is rows x columns to a kernel that works by channel. */
export function rows(shape: Shape): number {
  return shape.length === 0 ? 1 : size(shape.slice(0, -1));
}

/** Size of the innermost dimension (channels of an image, columns of a matrix). */
export function columns(shape: Shape): number {
  return shape.length === 0 ? 1 : (shape[shape.length - 1] as number);
}

export function equal(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((value, index) => value === b[index]);
}

/** The shape as people write it: [N, 96, 96, 3]. */
export function text(shape: Shape): string {
  return `[${shape.map((size) => (size === BATCH ? 'N' : String(size))).join(', ')}]`;
}

/** Throws 'input' unless the shape has this rank; the message names the operator and the tensor. */
export function requireRank(operator: string, tensor: string, shape: Shape, rank: number): void {
  if (shape.length !== rank) {
    throw new FaceNetError('input', `${operator}: ${tensor} must have ${rank} dimensions, got ${text(shape)}.`);
  }
}

/** Throws 'input' unless two shapes are the same. */
export function requireEqual(operator: string, tensor: string, shape: Shape, expected: Shape): void {
  if (!equal(shape, expected)) {
    throw new FaceNetError('input', `${operator}: ${tensor} must be ${text(expected)}, got ${text(shape)}.`);
  }
}
