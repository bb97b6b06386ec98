import { FaceNetError } from '../errors.ts';
import type { TripletReduction } from '../ops/tripletLoss.ts';
import { type SelectionRule, selectionRules } from '../ops/tripletSelection.ts';
import type { OfflineOptions } from './offline.ts';

export type LossName = 'triplet' | 'soft-margin' | 'softmax' | 'cosine-margin' | 'distill';

export const lossNames: readonly LossName[] = ['triplet', 'soft-margin', 'softmax', 'cosine-margin', 'distill'];

/**
 * Rules of the operator tripletSelection (src/ops/tripletSelection.ts says what each includes and where it comes from), and
 * 'offline-hardest': the hardest triplets of a larger set, found every n steps with the latest weights (src/train/offline.ts).
 */
export type MinerName = SelectionRule | 'offline-hardest';

export const minerNames: readonly MinerName[] = [...selectionRules, 'offline-hardest'];

/** One stage of a triplet phase, easy to hard: used until a step of the phase, or until the share of active triplets falls below a limit. */
export interface CurriculumStage {
  readonly until?: { readonly step?: number; readonly activeFraction?: number };
  readonly miner: MinerName;
  readonly margin?: number;
}

/** One phase of a run: what is drawn, what is learnt from it, and how fast. */
export interface TrainPhase {
  readonly steps: number;
  /** Default 'triplet'. Losses may be weighted together. 'cosine-margin' and 'softmax' carry a classification head that is dropped at the end. */
  readonly loss?: LossName | Partial<Record<LossName, number>>;
  readonly reduction?: TripletReduction;
  /** Of squared distances; default 0.2 (the paper). For 'cosine-margin' it is `headMargin`. */
  readonly margin?: number;
  /** Factor of the soft margin, default 8. */
  readonly scale?: number;
  /** Factor and angle of the classification head; default 24 and 0.2. */
  readonly headScale?: number;
  readonly headMargin?: number;
  readonly miner?: MinerName;
  readonly curriculum?: readonly CurriculumStage[];
  /** How the miner 'offline-hardest' searches. */
  readonly offline?: OfflineOptions;
  readonly sampler?: 'people' | 'shuffled';
  readonly people?: number;
  readonly perPerson?: number;
  readonly extraNegatives?: number;
  /** Default 'adagrad', the paper's. */
  readonly optimizer?: 'adagrad' | 'adam' | 'sgd';
  /** Default: adagrad 0.05 (the paper), adam 1e-3, sgd 0.1. */
  readonly learningRate?: number;
  readonly schedule?: 'constant' | 'cosine' | ((step: number) => number);
  /** Share of the phase's steps over which the rate grows from 0. */
  readonly warmup?: number;
  /** Decoupled from the gradient. */
  readonly weightDecay?: number;
  /** Largest norm of the whole gradient; 0 or absent: no limit. */
  readonly clipNorm?: number;
  readonly momentum?: number;
}

/** What a phase may say, and of which kind it is: for phases that come from a file. */
export const phaseFields: Readonly<Record<keyof TrainPhase, 'number' | 'text' | 'loss' | 'curriculum' | 'offline'>> = {
  steps: 'number',
  loss: 'loss',
  reduction: 'text',
  margin: 'number',
  scale: 'number',
  headScale: 'number',
  headMargin: 'number',
  miner: 'text',
  curriculum: 'curriculum',
  offline: 'offline',
  sampler: 'text',
  people: 'number',
  perPerson: 'number',
  extraNegatives: 'number',
  optimizer: 'text',
  learningRate: 'number',
  schedule: 'text',
  warmup: 'number',
  weightDecay: 'number',
  clipNorm: 'number',
  momentum: 'number',
};

/** A phase with everything filled in. */
export interface CompletePhase {
  readonly steps: number;
  readonly losses: readonly (readonly [name: LossName, weight: number])[];
  readonly reduction: TripletReduction;
  readonly scale: number;
  readonly headScale: number;
  readonly headMargin: number;
  readonly stages: readonly (CurriculumStage & { readonly margin: number })[];
  readonly offline?: Required<OfflineOptions>;
  readonly sampler: 'people' | 'shuffled';
  readonly people: number;
  readonly perPerson: number;
  readonly extraNegatives: number;
  readonly optimizer: 'adagrad' | 'adam' | 'sgd';
  readonly learningRate: number;
  readonly schedule: 'constant' | 'cosine' | ((step: number) => number);
  readonly warmup: number;
  readonly weightDecay: number;
  readonly clipNorm: number;
  readonly momentum: number;
}

const RATES = { adagrad: 0.05, adam: 1e-3, sgd: 0.1 } as const;

/** Fills in a phase. @throws 'input' for numbers out of range. */
export function completePhase(phase: TrainPhase): CompletePhase {
  const { loss = 'triplet', optimizer = 'adagrad', margin = 0.2, miner = 'semi-hard' } = phase;
  const losses = (
    typeof loss === 'string' ? [[loss, 1] as const] : (Object.entries(loss) as [LossName, number][])
  ).filter(([, weight]) => weight !== 0);
  const triplets = losses.some(([name]) => isTriplet(name));
  const stages = (phase.curriculum ?? [{ miner }]).map((stage) => ({ ...stage, margin: stage.margin ?? margin }));
  const complete: CompletePhase = {
    steps: phase.steps,
    losses,
    reduction: phase.reduction ?? 'active-mean',
    scale: phase.scale ?? 8,
    headScale: phase.headScale ?? 24,
    headMargin: phase.headMargin ?? 0.2,
    stages,
    ...(stages.some(isOffline) && { offline: { batches: 10, every: 50, ...phase.offline } }),
    sampler: phase.sampler ?? (triplets ? 'people' : 'shuffled'),
    people: phase.people ?? 45,
    perPerson: phase.perPerson ?? 40,
    extraNegatives: phase.extraNegatives ?? 0,
    optimizer,
    learningRate: phase.learningRate ?? RATES[optimizer],
    schedule: phase.schedule ?? 'constant',
    warmup: phase.warmup ?? 0,
    weightDecay: phase.weightDecay ?? 0,
    clipNorm: phase.clipNorm ?? 0,
    momentum: phase.momentum ?? 0.9,
  };
  if (losses.length === 0) throw new FaceNetError('input', 'train: a phase needs a loss, got none.');
  for (const [name, value, known] of [
    ...losses.map(([name]) => ['loss', name, lossNames] as const),
    ...complete.stages.map((stage) => ['miner', stage.miner, minerNames] as const),
    ['optimizer', optimizer, Object.keys(RATES)],
    ['sampler', complete.sampler, ['people', 'shuffled']],
    ['reduction', complete.reduction, ['sum', 'mean', 'active-mean']],
    ['schedule', typeof complete.schedule === 'function' ? 'constant' : complete.schedule, ['constant', 'cosine']],
  ] as const) {
    if (!(known as readonly string[]).includes(value))
      throw new FaceNetError('input', `train: ${name} must be one of ${known.join(', ')}, got ${value}.`);
  }
  if (!(Number.isInteger(complete.steps) && complete.steps >= 1))
    throw new FaceNetError('input', `train: steps must be a whole number from 1, got ${complete.steps}.`);
  for (const [name, value, low, high] of [
    ['learningRate', complete.learningRate, 0, 100],
    ['weightDecay', complete.weightDecay, 0, 1],
    ['clipNorm', complete.clipNorm, 0, 1e9],
    ['warmup', complete.warmup, 0, 1],
    ['momentum', complete.momentum, 0, 1],
  ] as const) {
    if (!(value >= low && value <= high))
      throw new FaceNetError('input', `train: ${name} must be from ${low} to ${high}, got ${value}.`);
  }
  for (const stage of complete.stages) {
    if (!(stage.margin > 0 && stage.margin <= 4))
      throw new FaceNetError('input', `train: margin must lie in (0, 4], got ${stage.margin}.`);
  }
  for (const [name, value] of Object.entries(complete.offline ?? {})) {
    if (!(Number.isInteger(value) && value >= 1))
      throw new FaceNetError('input', `train: offline.${name} must be a whole number from 1, got ${value}.`);
  }
  return complete;
}

export const isOffline = ({ miner }: { readonly miner: MinerName }): boolean => miner === 'offline-hardest';

export const isTriplet = (name: LossName): boolean => name === 'triplet' || name === 'soft-margin';
export const hasHead = (phase: CompletePhase): boolean =>
  phase.losses.some(([name]) => name === 'softmax' || name === 'cosine-margin');

/** Learning rate at a step of a phase (both from 0). The cosine is a polynomial, so that it has the same bits everywhere. */
export function learningRateAt(phase: CompletePhase, step: number): number {
  if (typeof phase.schedule === 'function') return phase.schedule(step);
  const warmSteps = Math.floor(phase.warmup * phase.steps);
  if (step < warmSteps) return (phase.learningRate * (step + 1)) / warmSteps;
  if (phase.schedule === 'constant') return phase.learningRate;
  return phase.learningRate * halfCosine((step - warmSteps) / Math.max(1, phase.steps - warmSteps));
}

/** (1 + cos(pi t)) / 2 for t in [0, 1], by the sine polynomial of the distance from the middle; error below 1e-6. */
function halfCosine(t: number): number {
  const angle = (0.5 - t) * Math.PI;
  const square = angle * angle;
  return (
    0.5 +
    0.5 *
      angle *
      (1 - (square / 6) * (1 - (square / 20) * (1 - (square / 42) * (1 - (square / 72) * (1 - square / 110)))))
  );
}
