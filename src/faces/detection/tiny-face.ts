import { Graph, type Value } from '../../graph/graph.ts';
import { BATCH } from '../../graph/shape.ts';
import { LANDMARKS_COUNT, LANDMARKS_SIZE, landmarks68, landmarksMean } from '../../networks/landmarks-68.ts';
import {
  TINY_FACE_BOX,
  TINY_FACE_CELL,
  TINY_FACE_NUMBERS,
  tinyFace,
  tinyFaceAnchors,
  tinyFaceMean,
  wideTinyFace,
} from '../../networks/tiny-face.ts';
import { Plan } from '../../plan/plan.ts';
import type { Backend } from '../../plan/runner.ts';
import { Store } from '../../plan/store.ts';
import type { Point } from '../affine-map.ts';
import { fiveOfSixtyEight } from '../landmarks.ts';
import type { Pixels } from '../preprocessing.ts';
import {
  type DetectedFace,
  type DetectionModel,
  type DetectionModelFactory,
  type DetectionOptions,
  type DetectionWeights,
  setWeights,
  throwIfAborted,
} from './detection.ts';
import { type Region, sampleSquare } from './square-sampling.ts';
import { suppress } from './suppression.ts';

/** Prefixes of the two networks' weights in the file. */
export const TINY_FACE_PREFIX = { detector: 'detector/', landmarks: 'landmarks/' } as const;

/** Side of the picture that the detector looks at unless a smallest face is asked for, and the largest: pixels. */
const DEFAULT_SIZE = 416;
const LARGEST_SIZE = 1024;
const SMALLEST_SIZE = 128;

/** Shorter side of a face that the detector still finds, in pixels of what it looks at. */
const SMALLEST_FACE = 40;

/** Scores above it are faces. The original's default is 0.5, at which it takes the gap between two heads of its own sample photos for one. */
const MIN_SCORE = 0.6;

/** Boxes that overlap a better one by more are dropped: the original's. */
const OVERLAP = 0.4;

/** Faces whose points are found in one run. */
const LANDMARK_BATCH = 8;

type Box = DetectedFace['box'];

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** Side of the square picture for a photo: the longer side of the photo fills it. */
export function tinyFaceSize({ width, height }: Pixels, minFace: number | undefined): number {
  if (minFace === undefined) return DEFAULT_SIZE;
  const wanted = (Math.max(width, height) * SMALLEST_FACE) / minFace;
  const cells = Math.ceil(wanted / TINY_FACE_CELL);
  return Math.max(SMALLEST_SIZE, Math.min(LARGEST_SIZE, cells * TINY_FACE_CELL));
}

/**
 * Boxes above a score, in the order of cells (row-major) and anchors. Of a cell and anchor, `output` holds x, y, width, height and score: the
 * centre lies sigmoid(x), sigmoid(y) of a cell behind the cell's corner, the size is exp(width), exp(height) times the anchor's.
 * @param output [1, cells, cells, 25 or more]. @param scale pixels of the photo in a cell, across and down.
 */
export function readTinyFaceBoxes(
  output: Float32Array,
  cells: number,
  scale: readonly [x: number, y: number],
  minScore: number,
): { readonly box: Box; readonly score: number }[] {
  const found: { box: Box; score: number }[] = [];
  const numbers = output.length / (cells * cells);
  for (let row = 0; row < cells; row++) {
    for (let column = 0; column < cells; column++) {
      let at = (row * cells + column) * numbers;
      for (const [anchorWidth, anchorHeight] of tinyFaceAnchors) {
        const score = sigmoid(output[at + 4] as number);
        if (score > minScore) {
          const width = Math.exp(output[at + 2] as number) * anchorWidth * scale[0];
          const height = Math.exp(output[at + 3] as number) * anchorHeight * scale[1];
          const x = (column + sigmoid(output[at] as number)) * scale[0] - width / 2;
          const y = (row + sigmoid(output[at + 1] as number)) * scale[1] - height / 2;
          if (width > 0 && height > 0 && Number.isFinite(width) && Number.isFinite(height))
            found.push({ box: { x, y, width, height }, score });
        }
        at += TINY_FACE_BOX;
      }
    }
  }
  return found;
}

/** The whole pixels of a box that lie in the photo: corner and size rounded down, as the original cuts; undefined where there are none. */
function cut({ x, y, width, height }: Box, photo: Pixels): Region | undefined {
  const left = Math.max(x, 0);
  const top = Math.max(y, 0);
  const region = {
    x: Math.floor(left),
    y: Math.floor(top),
    width: Math.floor(Math.min(x + width - left, photo.width - left)),
    height: Math.floor(Math.min(y + height - top, photo.height - top)),
  };
  return region.width > 0 && region.height > 0 ? region : undefined;
}

class TinyFaceModel implements DetectionModel {
  readonly name = 'tiny-face';
  readonly #store: Store;
  readonly #landmarks: Plan;
  /** Plans of the detector by size; at most the default's and one other. */
  readonly #detectors = new Map<number, Plan>();

  constructor(store: Store, landmarks: Plan, detector: Plan) {
    this.#store = store;
    this.#landmarks = landmarks;
    this.#detectors.set(DEFAULT_SIZE, detector);
  }

  static async create(weights: DetectionWeights, backend: Backend, source: string): Promise<TinyFaceModel> {
    const graph = new Graph();
    const x = graph.input('x', [BATCH, LANDMARKS_SIZE, LANDMARKS_SIZE, 3]);
    const points = landmarks68(x, TINY_FACE_PREFIX.landmarks);
    const store = new Store(backend);
    const plans: Plan[] = [];
    try {
      const parameters = [...graph.parameters, ...detectorGraph(DEFAULT_SIZE).graph.parameters];
      setWeights(store, parameters, wideTinyFace(weights, TINY_FACE_PREFIX.detector), { network: 'tiny-face', source });
      plans.push(await Plan.create(graph, { points }, backend, store, { batchSize: LANDMARK_BATCH }));
      plans.push(await detectorPlan(store, DEFAULT_SIZE));
      return new TinyFaceModel(store, plans[0] as Plan, plans[1] as Plan);
    } catch (error) {
      for (const plan of plans) plan.dispose();
      store.dispose();
      throw error;
    }
  }

  async detect(photo: Pixels, options: DetectionOptions, signal?: AbortSignal): Promise<DetectedFace[]> {
    const { minFace, minScore = MIN_SCORE, limit } = options;
    throwIfAborted(signal);
    const size = tinyFaceSize(photo, minFace);
    const whole = { x: 0, y: 0, width: photo.width, height: photo.height };
    const picture = new Float32Array(size * size * 3);
    sampleSquare(photo, whole, { size, padding: 'behind', mean: tinyFaceMean }, picture);
    const detector = await this.#detector(size);
    const { boxes: output } = await detector.run({ x: picture }, 1);
    throwIfAborted(signal);
    const cells = size / TINY_FACE_CELL;
    // The original rounds the photo's size within the square to whole pixels, and stretches boxes accordingly.
    const shrink = size / Math.max(photo.width, photo.height);
    const scale = [photo.width, photo.height].map(
      (side) => ((size / Math.max(1, Math.round(side * shrink))) * side) / cells,
    );
    const found = readTinyFaceBoxes(output as Float32Array, cells, scale as [number, number], minScore).filter(
      ({ box }) => Math.min(box.width, box.height) >= (minFace ?? 0),
    );
    const kept = suppress(
      {
        boxes: found.flatMap(({ box: { x, y, width, height } }) => [x, y, x + width, y + height]),
        scores: found.map(({ score }) => score),
      },
      { threshold: OVERLAP },
    );
    const faces = kept.flatMap((index) => {
      const face = found[index] as (typeof found)[number];
      const region = cut(face.box, photo);
      return region ? [{ ...face, region }] : [];
    });
    return this.#withPoints(photo, faces.slice(0, limit), signal);
  }

  async #withPoints(
    photo: Pixels,
    faces: readonly { readonly box: Box; readonly score: number; readonly region: Region }[],
    signal: AbortSignal | undefined,
  ): Promise<DetectedFace[]> {
    const each = LANDMARKS_SIZE * LANDMARKS_SIZE * 3;
    const done: DetectedFace[] = [];
    for (let start = 0; start < faces.length; start += LANDMARK_BATCH) {
      const batch = faces.slice(start, start + LANDMARK_BATCH);
      const x = new Float32Array(batch.length * each);
      batch.forEach(({ region }, index) => {
        sampleSquare(photo, region, { size: LANDMARKS_SIZE, padding: 'centred', mean: landmarksMean }, x, index * each);
      });
      const { points } = await this.#landmarks.run({ x }, batch.length);
      throwIfAborted(signal);
      batch.forEach(({ box, score, region }, index) => {
        const points68 = pointsOf((points as Float32Array).subarray(index * 2 * LANDMARKS_COUNT), region);
        done.push({ box, score, landmarks: fiveOfSixtyEight(points68), points68 });
      });
    }
    return done;
  }

  async #detector(size: number): Promise<Plan> {
    const known = this.#detectors.get(size);
    if (known) return known;
    for (const [other, plan] of this.#detectors) {
      if (other === DEFAULT_SIZE) continue;
      plan.dispose();
      this.#detectors.delete(other);
    }
    const made = await detectorPlan(this.#store, size);
    this.#detectors.set(size, made);
    return made;
  }

  async dispose(): Promise<void> {
    for (const plan of this.#detectors.values()) plan.dispose();
    this.#detectors.clear();
    this.#landmarks.dispose();
    this.#store.dispose();
  }
}

/** Fractions of the square that a region was filled up to, as pixels of the photo. */
function pointsOf(fractions: Float32Array, region: Region): Point[] {
  const side = Math.max(region.width, region.height);
  // Half of the black, not rounded: as the original takes it off.
  const left = (side - region.width) / 2;
  const top = (side - region.height) / 2;
  return Array.from({ length: LANDMARKS_COUNT }, (_, i) => [
    region.x + (fractions[2 * i] as number) * side - left,
    region.y + (fractions[2 * i + 1] as number) * side - top,
  ]);
}

function detectorGraph(size: number): { readonly graph: Graph; readonly boxes: Value } {
  const graph = new Graph();
  const x = graph.input('x', [BATCH, size, size, 3]);
  return { graph, boxes: tinyFace(x, TINY_FACE_PREFIX.detector, TINY_FACE_NUMBERS) };
}

function detectorPlan(store: Store, size: number): Promise<Plan> {
  const { graph, boxes } = detectorGraph(size);
  return Plan.create(graph, { boxes }, store.backend, store, { batchSize: 1 });
}

/**
 * The tiny face detector and the 68-point network of face-api.js, as @vladmandic/face-api 1.7.15 runs them: the whole photo in one square of
 * 416 pixels (more where `minFace` asks for it, at most 1,024), then the points of each box. Boxes and points are the original's, but for its
 * points of faces that reach over the photo's left or upper edge, which it shifts by what is missing, and for the fraction of a
 * pixel by which it cuts a box beside its corner: here points lie where the network saw them.
 *
 * The photo is read where it is sampled, so memory on the device does not depend on its size.
 * @throws FaceNetError 'model' where weights are missing or misshapen.
 */
export const createTinyFace: DetectionModelFactory = (weights, backend, { source }) =>
  TinyFaceModel.create(weights, backend, source);
