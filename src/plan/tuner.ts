/**
 * Which of several kernels is faster on this device. Tables of kernels (families) mark steps whose kernel could be another one with the
 * same bits (`Step.choice`): a tile, or a row of the same float order. The tuner makes the plan once more for the second variant of every
 * choice, the third, and so on, and times each beside the plan of defaults, in turns, so that a machine that slows down slows both. Of
 * each choice the variant with the least time is taken, the default unless it is clearly beaten. Since all variants have equal bits,
 * a wrong measurement costs time and never changes a result: tuned or not, measured again or remembered, the numbers are the same.
 *
 * Times are taken at the batch the plan is for. What is taken holds for every batch, since weights are packed once.
 */
import { FaceNetError } from '../errors.ts';
import type { Choice } from '../graph/operator.ts';
import type { Preferred } from './lowering.ts';
import type { Plan } from './plan.ts';
import type { Backend } from './runner.ts';
import type { Step } from './step.ts';

/** A plan that has run: kernels are compiled, and memory holds numbers like those of every run. */
export interface Candidate {
  readonly plan: Plan;
  dispose(): void | Promise<void>;
}

export interface TuneOptions {
  /** Milliseconds of each step of a plan; default: its profile. */
  readonly measure?: (plan: Plan) => Promise<readonly number[]>;
  readonly signal?: AbortSignal | undefined;
  /** Measurements done and to do. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** A choice and what was measured for it. */
export interface TunedChoice extends Choice {
  /** Labels of the layers that make it. */
  readonly layers: readonly string[];
  /** Of the default, for all these layers. */
  readonly milliseconds: number;
  /** Time / time of the default, by variant; null where it did not run. */
  readonly ratios: readonly (number | null)[];
}

/** Times that each variant is measured; of these the faster half counts. */
const ROUNDS = 6;
/** The default stays unless another takes at most this share of its time: clocks are noisy, and defaults compile fastest. */
const CLEARLY = 0.95;

/** The choices of a plan by key, with the steps that make each. */
export function choicesOf(steps: readonly Step[]): Map<string, { readonly choice: Choice; readonly at: number[] }> {
  const found = new Map<string, { readonly choice: Choice; readonly at: number[] }>();
  for (const [index, { choice }] of steps.entries()) {
    if (!choice) continue;
    const known = found.get(choice.key);
    if (known) known.at.push(index);
    else found.set(choice.key, { choice, at: [index] });
  }
  return found;
}

/** What tables are to prefer after a tuning. */
export function preferredBy(choices: readonly Pick<TunedChoice, 'key' | 'taken'>[]): Preferred {
  return new Map(choices.map(({ key, taken }) => [key, taken]));
}

/**
 * Measures the variants of every choice of `first`, a plan of the backend's default tables, beside it.
 * @param make makes and runs such a plan by the tables that the backend has at that moment; a variant that it cannot make is left out
 * @throws 'aborted', 'device-lost'; the backend's tables are as before in any case
 */
export async function tune(
  backend: Backend,
  first: Plan,
  make: () => Promise<Candidate>,
  { measure = profiled, signal, onProgress }: TuneOptions = {},
): Promise<TunedChoice[]> {
  const choices = [...choicesOf(first.steps).values()];
  const most = Math.max(1, ...choices.map(({ choice }) => choice.variants.length));
  const ratios = choices.map((): (number | null)[] => [1]);
  const milliseconds = choices.map(() => 0);
  const defaults = backend.families;
  const total = (most - 1) * ROUNDS;
  for (let variant = 1; variant < most; variant++) {
    const wanted = choices.map(({ choice }) => choice.variants[variant]);
    let candidate: Candidate | undefined;
    try {
      backend.families = defaults.preferring(
        new Map(choices.flatMap(({ choice }, index) => (wanted[index] ? [[choice.key, wanted[index]]] : []))),
      );
      candidate = await make();
    } catch (error) {
      // A kernel that does not compile here, or no room for a second plan: not taken.
      if (!(error instanceof FaceNetError && ['internal', 'memory', 'device'].includes(error.code))) throw error;
    } finally {
      backend.families = defaults;
    }
    const times: readonly number[][][] = [[], []];
    try {
      for (let round = 0; round < ROUNDS; round++) {
        if (signal?.aborted) throw new FaceNetError('aborted', 'tune: the call was aborted.', { cause: signal.reason });
        if (candidate)
          for (const [index, plan] of [first, candidate.plan].entries())
            times[index]?.push(sums(await measure(plan), choicesOf(plan.steps), choices));
        onProgress?.((variant - 1) * ROUNDS + round + 1, total);
      }
    } finally {
      await candidate?.dispose();
    }
    const [before, now] = times.map((rounds) => choices.map((_, index) => fasterHalf(rounds, index)));
    choices.forEach((_, index) => {
      if (wanted[index] === undefined) return;
      const [own, other] = [before?.[index] ?? 0, now?.[index] ?? 0];
      // A clock too coarse for this layer says nothing.
      ratios[index]?.push(own > 0 && other > 0 ? other / own : null);
      if (variant === 1) milliseconds[index] = own;
    });
  }
  return choices.map(({ choice, at }, index) => {
    const found = ratios[index] as (number | null)[];
    const least = Math.min(...found.map((ratio) => ratio ?? Number.POSITIVE_INFINITY));
    const best = least <= CLEARLY ? found.indexOf(least) : 0;
    return {
      ...choice,
      layers: [...new Set(at.map((step) => (first.steps[step] as Step).label))],
      milliseconds: milliseconds[index] as number,
      ratios: found,
      taken: choice.variants[best] as string,
    };
  });
}

const profiled = async (plan: Plan): Promise<readonly number[]> => (await plan.profile()).milliseconds;

/** The time of each of `choices` in one measurement of a plan that makes them. */
function sums(
  milliseconds: readonly number[],
  own: ReturnType<typeof choicesOf>,
  choices: readonly { readonly choice: Choice }[],
): number[] {
  return choices.map(({ choice }) =>
    (own.get(choice.key)?.at ?? []).reduce((sum, step) => sum + (milliseconds[step] ?? 0), 0),
  );
}

/** Mean of the faster half of the rounds. */
function fasterHalf(rounds: readonly (readonly number[])[], index: number): number {
  const sorted = rounds.map((times) => times[index] ?? 0).sort((a, b) => a - b);
  const half = sorted.slice(0, Math.ceil(sorted.length / 2));
  return half.length === 0 ? 0 : half.reduce((sum, time) => sum + time, 0) / half.length;
}
