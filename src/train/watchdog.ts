import type { TrainStep } from './trainer.ts';

/** Mean squared distance between strangers below which embeddings have fallen together; healthy runs stay at 0.4 and above. */
export const COLLAPSED_DISTANCE = 0.05;
/** How much more pairs of training people are told rightly than held-out ones, above which a network knows its people by heart. */
export const MEMORISED_GAP = 0.1;
/** Steps in a row a sign must show before it is believed. */
const PATIENCE = 10;

/** What a run is judged by besides its numbers. */
export interface Finding {
  readonly kind: 'collapse' | 'no-pair' | 'no-negative' | 'dead-gradient' | 'not-finite' | 'memorising';
  readonly text: string;
}

/**
 * Watches a run. Loss near the margin and an active share near 1 alone do not mean collapse; the distance between strangers does.
 * Every finding comes within 20 steps of its cause.
 */
export class Watchdog {
  readonly #counts = new Map<Finding['kind'], number>();

  /** A sign of collapse or of a dead gradient shows, believed or not yet: what is kept now would not replace a good checkpoint. */
  get suspects(): boolean {
    return (this.#counts.get('collapse') ?? 0) > 0 || (this.#counts.get('dead-gradient') ?? 0) > 0;
  }

  check(step: TrainStep, triplets: boolean): Finding | undefined {
    if (![step.loss, step.gradientNorm, step.meanNegative].every(Number.isFinite)) {
      return {
        kind: 'not-finite',
        text: `step ${step.step}: loss or gradient is not finite. Lower the learning rate or set clipNorm; the last checkpoint is whole.`,
      };
    }
    return (
      this.#sign(
        'collapse',
        triplets && step.meanNegative < COLLAPSED_DISTANCE && step.strangers > 0,
        `step ${step.step}: collapsed: the mean squared distance between strangers is ${step.meanNegative.toFixed(4)} (below ${COLLAPSED_DISTANCE}). Start with 'semi-hard', a classification phase or a teacher, or lower the learning rate.`,
      ) ??
      this.#sign(
        'no-pair',
        triplets && step.pairs === 0,
        `step ${step.step}: no positive pair in the batch. Raise perPerson, or use the 'people' sampler.`,
        1,
      ) ??
      this.#sign(
        'no-negative',
        triplets && step.pairs > 0 && step.triplets === 0,
        `step ${step.step}: no pair finds a negative by this miner. Raise the margin or use 'semi-hard-or-easiest'.`,
      ) ??
      this.#sign(
        'dead-gradient',
        step.gradientNorm === 0 && step.loss > 0 && (!triplets || step.activeTriplets > 0),
        `step ${step.step}: the loss is ${step.loss.toFixed(4)} but every gradient is 0. This device computes a gradient wrongly, or all weights are frozen.`,
      ) ??
      this.#memorising(step)
    );
  }

  /** Looked at where held-out people were; one look is enough, as each is made of many pairs. */
  #memorising({ step, validation }: TrainStep): Finding | undefined {
    if (!validation) return undefined;
    const { accuracy, trainingAccuracy, samePairs, trainingSamePairs } = validation;
    // Three standard errors of the difference, were pairs independent: few pairs prove nothing.
    const chance = 3 * Math.sqrt(0.25 * (1 / samePairs + 1 / Math.max(1, trainingSamePairs)));
    const percent = (share: number) => `${(100 * share).toFixed(0)} %`;
    return this.#sign(
      'memorising',
      trainingAccuracy - accuracy > Math.max(MEMORISED_GAP, chance),
      `step ${step}: memorising: ${percent(trainingAccuracy)} of pairs are told rightly for people trained on, ${percent(accuracy)} for held-out ones. Train on more people, keep augmentation on, raise weightDecay, or stop here; choose thresholds on held-out people.`,
      1,
    );
  }

  #sign(kind: Finding['kind'], shows: boolean, text: string, patience = PATIENCE): Finding | undefined {
    const count = shows ? (this.#counts.get(kind) ?? 0) + 1 : 0;
    this.#counts.set(kind, count);
    return count === patience ? { kind, text } : undefined;
  }
}
