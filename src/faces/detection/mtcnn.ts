/**
 * MTCNN as davidsandberg/facenet and facenet-pytorch run it (Zhang et al. 2016): a pyramid of ever smaller pictures through PNet, what it
 * proposes through RNet, what is left through ONet, which also gives five points.
 *
 * The photo goes to the device once; every picture that a network looks at is cut out of it there (areaCrop), by a row of twelve numbers.
 * PNet has no padding, so that a level of the pyramid may be looked at in tiles: they overlap by what a cell sees, and each cell belongs to one.
 * So a level of any size takes the same three plans and the same memory, and tiles of different levels share a run.
 *
 * Boxes are kept as both references keep them: float64, corners are pixels counted from 1 that belong to the box.
 */
import { Graph, type Value } from '../../graph/graph.ts';
import { BATCH } from '../../graph/shape.ts';
import {
  MTCNN_PIXELS,
  mtcnnParameters,
  ONET_SIZE,
  onet,
  PNET_CELL,
  PNET_STRIDE,
  PNET_WIDE,
  pnet,
  RNET_SIZE,
  rnet,
  widePnet,
} from '../../networks/mtcnn.ts';
import { AREA_PLACEMENT_COLUMNS, areaCrop } from '../../ops/areaCrop.ts';
import { Plan } from '../../plan/plan.ts';
import type { Backend } from '../../plan/runner.ts';
import { Store } from '../../plan/store.ts';
import type { Point } from '../affine-map.ts';
import { blockMeans, type Pixels } from '../preprocessing.ts';
import {
  type DetectedFace,
  type DetectionModel,
  type DetectionModelFactory,
  type DetectionOptions,
  type DetectionWeights,
  setWeights,
  throwIfAborted,
  weightOf,
} from './detection.ts';
import { suppress } from './suppression.ts';

/** Each level of the pyramid is this much smaller than the one before: half the area. */
const FACTOR = 0.709;

/** Scores that boxes need to pass the networks. */
const PASS = { pnet: 0.6, rnet: 0.7, onet: 0.7 } as const;

/** Smallest face looked for by itself: 20 pixels, and a 48th of the longer side of large photos. */
const SMALLEST_FACE = 20;
const SMALLEST_SHARE = 48;

/** Cells a side of a tile, and tiles a run: a level takes the tiles that waste least. */
const TILES = [
  { cells: 24, batch: 32 },
  { cells: 48, batch: 12 },
  { cells: 96, batch: 4 },
] as const;

const RNET_BATCH = 64;
const ONET_BATCH = 16;

/** Most boxes of one level that are compared, and most that go on to RNet, the best: far more than photos give, so that no picture takes for ever. */
const MOST_OF_A_LEVEL = 8192;
const MOST_PROPOSALS = 4096;

/** Bytes of a photo on the device, at most; a larger one is averaged over blocks of pixels first. */
const MOST_BYTES = 2 ** 26;
const LEAST_BYTES = 2 ** 20;

/** The name under which the store keeps the photo. */
const PHOTO = 'photo';

const tileSide = (cells: number): number => PNET_STRIDE * cells + PNET_CELL - PNET_STRIDE;

/** A box on its way through the networks: corners as pixels that belong to it, counted from 1. */
interface Candidate {
  readonly box: readonly [x1: number, y1: number, x2: number, y2: number];
  readonly score: number;
  /** What the network would move the corners by, in shares of the box. */
  readonly offsets: readonly number[];
  readonly points?: readonly Point[];
}

/** A photo on the device. */
interface Uploaded {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
}

/** A size of the photo at which PNet looks at it. */
interface Level {
  readonly scale: number;
  readonly columns: number;
  readonly rows: number;
}

/** The pyramid: the smallest face fills a cell of the first level, and the last one still holds a cell. */
export function mtcnnLevels({ width, height }: { width: number; height: number }, minFace: number): Level[] {
  const levels: Level[] = [];
  const first = PNET_CELL / minFace;
  for (let n = 0, side = Math.min(width, height) * first; side >= PNET_CELL; n++, side *= FACTOR) {
    const scale = first * FACTOR ** n;
    levels.push({ scale, columns: Math.floor(width * scale + 1), rows: Math.floor(height * scale + 1) });
  }
  return levels;
}

/** How many cells of PNet a line of pixels has. */
const cellsOf = (pixels: number): number => Math.ceil((pixels - PNET_STRIDE) / PNET_STRIDE) - PNET_CELL / 2 + 2;

/** Places of the tiles of a level, in cells, and which size they have. */
function tilesOf({ columns, rows }: Level): { readonly size: number; readonly places: readonly Point[] } {
  const [across, down] = [cellsOf(columns), cellsOf(rows)];
  const count = (cells: number) => Math.ceil(across / cells) * Math.ceil(down / cells);
  const work = TILES.map(({ cells }) => count(cells) * tileSide(cells) ** 2);
  const size = work.indexOf(Math.min(...work));
  const { cells } = TILES[size] as (typeof TILES)[number];
  const places: Point[] = [];
  for (let y = 0; y < down; y += cells) for (let x = 0; x < across; x += cells) places.push([x, y]);
  return { size, places };
}

/** The boxes moved as the network wants, `inclusive` of the last pixel or, as PNet's are, not. */
function moved({ box: [x1, y1, x2, y2], offsets, ...rest }: Candidate, inclusive: 0 | 1): Candidate {
  const [a = 0, b = 0, c = 0, d = 0] = offsets;
  const [width, height] = [x2 - x1 + inclusive, y2 - y1 + inclusive];
  return { ...rest, offsets, box: [x1 + a * width, y1 + b * height, x2 + c * width, y2 + d * height] };
}

/** The square of the longer side about the middle of the box. */
function squared({ box: [x1, y1, x2, y2], ...rest }: Candidate): Candidate {
  const side = Math.max(x2 - x1, y2 - y1);
  const [left, top] = [x1 + (x2 - x1) / 2 - side / 2, y1 + (y2 - y1) / 2 - side / 2];
  return { ...rest, box: [left, top, left + side, top + side] };
}

/**
 * The boxes that non-maximum suppression keeps, by falling score. Of equal scores, which are many where softmax ends at 1, the later box is taken
 * first, as davidsandberg/facenet does, which takes boxes from the end of a sorted list.
 */
function kept(candidates: readonly Candidate[], threshold: number, by: 'union' | 'minimum' = 'union'): Candidate[] {
  const ordered = [...candidates].reverse();
  const boxes = ordered.flatMap(({ box }) => box);
  const scores = ordered.map(({ score }) => score);
  return suppress({ boxes, scores }, { threshold, by, inclusive: 1 }).map((index) => ordered[index] as Candidate);
}

/** The best `most`, in the order they came in. */
function best(candidates: readonly Candidate[], most: number): readonly Candidate[] {
  if (candidates.length <= most) return candidates;
  const order = candidates.map((_, index) => index);
  order.sort((a, b) => (candidates[b] as Candidate).score - (candidates[a] as Candidate).score || a - b);
  return order
    .slice(0, most)
    .sort((a, b) => a - b)
    .map((index) => candidates[index] as Candidate);
}

/** The plans of the networks, and the store with their weights and the photo they look at. */
interface Networks {
  readonly store: Store;
  /** Bytes that the photo may take. */
  readonly capacity: number;
  readonly pnet: readonly Plan[];
  /** See `behindAll`. */
  readonly behind: number;
  readonly rnet: Plan;
  readonly onet: Plan;
}

function withCrops(capacity: number, size: number, build: (crops: Value, graph: Graph) => Record<string, Value>) {
  const graph = new Graph();
  const photo = graph.parameter(PHOTO, [capacity / 4, 1]);
  const placements = graph.input('placements', [BATCH, AREA_PLACEMENT_COLUMNS]);
  const crops = graph.scope('crop', () => areaCrop(photo, placements, { height: size, width: size, ...MTCNN_PIXELS }));
  return { graph, outputs: build(crops, graph) };
}

async function openNetworks(
  backend: Backend,
  weights: DetectionWeights,
  capacity: number,
  source: string,
): Promise<Networks> {
  const graphs = {
    pnet: TILES.map(({ cells }) => {
      const side = tileSide(cells);
      return withCrops(capacity, side, (crops, graph) => ({
        ...pnet(crops, graph.input('end', [BATCH, side - 2, side - 2, 1]), PNET_WIDE),
      }));
    }),
    rnet: withCrops(capacity, RNET_SIZE, (crops) => ({ ...rnet(crops) })),
    onet: withCrops(capacity, ONET_SIZE, (crops) => ({ ...onet(crops) })),
  };
  const file = { network: 'mtcnn', source };
  for (const [name, shape] of mtcnnParameters()) weightOf(weights, name, shape, file);
  const store = new Store(backend);
  const plans: Plan[] = [];
  try {
    const [first] = graphs.pnet;
    setWeights(
      store,
      [first, graphs.rnet, graphs.onet]
        .flatMap((made) => made?.graph.parameters ?? [])
        .filter(({ name }) => name !== PHOTO),
      widePnet(weights),
      file,
    );
    store.define(PHOTO, [capacity / 4, 1]);
    const batches = [...TILES.map(({ batch }) => batch), RNET_BATCH, ONET_BATCH];
    for (const [index, { graph, outputs }] of [...graphs.pnet, graphs.rnet, graphs.onet].entries())
      plans.push(await Plan.create(graph, outputs, backend, store, { batchSize: batches[index] as number }));
    const [onetPlan, rnetPlan] = [plans.pop() as Plan, plans.pop() as Plan];
    return { store, capacity, pnet: plans, behind: behindAll(weights), rnet: rnetPlan, onet: onetPlan };
  } catch (error) {
    for (const plan of plans) plan.dispose();
    store.dispose();
    throw error;
  }
}

function close({ store, pnet: tiles, rnet: refine, onet: last }: Networks): void {
  for (const plan of [...tiles, refine, last]) plan.dispose();
  store.dispose();
}

class MtcnnModel implements DetectionModel {
  readonly name = 'mtcnn';
  readonly #backend: Backend;
  readonly #weights: DetectionWeights;
  readonly #source: string;
  #networks: Networks | undefined;

  constructor(backend: Backend, weights: DetectionWeights, source: string, networks: Networks) {
    this.#backend = backend;
    this.#weights = weights;
    this.#source = source;
    this.#networks = networks;
  }

  async detect(photo: Pixels, options: DetectionOptions, signal?: AbortSignal): Promise<DetectedFace[]> {
    throwIfAborted(signal);
    const { minScore = PASS.onet, limit } = options;
    const block = this.#block(photo);
    const asked = options.minFace ?? Math.max(SMALLEST_FACE, Math.max(photo.width, photo.height) / SMALLEST_SHARE);
    // Smaller ones than a cell of PNet there are none.
    const minFace = Math.max(PNET_CELL, asked / block);
    const levels = mtcnnLevels({ width: photo.width / block, height: photo.height / block }, minFace);
    if (levels.length === 0) return [];
    const uploaded = await this.#upload(photo, block);
    const proposed = await this.#propose(uploaded, levels, signal);
    const refined = await this.#refine(uploaded, proposed, signal);
    const faces = await this.#finish(uploaded, refined, minScore, signal);
    return faces.slice(0, limit).map(({ box: [x1, y1, x2, y2], score, points = [] }) => ({
      box: { x: x1 * block, y: y1 * block, width: (x2 - x1) * block, height: (y2 - y1) * block },
      score,
      // The middle of a block lies behind its first pixel.
      landmarks: points.map(([x, y]) => [x * block + (block - 1) / 2, y * block + (block - 1) / 2] as const),
    }));
  }

  async dispose(): Promise<void> {
    if (this.#networks) close(this.#networks);
    this.#networks = undefined;
  }

  /** Side of the blocks that a photo is averaged over to fit on the device; 1: as it is. */
  #block({ data, width, height }: Pixels): number {
    const most = Math.min(MOST_BYTES, 2 ** Math.floor(Math.log2(this.#backend.maxBufferBytes)));
    const bytes = data.length + 8;
    if (bytes <= most) return 1;
    let block = 2;
    while (Math.ceil(width / block) * Math.ceil(height / block) * 4 + 8 > most) block++;
    return block;
  }

  /** Puts the photo where the networks look for it; makes them anew where it needs more room than any before it. */
  async #upload(photo: Pixels, block: number): Promise<Uploaded> {
    const channels = photo.data.length / (photo.width * photo.height);
    const { bytes, columns, rows } =
      block === 1
        ? { bytes: photo.data, columns: photo.width, rows: photo.height }
        : blockMeans(photo, { left: 0, top: 0, right: photo.width, bottom: photo.height }, block);
    // areaCrop may read the word behind the last pixel.
    const needed = Math.ceil(bytes.length / 4) * 4 + 4;
    let networks = this.#networks as Networks;
    if (needed > networks.capacity) {
      close(networks);
      this.#networks = undefined;
      networks = await openNetworks(this.#backend, this.#weights, capacityFor(needed), this.#source);
      this.#networks = networks;
    }
    const [part] = networks.store.parts(PHOTO);
    const whole = Math.floor(bytes.length / 4) * 4;
    const { buffer } = part as NonNullable<typeof part>;
    this.#backend.write(buffer, 0, bytes.subarray(0, whole));
    if (whole < bytes.length) {
      const last = new Uint8Array(4);
      last.set(bytes.subarray(whole));
      this.#backend.write(buffer, whole, last);
    }
    return { width: columns, height: rows, channels };
  }

  /** What PNet proposes, moved and made square. */
  async #propose(photo: Uploaded, levels: readonly Level[], signal: AbortSignal | undefined): Promise<Candidate[]> {
    const { pnet: plans, behind } = this.#networks as Networks;
    const found: { readonly cell: number; readonly candidate: Candidate }[][] = levels.map(() => []);
    for (const [size, { cells, batch }] of TILES.entries()) {
      const tiles = levels.flatMap((level, index) => {
        const own = tilesOf(level);
        return own.size === size ? own.places.map((place) => ({ level, index, place })) : [];
      });
      for (let start = 0; start < tiles.length; start += batch) {
        const some = tiles.slice(start, start + batch);
        const placements = new Float32Array(some.length * AREA_PLACEMENT_COLUMNS);
        const side = tileSide(cells) - 2;
        const end = new Float32Array(some.length * side * side);
        some.forEach(({ level: { columns, rows }, place }, i) => {
          const [x, y] = [place[0] * PNET_STRIDE, place[1] * PNET_STRIDE];
          placements.set(
            placement(photo, [0, 0, photo.width, photo.height], [columns, rows], [x, y]),
            i * AREA_PLACEMENT_COLUMNS,
          );
          endAt(end.subarray(i * side * side, (i + 1) * side * side), side, columns - 2 - x, rows - 2 - y, behind);
        });
        const { probabilities, offsets } = await (plans[size] as Plan).run({ placements, end }, some.length);
        throwIfAborted(signal);
        some.forEach(({ level, index, place }, i) => {
          const from = i * cells * cells;
          readCells(
            probabilities as Float32Array,
            offsets as Float32Array,
            { from, cells, level, place },
            (candidate, cell) => found[index]?.push({ candidate, cell }),
          );
        });
      }
    }
    // Row by row, however the level was cut into tiles: of equal scores the order decides.
    const all = found.flatMap((list) => {
      const ordered = list.sort((a, b) => a.cell - b.cell).map(({ candidate }) => candidate);
      return kept(best(ordered, MOST_OF_A_LEVEL), 0.5);
    });
    return best(kept(all, 0.7), MOST_PROPOSALS).map((candidate) => squared(moved(candidate, 0)));
  }

  async #refine(
    photo: Uploaded,
    proposed: readonly Candidate[],
    signal: AbortSignal | undefined,
  ): Promise<Candidate[]> {
    const { rnet: plan } = this.#networks as Networks;
    const passed = await look(plan, RNET_SIZE, photo, proposed, PASS.rnet, signal);
    return kept(passed, 0.7).map((candidate) => squared(moved(candidate, 1)));
  }

  async #finish(
    photo: Uploaded,
    refined: readonly Candidate[],
    minScore: number,
    signal: AbortSignal | undefined,
  ): Promise<Candidate[]> {
    const { onet: plan } = this.#networks as Networks;
    const passed = await look(plan, ONET_SIZE, photo, refined, minScore, signal);
    return kept(
      passed.map((candidate) => moved(candidate, 1)),
      0.7,
      'minimum',
    );
  }
}

const capacityFor = (bytes: number): number => Math.max(LEAST_BYTES, 2 ** Math.ceil(Math.log2(bytes)));

/** A row of areaCrop's placements: the rectangle of the photo, the size it is shrunk to, the first pixel shown. */
function placement(
  { width, height, channels }: Uploaded,
  rectangle: readonly [left: number, top: number, width: number, height: number],
  size: readonly [columns: number, rows: number],
  shown: Point = [0, 0],
): number[] {
  return [...rectangle, ...size, ...shown, width, height, channels, 0];
}

/** Marks in `tile` [side, side] what the first layer of PNet makes of pixels behind a level's last: `behind` makes it too small to be the largest of a block. */
export function endAt(tile: Float32Array, side: number, columns: number, rows: number, behind: number): void {
  if (columns < side) for (let row = 0; row < side; row++) tile.fill(behind, row * side + columns, (row + 1) * side);
  if (rows < side) tile.fill(behind, rows * side);
}

/**
 * What lowers any answer of PNet's first layer below all that it can answer, and no more: convolutions that add and subtract neighbours
 * (Winograd's) round to what is largest among them, so that a number far below would spoil the last cells of a level.
 */
export function behindAll(weights: DetectionWeights): number {
  const [weight, bias, slope] = ['conv1/weight', 'conv1/bias', 'prelu1/slope'].map(
    (name) => weights.get(`pnet/${name}`)?.data ?? new Float32Array(),
  ) as [Float32Array, Float32Array, Float32Array];
  const most = bias.map(Math.abs);
  // Bytes are from -1 to 1 here.
  weight.forEach((value, index) => {
    most[index % most.length] = (most[index % most.length] as number) + Math.abs(value);
  });
  return -2 * Math.max(...most.map((value, channel) => value * Math.max(1, Math.abs(slope[channel] as number))));
}

/** The cells of a tile that PNet takes for faces, row by row, as boxes of the photo. Cells beyond the level's last are not read. */
function readCells(
  probabilities: Float32Array,
  offsets: Float32Array,
  { from, cells, level, place }: { from: number; cells: number; level: Level; place: Point },
  add: (candidate: Candidate, cell: number) => void,
): void {
  const { scale, columns, rows } = level;
  const across = Math.min(cells, cellsOf(columns) - place[0]);
  const down = Math.min(cells, cellsOf(rows) - place[1]);
  for (let row = 0; row < down; row++) {
    for (let column = 0; column < across; column++) {
      const at = from + row * cells + column;
      const score = probabilities[2 * at + 1] as number;
      if (!(score >= PASS.pnet)) continue;
      const [x, y] = [PNET_STRIDE * (place[0] + column), PNET_STRIDE * (place[1] + row)];
      const box = [x + 1, y + 1, x + PNET_CELL, y + PNET_CELL].map((side) => Math.trunc(side / scale));
      add(
        {
          box: box as unknown as Candidate['box'],
          score,
          offsets: offsets.slice(4 * at, 4 * at + 4) as unknown as readonly number[],
        },
        (place[1] + row) * cellsOf(columns) + place[0] + column,
      );
    }
  }
}

/** What a network says of boxes: those above the score, with its offsets and, of ONet, its points in pixels of the photo. */
async function look(
  plan: Plan,
  size: number,
  photo: Uploaded,
  candidates: readonly Candidate[],
  minScore: number,
  signal: AbortSignal | undefined,
): Promise<Candidate[]> {
  const passed: Candidate[] = [];
  for (let start = 0; start < candidates.length; start += plan.batchSize) {
    const some = candidates.slice(start, start + plan.batchSize);
    const placements = new Float32Array(some.length * AREA_PLACEMENT_COLUMNS);
    some.forEach(({ box }, i) => {
      placements.set(placement(photo, cut(box, photo), [size, size]), i * AREA_PLACEMENT_COLUMNS);
    });
    const { probabilities, offsets, points } = await plan.run({ placements }, some.length);
    throwIfAborted(signal);
    some.forEach(({ box }, i) => {
      const score = probabilities?.[2 * i + 1] as number;
      if (!(score > minScore)) return;
      const own = points?.subarray(10 * i, 10 * i + 10);
      passed.push({
        box,
        score,
        offsets: Array.from(offsets?.subarray(4 * i, 4 * i + 4) ?? []),
        ...(own && { points: pointsOf(own, box) }),
      });
    });
  }
  return passed;
}

/** The whole pixels of a box that lie in the photo, at least one: a box over its edge is cut there, and stretched. */
function cut([x1, y1, x2, y2]: Candidate['box'], { width, height }: Uploaded) {
  const line = (from: number, to: number, most: number): [first: number, count: number] => {
    const first = Math.min(Math.max(Math.trunc(from), 1), most);
    return [first - 1, Math.max(1, Math.min(Math.trunc(to), most) - first + 1)];
  };
  const [left, columns] = line(x1, x2, width);
  const [top, rows] = line(y1, y2, height);
  return [left, top, columns, rows] as const;
}

/** Five x, then five y, in shares of the box, counted from its first pixel. */
function pointsOf(shares: Float32Array, [x1, y1, x2, y2]: Candidate['box']): Point[] {
  const [width, height] = [x2 - x1 + 1, y2 - y1 + 1];
  return Array.from({ length: 5 }, (_, i) => [
    (shares[i] as number) * width + x1 - 1,
    (shares[i + 5] as number) * height + y1 - 1,
  ]);
}

/**
 * MTCNN. `minFace` (default: 20 pixels, a 48th of the longer side of photos above 960) decides the largest level of the pyramid, and with it
 * the time; faces down to 12 pixels can be asked for. Boxes are the reference's: corner pixels counted from 1, four numbers a box.
 *
 * A photo takes its bytes on the device, 64 MiB at most (a larger one is averaged over blocks of pixels first), and the networks the same memory
 * whatever the photo. Of a level the best 8,192 boxes are compared, and the best 4,096 of all go on.
 * @throws FaceNetError 'model' where weights are missing or misshapen.
 */
export const createMtcnn: DetectionModelFactory = async (weights, backend, { source }) =>
  new MtcnnModel(backend, weights, source, await openNetworks(backend, weights, LEAST_BYTES, source));
