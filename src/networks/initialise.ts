import { FaceNetError } from '../errors.ts';
import { isStatistic, parameterRoles } from '../graph/accounting.ts';
import { Graph } from '../graph/graph.ts';
import { BATCH, type Shape, size } from '../graph/shape.ts';
import type { Network, Variant } from './network.ts';

/** A tensor that a network keeps in the store. */
export interface ParameterInfo {
  readonly name: string;
  readonly shape: Shape;
  /** Name of the operator input it serves: 'weight', 'bias', 'gamma', 'beta', 'mean', 'variance', 'slope'. */
  readonly role: string;
  /** False for running statistics. */
  readonly learnt: boolean;
}

/**
 * Every parameter of a network in order of first use: what a weight file for it must hold.
 * `input` is the picture's size, where it changes shapes (nn1, nns1, nns2); default: the network's own.
 */
export function parametersOf(
  network: Network,
  variant: Variant = {},
  input: Network['input'] = network.input,
): ParameterInfo[] {
  return parametersIn(inferenceGraph(network, variant, input));
}

/** A network as it embeds, on pictures of a size. */
export function inferenceGraph(network: Network, variant: Variant, { width, height }: Network['input']): Graph {
  const graph = new Graph();
  network.build(graph.input('x', [BATCH, height, width, 3]), { ...variant, mode: 'inference' });
  return graph;
}

/** The parameters of a graph. */
export function parametersIn(graph: Graph): ParameterInfo[] {
  const roles = parameterRoles(graph);
  return graph.parameters.map((value) => {
    const role = roles.get(value) ?? 'unused';
    return { name: value.name, shape: value.shape, role, learnt: !isStatistic(role) };
  });
}

/**
 * Random values for parameters, fixed by the seed: the same bits in every runtime. Weights are normal with variance
 * 2 / fan-in (He et al. 2015), gamma and variance 1, PReLU slopes 0.25, all else 0.
 *
 * A tensor's values depend on seed, name and shape alone, so that filling the gaps of a weight file gives what initialising
 * everything would have given. `seed` is a whole number from 0 to 2^53 - 1.
 *
 * @throws 'input' when the seed is none, or a parameter's role is unknown.
 */
export function initialise(parameters: readonly ParameterInfo[], seed: number): Map<string, Float32Array> {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new FaceNetError('input', `seed: must be a whole number from 0 to 2^53 - 1, got ${seed}. Choose another.`);
  }
  return new Map(
    parameters.map(({ name, shape, role }) => {
      const values = new Float32Array(size(shape));
      if (role === 'weight') fillNormal(values, seed, streamOf(name), Math.sqrt(2 / size(shape.slice(0, -1))));
      else if (role === 'gamma' || role === 'variance') values.fill(1);
      else if (role === 'slope') values.fill(0.25);
      else if (role !== 'bias' && role !== 'beta' && role !== 'mean') {
        throw new FaceNetError(
          'input',
          `initialise: ${name} must be a weight, bias, gamma, beta, mean, variance or slope, got ${role}.`,
        );
      }
      return [name, values] as const;
    }),
  );
}

/** FNV-1a of a name: parameters draw from streams of their own. */
export function streamOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Words are drawn in the order of the class Philox of this seed and stream; word w becomes the normal of ((w >>> 8) + 1/2) / 2^24. */
function fillNormal(values: Float32Array, seed: number, stream: number, deviation: number): void {
  const words = new Uint32Array(4096);
  for (let start = 0; start < values.length; start += words.length) {
    fillWords(words, seed, stream, start / 4);
    const count = Math.min(words.length, values.length - start);
    for (let i = 0; i < count; i++)
      values[start + i] = deviation * normalQuantile(((words[i] as number) >>> 8) * 2 ** -24 + 2 ** -25);
  }
}

/**
 * Philox4x32-10 blocks from `block` on, four words each: philox4x32 of src/graph/philox.ts for millions of words, without an
 * array a block and with 64-bit products in float64 pieces below 2^49.
 */
function fillWords(words: Uint32Array, seed: number, stream: number, block: number): void {
  const keyLow = seed >>> 0;
  const keyHigh = Math.floor(seed / 4294967296);
  for (let i = 0; i < words.length; i += 4) {
    let c0 = (block + i / 4) >>> 0;
    let c1 = 0;
    let c2 = stream;
    let c3 = 0;
    let k0 = keyLow;
    let k1 = keyHigh;
    for (let round = 0; round < 10; round++) {
      const high0 = ((c0 * 0xd251 + (((c0 * 0x1f53) / 65536) >>> 0)) / 65536) >>> 0;
      const high1 = ((c2 * 0xcd9e + (((c2 * 0x8d57) / 65536) >>> 0)) / 65536) >>> 0;
      const low0 = Math.imul(c0, 0xd2511f53);
      const low1 = Math.imul(c2, 0xcd9e8d57);
      c0 = (high1 ^ c1 ^ k0) >>> 0;
      c1 = low1;
      c2 = (high0 ^ c3 ^ k1) >>> 0;
      c3 = low0;
      k0 = (k0 + 0x9e3779b9) | 0;
      k1 = (k1 + 0xbb67ae85) | 0;
    }
    words[i] = c0;
    words[i + 1] = c1;
    words[i + 2] = c2;
    words[i + 3] = c3;
  }
}

/**
 * The standard normal's quantile of p in [2^-25, 1 - 2^-25]: the x below which it falls with probability p. Only
 * additions, multiplications, divisions and roots, so that every runtime gives the same bits.
 *
 * Source: Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37 (1988), PPND16;
 * relative error about 1e-16, here limited by float64.
 */
export function normalQuantile(p: number): number {
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    // biome-ignore format: two polynomials of degree seven
    return q * (((((((2509.0809287301226727 * r + 33430.575583588128105) * r + 67265.770927008700853) * r + 45921.953931549871457) * r +
      13731.693765509461125) * r + 1971.5909503065514427) * r + 133.14166789178437745) * r + 3.387132872796366608) /
      (((((((5226.495278852854561 * r + 28729.085735721942674) * r + 39307.89580009271061) * r + 21213.794301586595867) * r +
      5394.1960214247511077) * r + 687.1870074920579083) * r + 42.313330701600911252) * r + 1);
  }
  const r = Math.sqrt(-logarithm(q < 0 ? p : 1 - p)) - 1.6;
  // biome-ignore format: two polynomials of degree seven
  const x = (((((((7.7454501427834140764e-4 * r + 0.0227238449892691845833) * r + 0.24178072517745061177) * r + 1.27045825245236838258) * r +
    3.64784832476320460504) * r + 5.7694972214606914055) * r + 4.6303378461565452959) * r + 1.42343711074968357734) /
    (((((((1.05075007164441684324e-9 * r + 5.475938084995344946e-4) * r + 0.0151986665636164571966) * r + 0.14810397642748007459) * r +
    0.68976733498510000455) * r + 1.6763848301838038494) * r + 2.05319162663775882187) * r + 1);
  return q < 0 ? -x : x;
}

/** Natural logarithm of x in (0, 1], without Math.log, whose last bits differ between runtimes: 2 artanh((m - 1) / (m + 1)), x = m / 2^n. */
function logarithm(x: number): number {
  let mantissa = x;
  let halvings = 0;
  while (mantissa < Math.SQRT1_2) {
    mantissa *= 2;
    halvings++;
  }
  const s = (mantissa - 1) / (mantissa + 1);
  const z = s * s; // at most 0.0295: the next term is below 2^-60
  // biome-ignore format: 1 + z / 3 + z^2 / 5 + ...
  const series = 1 + z * (0.3333333333333333 + z * (0.2 + z * (0.14285714285714285 + z * (0.1111111111111111 + z * (0.09090909090909091 +
    z * (0.07692307692307693 + z * (0.06666666666666667 + z * (0.058823529411764705 + z * (0.05263157894736842 + z * 0.047619047619047616)))))))));
  return 2 * s * series - halvings * Math.LN2;
}
