import { FaceNetError } from '../errors.ts';
import { AverageLinkage } from './clustering/average-linkage.ts';
import { type Merge, mergeByChains, type NearMiss } from './clustering/chain.ts';
import { chineseWhispers } from './clustering/chinese-whispers.ts';
import { CompleteLinkage } from './clustering/complete-linkage.ts';
import { type ConstraintOptions, Units } from './clustering/constraints.ts';
import { dbscan } from './clustering/dbscan.ts';
import { type LinkageName, MatrixLinkage } from './clustering/matrix-linkage.ts';
import { badDistance, type NeighbourGraph, neighbourGraph, type WalkOptions } from './clustering/neighbour-graph.ts';
import { decisiveUpTo, nearlyJoined, nearlySplit, type UncertainPair, uncertainLinks } from './clustering/questions.ts';
import { mergeByNearestPairs } from './clustering/single-linkage.ts';
import { checkUnitVectors, type DistanceRows, hostRows, largestMatrixBytes, type VectorSet } from './distance.ts';

export interface ClusterOptions extends ConstraintOptions, WalkOptions {
  /** Squared distance up to which faces or groups join; take it from an operating point. */
  readonly threshold: number;
  /** 'agglomerative' by default. */
  readonly method?: 'agglomerative' | 'chinese-whispers' | 'dbscan';
  /** For 'agglomerative': 'average' by default. */
  readonly linkage?: LinkageName;
  /** Smaller groups are dissolved: their faces are in no group. 1 by default. Groups of `previous` stay. */
  readonly minSize?: number;
  /** For 'dbscan': faces within the threshold, itself counted, that make a face a core. 3 by default. */
  readonly minPoints?: number;
  /** For 'chinese-whispers'. */
  readonly seed?: number;
  /** At most so many uncertain pairs are given; 100 by default. */
  readonly uncertainLimit?: number;
  /** Where distances between faces come from; float64 differences on the host by default. Those above decisiveUpTo(threshold) need not be exact. */
  readonly rows?: DistanceRows;
}

export interface Clustering {
  /** Group number of each face, -1 for a face in no group. New groups are numbered in the order of their first face. */
  readonly groups: Int32Array;
  /** How many groups there are. */
  readonly count: number;
  /** For each group number the face nearest to all others of the group (of equals the first); -1 for a number that no group has any more. */
  readonly representatives: number[];
  /** Faces to ask the user about, those nearest to the threshold first. */
  readonly uncertain: UncertainPair[];
}

/** The most pairs of faces that the methods that need them hold: 128 MiB. */
const largestGraph = 8 * 2 ** 20;
/** The most that average linkage holds to search faster; above it searches through all clusters. */
const largestAverageGraph = 2 ** 20;

/**
 * Groups faces. Equal input and options give equal groups: ties are broken by the order of the faces, chance comes from the seed.
 * Average linkage takes O(N D) memory and at most a million pairs beside; the other methods hold the pairs within the threshold (at most 8 million, else 'memory').
 * Throws 'input' for rows that are no unit vectors and for options out of range, 'aborted' on a signal.
 */
export async function clusterVectors(vectors: VectorSet, options: ClusterOptions): Promise<Clustering> {
  checkUnitVectors(vectors);
  const { data, count, dimensions } = vectors;
  // The sum of |x - y|^2 over the group's y is n |x|^2 - 2 x . sum and a constant.
  const nearestToSum = (faces: readonly number[]): number => {
    const sum = new Float64Array(dimensions);
    for (const face of faces) for (let k = 0; k < dimensions; k++) sum[k]! += data[face * dimensions + k]!;
    let best = -1;
    let least = Number.POSITIVE_INFINITY;
    for (const face of faces) {
      let cost = 0;
      for (let k = face * dimensions, m = 0; m < dimensions; k++, m++)
        cost += data[k]! * (data[k]! * faces.length - 2 * sum[m]!);
      if (cost < least - 1e-12 * faces.length) [best, least] = [face, cost];
    }
    return best;
  };
  const rows = options.rows ?? hostRows(vectors);
  return cluster(count, options, nearestToSum, rows, (units, graph) => new AverageLinkage(vectors, units, graph));
}

/**
 * The same for a matrix of squared distances (n x n, symmetric, zeros on the diagonal; at most 64 MiB). Throws 'input' naming the pair for
 * a distance that is not finite, negative or not symmetric.
 */
export async function clusterDistances(
  matrix: ArrayLike<number>,
  count: number,
  options: ClusterOptions,
): Promise<Clustering> {
  checkMatrix(matrix, count);
  const medoid = (faces: readonly number[]): number => {
    const sums = faces.map((face) => faces.reduce((sum, other) => sum + matrix[face * count + other]!, 0));
    return faces[sums.reduce((best, sum, i) => (sum < sums[best]! ? i : best), 0)]!;
  };
  const rows: DistanceRows = (first, last) =>
    Array.prototype.slice.call(matrix, first * count, last * count) as number[];
  return cluster(count, options, medoid, rows, (units) => new MatrixLinkage(matrix, count, units, 'average'));
}

/** All merges of agglomerative clustering on a matrix, from low to high: what a dendrogram is drawn from. */
export async function linkageTree(matrix: ArrayLike<number>, count: number, linkage: LinkageName): Promise<Merge[]> {
  checkMatrix(matrix, count);
  const units = new Units(count, {});
  const { merges } = await mergeByChains(units, new MatrixLinkage(matrix, count, units, linkage), Number.MAX_VALUE);
  return merges.sort((x, y) => x.height - y.height);
}

async function cluster(
  count: number,
  options: ClusterOptions,
  best: (faces: readonly number[]) => number,
  rows: DistanceRows,
  average: (units: Units, graph: NeighbourGraph | null) => AverageLinkage | MatrixLinkage,
): Promise<Clustering> {
  const {
    threshold,
    method = 'agglomerative',
    linkage = 'average',
    minSize = 1,
    minPoints = 3,
    seed = 1,
    uncertainLimit = 100,
  } = options;
  checkOptions({ threshold, method, linkage, minSize, minPoints, uncertainLimit });
  const units = new Units(count, options);
  const limit = decisiveUpTo(threshold);
  let found: { merges: Merge[]; misses: NearMiss[] } = { merges: [], misses: [] };
  let links: UncertainPair[] = [];
  let inside: readonly boolean[] | null = null;
  if (method === 'agglomerative' && linkage === 'average') {
    const near = await neighbourGraph(count, rows, limit, largestAverageGraph, options);
    found = await mergeByChains(units, average(units, near), threshold, options);
  } else {
    const near = await neighbourGraph(count, rows, limit, largestGraph, options);
    if (!near) {
      throw new FaceNetError(
        'memory',
        `clustering: at most ${largestGraph} pairs of faces may lie within ${limit}, got more. Lower the threshold, or use average linkage, which can do without pairs.`,
      );
    }
    if (method === 'chinese-whispers') chineseWhispers(near, units, threshold, seed);
    else if (method === 'dbscan') inside = dbscan(near, units, threshold, minPoints);
    else if (linkage === 'complete')
      found = await mergeByChains(units, new CompleteLinkage(near, units), threshold, options);
    else found.merges = mergeByNearestPairs(near, units, threshold);
    if (method !== 'agglomerative' || linkage === 'single')
      links = uncertainLinks(near, units, threshold, method !== 'agglomerative');
  }
  const result = numbered(count, units, options, minSize, best, inside);
  const standsFor = (root: number): number => best(result.members.get(root)!);
  const uncertain = [
    ...nearlySplit(found.merges, units, threshold, best, uncertainLimit),
    ...nearlyJoined(found.misses, units, threshold, standsFor, uncertainLimit),
    ...links,
  ];
  uncertain.sort(
    (x, y) => Math.abs(x.distance - threshold) - Math.abs(y.distance - threshold) || x.a - y.a || x.b - y.b,
  );
  return {
    groups: result.groups,
    count: result.count,
    representatives: result.representatives,
    uncertain: uncertain.slice(0, uncertainLimit),
  };
}

/** Gives the final units their group numbers. */
function numbered(
  count: number,
  units: Units,
  options: ClusterOptions,
  minSize: number,
  best: (faces: readonly number[]) => number,
  inside: readonly boolean[] | null,
) {
  const members = new Map<number, number[]>();
  const unitSizes = new Uint32Array(units.count);
  for (let face = 0; face < count; face++) {
    const unit = units.ofFace[face]!;
    unitSizes[unit]!++;
    const root = units.find(unit);
    const faces = members.get(root);
    if (faces) faces.push(face);
    else members.set(root, [face]);
  }
  const groups = new Int32Array(count).fill(-1);
  const representatives: number[] = [];
  let next = 0;
  for (let face = 0; face < (options.previous?.length ?? 0); face++)
    next = Math.max(next, options.previous![face]! + 1);
  let groupCount = 0;
  // Roots come in the order of their first face.
  for (const [root, faces] of members) {
    const owner = units.owner[root]!;
    // Noise of DBSCAN is no group, but what the user put together is.
    const noise = inside !== null && !faces.some((face) => inside[face] || unitSizes[units.ofFace[face]!]! > 1);
    if (owner < 0 && (faces.length < minSize || noise)) continue;
    const number = owner >= 0 ? owner : next++;
    for (const face of faces) groups[face] = number;
    while (representatives.length <= number) representatives.push(-1);
    representatives[number] = best(faces);
    groupCount++;
  }
  return { groups, count: groupCount, representatives, members };
}

function checkOptions(options: {
  threshold: number;
  method: string;
  linkage: string;
  minSize: number;
  minPoints: number;
  uncertainLimit: number;
}): void {
  const { threshold, method, linkage, minSize, minPoints, uncertainLimit } = options;
  if (!(threshold >= 0 && Number.isFinite(threshold))) {
    throw new FaceNetError(
      'input',
      `clustering: threshold must be a squared distance of 0 or more, got ${threshold}. Take it from an operating point.`,
    );
  }
  if (!['agglomerative', 'chinese-whispers', 'dbscan'].includes(method)) {
    throw new FaceNetError(
      'input',
      `clustering: method must be agglomerative, chinese-whispers or dbscan, got ${method}. Choose one of these.`,
    );
  }
  if (!['average', 'complete', 'single'].includes(linkage)) {
    throw new FaceNetError(
      'input',
      `clustering: linkage must be average, complete or single, got ${linkage}. Choose one of these.`,
    );
  }
  for (const [name, value, least] of [
    ['minSize', minSize, 1],
    ['minPoints', minPoints, 1],
    ['uncertainLimit', uncertainLimit, 0],
  ] as const) {
    if (!Number.isInteger(value) || value < least)
      throw new FaceNetError(
        'input',
        `clustering: ${name} must be a whole number from ${least}, got ${value}. Leave it out for the default.`,
      );
  }
}

function checkMatrix(matrix: ArrayLike<number>, count: number): void {
  if (!Number.isInteger(count) || count < 0 || matrix.length !== count * count) {
    throw new FaceNetError(
      'input',
      `distance matrix: must be n x n, got ${matrix.length} values for ${count} faces. Pass distanceMatrix() of the faces.`,
    );
  }
  if (matrix.length * 8 > largestMatrixBytes) {
    throw new FaceNetError(
      'memory',
      `distance matrix: must stay within ${largestMatrixBytes} bytes, got ${matrix.length * 8}. Cluster the embeddings themselves.`,
    );
  }
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < count; j++) {
      const distance = matrix[i * count + j]!;
      if (!(distance >= 0 && Number.isFinite(distance)) || (i === j && distance !== 0))
        throw badDistance(distance, i, j);
      if (distance !== matrix[j * count + i]!) {
        throw new FaceNetError(
          'input',
          `distance matrix: must be symmetric, got ${distance} and ${matrix[j * count + i]} between faces ${i} and ${j}. Pass distanceMatrix() of the faces.`,
          { index: i },
        );
      }
    }
  }
}
