import { FaceNetError } from '../errors.ts';
import { squaredDistance } from '../faces/distance.ts';
import type { Embedder } from '../faces/embedder.ts';
import { pairDistances, valAtFar } from '../faces/evaluation/rates.ts';
import { type Placed, place } from '../faces/preprocessing.ts';
import { type Dataset, type TrainingImage, withPicture } from './dataset.ts';
import { embedPlaced, inferenceOf } from './inference.ts';
import { generator, identitiesOf, shuffled, streams } from './sampling.ts';
import type { TrainingModel } from './trainer.ts';

/*
 * How a run does on people it is not trained on. Held-out pictures, and as many of the people it is trained on, are read once before the
 * first step; each evaluation embeds both with the weights as they are (running statistics, pictures unchanged) and compares all pairs. The
 * same measure on both sides shows memorising: a network that knows its people by heart tells them apart and strangers not.
 */

/** Pictures of people who are not trained on, and which of their pairs are compared. */
export interface HeldOut {
  readonly images: number;
  /** Reads picture i; all are read before the first step. Throws 'image' for one that cannot be read. */
  read(index: number): Promise<TrainingImage> | TrainingImage;
  /** For messages: where picture i comes from. */
  source?(index: number): string;
  readonly pairs: readonly HeldOutPair[];
}

export interface HeldOutPair {
  readonly a: number;
  readonly b: number;
  readonly same: boolean;
}

/** Figures on held-out people after a step. */
export interface HeldOutFigures {
  /** Mean of the shares of pairs told rightly, of one person and of two, at the threshold that is best on these pairs. */
  readonly accuracy: number;
  /** Squared distance. */
  readonly threshold: number;
  /** Share of pairs of one person that is accepted where `far` of the pairs of two people is (Schroff et al. 2015, section 4). */
  readonly val: number;
  readonly far: number;
  /** The accuracy, measured in the same way, on people that are trained on. */
  readonly trainingAccuracy: number;
  readonly samePairs: number;
  readonly differentPairs: number;
  readonly trainingSamePairs: number;
  readonly milliseconds: number;
}

/** Held-out pictures that are embedded at an evaluation, unless pairs are given. */
const IMAGES = 400;

/** Whole people of a set in seeded order, those with two or more pictures first, up to `limit` pictures, and all pairs of them. */
export function heldOutFrom(data: Dataset, seed: number, limit = IMAGES): HeldOut {
  const { paired } = identitiesOf(data.labels);
  const inPairs = new Set(paired.flat());
  const singles = [...data.labels.keys()].filter((index) => !inPairs.has(index)).map((index) => [index]);
  const order = <T>(list: readonly T[], step: number): T[] =>
    shuffled([...list.keys()], generator(seed, streams.heldOut, step)).map((at) => list[at] as T);
  const chosen: number[] = [];
  // A person with very many pictures must not be all there is.
  const most = Math.max(2, Math.ceil(limit / 8));
  for (const person of [...order(paired, 0), ...order(singles, 1)]) {
    if (chosen.length + 2 > limit) break;
    chosen.push(...person.slice(0, Math.min(most, limit - chosen.length)));
  }
  const pairs: HeldOutPair[] = [];
  for (let a = 0; a < chosen.length; a++)
    for (let b = a + 1; b < chosen.length; b++)
      pairs.push({ a, b, same: data.labels[chosen[a] as number] === data.labels[chosen[b] as number] });
  const at = (index: number) => chosen[index] as number;
  return {
    images: chosen.length,
    read: (index) => data.read(at(index)),
    source: (index) => data.source?.(at(index)) ?? `image ${at(index)}`,
    pairs,
  };
}

/** Pairs of faces as a held-out set: each face that is there twice, by identity, is read and embedded once. */
export function heldOutPairs<F>(
  pairs: readonly { readonly a: F; readonly b: F; readonly same: boolean }[],
  read: (face: F) => Promise<TrainingImage>,
): HeldOut {
  const numbers = new Map<F, number>();
  const numberOf = (face: F): number => {
    const number = numbers.get(face) ?? numbers.size;
    numbers.set(face, number);
    return number;
  };
  const listed = pairs.map(({ a, b, same }) => ({ a: numberOf(a), b: numberOf(b), same }));
  const faces = [...numbers.keys()];
  return { images: faces.length, read: (index) => read(faces[index] as F), pairs: listed };
}

/** Embeds and compares held-out people and people trained on. Belongs to one backend and store; `dispose` frees its plan. */
export class Validation {
  readonly #model: TrainingModel;
  readonly #heldOut: Prepared;
  readonly #trained: Prepared;
  #embedder: Embedder | undefined;

  private constructor(model: TrainingModel, heldOut: Prepared, trained: Prepared) {
    this.#model = model;
    this.#heldOut = heldOut;
    this.#trained = trained;
  }

  /** Reads all pictures. @throws 'input' when a kind of pair is missing, 'image' naming a picture that cannot be read. */
  static async create(model: TrainingModel, heldOut: HeldOut, training: Dataset, seed: number): Promise<Validation> {
    checkPairs(heldOut);
    return new Validation(
      model,
      await prepare(model, heldOut),
      await prepare(model, heldOutFrom(training, seed, Math.max(8, Math.min(IMAGES, heldOut.images)))),
    );
  }

  /** The same pictures with another backend and store. */
  on(model: TrainingModel): Validation {
    return new Validation(model, this.#heldOut, this.#trained);
  }

  async evaluate(): Promise<HeldOutFigures> {
    const start = performance.now();
    this.#embedder ??= await inferenceOf(this.#model);
    const held = await this.#distances(this.#embedder, this.#heldOut);
    const known = await this.#distances(this.#embedder, this.#trained);
    const { accuracy, threshold } = balancedAccuracy(held);
    const { length } = held.different;
    const far = length >= 10_000 ? 1e-3 : length >= 1000 ? 1e-2 : 1e-1;
    return {
      accuracy,
      threshold,
      val: valAtFar(held, far).val,
      far,
      trainingAccuracy: known.same.length > 0 && known.different.length > 0 ? balancedAccuracy(known).accuracy : 0,
      samePairs: held.same.length,
      differentPairs: length,
      trainingSamePairs: known.same.length,
      milliseconds: performance.now() - start,
    };
  }

  async dispose(): Promise<void> {
    await this.#embedder?.dispose();
    this.#embedder = undefined;
  }

  async #distances(embedder: Embedder, { placed, pairs }: Prepared) {
    const data = await embedPlaced(embedder, placed);
    const columns = data.length / placed.length;
    const row = (at: number) => data.subarray(at * columns, (at + 1) * columns);
    const distances = (same: boolean) =>
      pairs.filter((pair) => pair.same === same).map(({ a, b }) => squaredDistance(row(a), row(b)));
    return pairDistances(distances(true), distances(false));
  }
}

interface Prepared {
  readonly placed: readonly Placed[];
  readonly pairs: readonly HeldOutPair[];
}

async function prepare({ preprocessing }: TrainingModel, set: HeldOut): Promise<Prepared> {
  const placed: Placed[] = [];
  const at = ({ pixels, landmarks }: TrainingImage) => place(pixels, landmarks, preprocessing);
  for (let index = 0; index < set.images; index++) placed.push(await withPicture(set, index, at, 'held-out image'));
  return { placed, pairs: set.pairs };
}

function checkPairs({ pairs, images }: HeldOut): void {
  const same = pairs.filter((pair) => pair.same).length;
  if (same === 0 || same === pairs.length) {
    throw new FaceNetError(
      'input',
      `train: held-out pictures must hold pairs of one person and of two, got ${same} and ${pairs.length - same} from ${images} pictures. Hold out people with two or more pictures.`,
    );
  }
  const strange = pairs.findIndex(({ a, b }) => ![a, b].every((at) => Number.isInteger(at) && at >= 0 && at < images));
  if (strange >= 0)
    throw new FaceNetError('input', `train: held-out pairs must name pictures below ${images}, got pair ${strange}.`);
}

/** Best mean of the two shares told rightly, over all thresholds; the lowest threshold of equal ones, in the middle of its stretch. */
function balancedAccuracy({ same, different }: { readonly same: Float64Array; readonly different: Float64Array }): {
  accuracy: number;
  threshold: number;
} {
  let [accuracy, threshold] = [0.5, 0];
  let [near, far] = [0, 0];
  while (near < same.length || far < different.length) {
    const at = Math.min(same[near] ?? Number.POSITIVE_INFINITY, different[far] ?? Number.POSITIVE_INFINITY);
    while (near < same.length && same[near] === at) near++;
    while (far < different.length && different[far] === at) far++;
    const share = 0.5 * (near / same.length + 1 - far / different.length);
    if (share <= accuracy) continue;
    const next = Math.min(same[near] ?? Number.POSITIVE_INFINITY, different[far] ?? Number.POSITIVE_INFINITY);
    [accuracy, threshold] = [share, Number.isFinite(next) ? 0.5 * (at + next) : at];
  }
  return { accuracy, threshold };
}
