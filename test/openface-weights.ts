// The partial OpenFace weights of the shared data (safetensors, Keras-OpenFace's names, Torch's layout), for tests. Shares nothing with src/io.
import { readFileSync } from 'node:fs';

/** Our name of a tensor of Keras-OpenFace: conv1_w, bn1_m, inception_3a_3x3_conv1_w, inception_3a_pool_bn_v, dense_b. */
export function ourName(theirs: string): string {
  const parts = theirs.split('_');
  const last = parts.at(-1) as 'w' | 'b' | 'm' | 'v';
  const [first, block, branch, kind] = parts as [string, string, string, string];
  const role = (norm: boolean) =>
    (norm ? { w: 'gamma', b: 'beta', m: 'mean', v: 'variance' } : { w: 'weight', b: 'bias', m: 'none', v: 'none' })[
      last
    ];
  if (first === 'dense') return `embedding/${role(false)}`;
  if (first === 'inception') {
    const layer = branch === 'pool' ? 'projection' : kind.endsWith('1') ? `${branch}reduce` : branch;
    return `inception${block}/${layer}/${role(kind.startsWith('bn'))}`;
  }
  const layer = { '1': 'conv1', '2': 'inception2/3x3reduce', '3': 'inception2/3x3' }[first.at(-1) as '1' | '2' | '3'];
  return `${layer}/${role(first.startsWith('bn'))}`;
}

export interface OpenFaceWeights {
  /** Their shapes by their names, the missing five included. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly missing: readonly string[];
  /** Values by our names, in our layout. */
  readonly values: ReadonlyMap<string, Float32Array>;
}

export function readOpenFaceWeights(path: string): OpenFaceWeights {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const { __metadata__, ...tensors } = JSON.parse(bytes.subarray(8, start).toString()) as Record<
    string,
    { shape: number[]; data_offsets: [number, number]; missing: string }
  >;
  const missing = JSON.parse(__metadata__?.missing as string) as Record<string, number[]>;
  const shapes = new Map<string, readonly number[]>(Object.entries(missing));
  const values = new Map<string, Float32Array>();
  for (const [name, { shape, data_offsets: offsets }] of Object.entries(tensors)) {
    shapes.set(name, shape);
    const count = shape.reduce((a, b) => a * b, 1);
    const data = Float32Array.from({ length: count }, (_, i) => bytes.readFloatLE(start + offsets[0] + 4 * i));
    values.set(ourName(name), shape.length === 1 ? data : transposed(data, shape));
  }
  return { shapes, missing: Object.keys(missing), values };
}

/** OIHW -> HWIO, [out, in] -> [in, out]. */
function transposed(data: Float32Array, shape: readonly number[]): Float32Array {
  const [outputs, inputs, height = 1, width = 1] = shape as [number, number, number?, number?];
  const result = new Float32Array(data.length);
  let at = 0;
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      for (let p = 0; p < height * width; p++) result[(p * inputs + i) * outputs + o] = data[at++] as number;
    }
  }
  return result;
}
