import { FaceNetError } from '../errors.ts';
import {
  cutRegion,
  networkInput,
  type Placed,
  type Preprocessing,
  place,
  regionBytes,
} from '../faces/preprocessing.ts';
import { gradients } from '../graph/gradients.ts';
import { Graph, type Value } from '../graph/graph.ts';
import type { Philox } from '../graph/philox.ts';
import { initialise, type ParameterInfo, parametersOf } from '../networks/initialise.ts';
import type { BatchStatistics, Network, Variant } from '../networks/network.ts';
import { adagradUpdate } from '../ops/adagradUpdate.ts';
import { adamUpdate } from '../ops/adamUpdate.ts';
import { add } from '../ops/add.ts';
import { augment, augmentControls } from '../ops/augment.ts';
import { runningAverage } from '../ops/batchNorm.ts';
import { cosineMargin } from '../ops/cosineMargin.ts';
import { distillation } from '../ops/distillation.ts';
import { emaUpdate } from '../ops/emaUpdate.ts';
import { pairwiseDistance } from '../ops/pairwiseDistance.ts';
import { scaleShift } from '../ops/scaleShift.ts';
import { SETTINGS, sgdUpdate, updateSettings } from '../ops/sgdUpdate.ts';
import { softmaxCrossEntropy } from '../ops/softmaxCrossEntropy.ts';
import { clipScale, sumOfSquares } from '../ops/sumOfSquares.ts';
import { tripletLoss, tripletSummary } from '../ops/tripletLoss.ts';
import { type SelectionRule, tripletSelection } from '../ops/tripletSelection.ts';
import { PLACEMENT_COLUMNS, warpAffine } from '../ops/warpAffine.ts';
import { Plan } from '../plan/plan.ts';
import type { Backend } from '../plan/runner.ts';
import type { Store } from '../plan/store.ts';
import { type Augmentation, changedColours, changedMap, completeAugmentation } from './augmentation.ts';
import { type Dataset, type TrainingImage, withPicture } from './dataset.ts';
import { checkGradients } from './gradient-probe.ts';
import { embedPlaced, inferenceOf } from './inference.ts';
import {
  drawSearched,
  hardestTriplets,
  type MinedTriplets,
  type OfflineOptions,
  offlineBatch,
  offlineChoice,
} from './offline.ts';
import {
  type CompletePhase,
  completePhase,
  hasHead,
  isOffline,
  isTriplet,
  learningRateAt,
  type TrainPhase,
} from './phases.ts';
import {
  batchSizeOf,
  checkSampler,
  drawBatch,
  generator,
  type Identities,
  identitiesOf,
  shuffled,
  streams,
} from './sampling.ts';
import { type HeldOut, type HeldOutFigures, Validation } from './validation.ts';
import { type Finding, Watchdog } from './watchdog.ts';

export interface TrainOptions extends Partial<TrainPhase> {
  /** Phases one after another, in one run and one checkpoint; without them the options themselves are the only phase. */
  readonly phases?: readonly TrainPhase[];
  /** Target embeddings for 'distill': row i for picture i, as long as the network's embedding. */
  readonly teacher?: { readonly data: Float32Array; readonly dimensions: number };
  readonly augment?: Augmentation | false;
  /** Share of the moving average of the weights that stays at each step; absent: none is kept. */
  readonly ema?: number;
  /** Normalise with the running statistics and leave them as they are. */
  readonly freezeBatchNorm?: boolean;
  /**
   * Pictures computed together; the batch is a multiple of it. Loss, mining and update are still those of the whole batch, in the memory
   * of one micro-batch and for one forward pass more. Batch norm normalises each micro-batch on its own.
   */
  readonly microBatch?: number;
  /** Equal parts of the batch that batch norm normalises on their own. Default: the micro-batches, else 1. */
  readonly groups?: number;
  /** Fixes sampling, augmentation, mining and the head's first values. Default 0. */
  readonly seed?: number;
  /** People who are not trained on: after every `evaluateEvery` steps and after the last one, `validation` of the step says how they fare. */
  readonly validation?: HeldOut;
  /** Default 20, at least 1. */
  readonly evaluateEvery?: number;
  /** What a collapse does: end the run (default), or be reported in `warning`. */
  readonly onCollapse?: 'stop' | 'warn';
  readonly signal?: AbortSignal;
}

/** Numbers of one finished step. */
export interface TrainStep {
  /** From 1, over all phases. */
  readonly step: number;
  readonly phase: number;
  readonly loss: number;
  readonly triplets: number;
  readonly activeTriplets: number;
  /** Active / selected, 0 without triplets. */
  readonly activeFraction: number;
  /** Ordered pairs of one person, and of strangers, in the batch. */
  readonly pairs: number;
  readonly strangers: number;
  /** Mean squared distance of pairs of one person, and of strangers; 0 in phases without triplets. */
  readonly meanPositive: number;
  readonly meanNegative: number;
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly milliseconds: number;
  /** On held-out people, at the steps where they are looked at. */
  readonly validation?: HeldOutFigures;
  readonly warning?: string;
  /** A sign shows that the run has gone wrong, though not for long enough to say so: keep the checkpoint of before. */
  readonly suspect?: boolean;
}

export interface TrainResult {
  readonly steps: number;
  readonly stopped: 'done' | 'aborted' | 'collapsed';
}

/** Everything that a run needs to go on: tensors by name, and what they belong to. */
export interface TrainingState {
  readonly tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>;
  /** Version, network, phases, seed, step, stage and the order class of the plan that made it. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** What is trained, and on what. */
export interface TrainingModel {
  readonly network: Network;
  readonly variant: Variant;
  readonly preprocessing: Preprocessing;
  readonly backend: Backend;
  readonly store: Store;
}

const STATE_VERSION = '1';
const HEAD = 'head/weight';
/** Pictures that are computed together. */
interface Part {
  readonly images: Uint8Array;
  readonly placements: Float32Array;
  readonly controls: Float32Array;
}
/** A batch: its parts, and what is known of all its pictures. */
interface Gathered {
  readonly parts: readonly Part[];
  readonly labels: Int32Array;
  readonly classes: Int32Array;
  readonly teacher?: Float32Array;
  /** Of triplets found offline; absent where the device selects them. */
  readonly choice?: Int32Array;
}
/** Inputs of a run by name; a plan takes those it has. */
type Inputs = Readonly<Record<string, ArrayBufferView>>;
type Results = Record<string, Float32Array>;
type Stage = CompletePhase['stages'][number];

/** What computes the steps of one phase and one stage of its curriculum. */
interface Built {
  readonly stage: number;
  readonly phase: number;
  readonly plans: readonly Plan[];
  /** Loss, squared gradient norm and summary of a finished step; undefined when it was discarded because the run is to stop. */
  step(batch: Gathered, inputs: Inputs): Promise<Results | undefined>;
}

/**
 * Micro-batches (the paper's batch of 1,800 in the memory of a small one). Four plans make a step:
 *
 * 1. embed: a micro-batch -> its embeddings, which are collected (N x dimensions numbers: no activation is kept);
 * 2. loss: all embeddings -> distances, selection, loss, and the gradient of the loss for each embedding; the head's gradient too;
 * 3. gradient: a micro-batch again, forward and then backward from its rows of that gradient. What it gives for each parameter is added
 *    to a tensor of its own in the store (sgdUpdate with the rate -1 adds in place), batch statistics likewise;
 * 4. update: norm, clipping, optimiser, moving average and running statistics, once, from the sums.
 *
 * By the chain rule this is the gradient of the whole batch, exactly but for the order of sums, wherever a picture's embedding does not
 * depend on its neighbours: without batch norm or with a frozen one. With batch norm it is the gradient of a whole batch whose batch norm
 * treats the micro-batches as `groups`. Pictures are shuffled by the seed first, so that a group holds many people. Weights
 * change in 4 alone: a step can be discarded between any two plans.
 */
const SUM = 'sum/';
/** Name of the list of triplets found offline, in a state. */
const OFFLINE = 'offline/triplets';
/** Steps between two looks at held-out people, and the same for what a watchdog needs to see within 20 steps. */
const EVALUATE_EVERY = 20;
const sumOf = (name: string): string => `${SUM}${name}`;

/**
 * Trains a network in place. Step k is a function of the seed, the data and the weights before it alone, so that a run stopped after
 * any step and resumed from its state gives the bits of the undisturbed one, on the same backend.
 */
export class Trainer {
  #model: TrainingModel;
  readonly #data: Dataset;
  readonly #options: TrainOptions;
  readonly #phases: readonly CompletePhase[];
  readonly #identities: Identities;
  readonly #classes: Int32Array;
  readonly #classCount: number;
  readonly #parameters: readonly ParameterInfo[];
  readonly #seed: number;
  readonly #augmentation: Required<Augmentation>;
  readonly #watchdog = new Watchdog();
  #step = 0;
  #stage = 0;
  #started = -1;
  /** The last step that was ever finished: steps up to it are repeated, not judged or stopped. */
  #reached = 0;
  #built: Built | undefined;
  #mined: MinedTriplets | undefined;
  #validation: Validation | undefined;
  /** Operators whose gradients this device was seen to compute rightly. */
  readonly #probed = new Set<string>();

  /** @throws 'input' when options, data and network do not fit: before anything is computed. */
  constructor(model: TrainingModel, data: Dataset, options: TrainOptions) {
    this.#model = model;
    this.#data = data;
    this.#options = options;
    this.#phases = (options.phases ?? [{ ...options, steps: options.steps ?? 0 }]).map(completePhase);
    this.#identities = identitiesOf(data.labels);
    this.#seed = options.seed ?? 0;
    this.#augmentation = completeAugmentation(options.augment);
    for (const phase of this.#phases) checkSampler(this.#identities, phase);
    for (const phase of this.#phases) this.#split(phase);
    const { evaluateEvery = EVALUATE_EVERY } = options;
    if (!(Number.isInteger(evaluateEvery) && evaluateEvery >= 1))
      throw new FaceNetError('input', `train: evaluateEvery must be a whole number from 1, got ${evaluateEvery}.`);
    if (this.#phases.some(({ offline }) => offline) && data.labels.length > 2 ** 24)
      throw new FaceNetError('input', `train: 'offline-hardest' takes up to 2^24 images, got ${data.labels.length}.`);
    if (
      this.#identities.paired.length === 0 &&
      this.#phases.some((phase) => phase.losses.some(([name]) => name !== 'distill'))
    ) {
      throw new FaceNetError(
        'input',
        `train: people with two or more images are needed, got none among ${this.#identities.images} images.`,
      );
    }
    const distils = this.#phases.some((phase) => phase.losses.some(([name]) => name === 'distill'));
    const dimensions = model.variant.dimensions ?? model.network.dimensions;
    const { teacher } = options;
    if (distils && !teacher) throw new FaceNetError('input', "train: the loss 'distill' needs a teacher, got none.");
    if (teacher && (teacher.dimensions !== dimensions || teacher.data.length !== data.labels.length * dimensions)) {
      throw new FaceNetError(
        'input',
        `train: the teacher must have ${data.labels.length} rows of ${dimensions} numbers, got ${teacher.data.length} numbers in rows of ${teacher.dimensions}.`,
      );
    }
    // Classes of the head: people with two or more images; single-image people teach a head little.
    this.#classes = new Int32Array(data.labels.length).fill(-1);
    this.#identities.paired.forEach((list, index) => {
      for (const image of list) this.#classes[image] = index;
    });
    this.#classCount = this.#identities.paired.length;
    const { width, height } = model.preprocessing;
    this.#parameters = parametersOf(model.network, model.variant, { width, height });
  }

  get step(): number {
    return this.#step;
  }

  /** The last step that was ever finished: a run on another device repeats the steps up to it. */
  get reached(): number {
    return this.#reached;
  }

  get totalSteps(): number {
    return this.#phases.reduce((sum, phase) => sum + phase.steps, 0);
  }

  /** Goes on from a state. @throws 'mismatch' for one of another network, other phases or another seed; 'model' for a newer version or a tensor that does not fit. */
  restore(state: TrainingState): void {
    const version = state.metadata.get('version');
    if (version !== STATE_VERSION)
      throw new FaceNetError(
        'model',
        `resume: a checkpoint of version ${STATE_VERSION} is read, got ${version ?? 'none'}. Use a newer version of this library.`,
      );
    for (const [name, mine] of this.#identity()) {
      const theirs = state.metadata.get(name);
      if (theirs !== mine)
        throw new FaceNetError(
          'mismatch',
          `resume: ${name} must be ${mine}, got ${theirs ?? 'none'}. Use the options the checkpoint was made with.`,
        );
    }
    const step = Number(state.metadata.get('step'));
    if (!(Number.isInteger(step) && step >= 0 && step <= this.totalSteps))
      throw new FaceNetError(
        'model',
        `resume: step must be from 0 to ${this.totalSteps}, got ${state.metadata.get('step')}.`,
      );
    const wanted = this.#parameters.map(({ name }) => name).filter((name) => !state.tensors.has(name));
    if (wanted.length > 0) throw new FaceNetError('model', `resume: the checkpoint lacks ${wanted.join(', ')}.`);
    for (const { name, shape } of this.#parameters) {
      const found = state.tensors.get(name)?.shape ?? [];
      if (found.join() !== shape.join())
        throw new FaceNetError(
          'mismatch',
          `resume: ${name} must be [${shape.join(', ')}], got [${found.join(', ')}]. The checkpoint is of another network.`,
        );
    }
    for (const [name, { shape, data }] of state.tensors) if (name !== OFFLINE) this.#model.store.set(name, data, shape);
    this.#mined = minedOf(state);
    this.#step = step;
    this.#reached = Math.max(this.#reached, step);
    this.#stage = Number(state.metadata.get('stage') ?? 0);
    this.#started = Number(state.metadata.get('started') ?? -1);
  }

  /** Goes on with another backend and store, from a state; without one from the step it is at, which must be the first. */
  moveTo(model: TrainingModel, state?: TrainingState): void {
    this.dispose();
    this.#model = model;
    this.#probed.clear();
    this.#validation = this.#validation?.on(model);
    if (state) this.restore(state);
    else {
      this.#started = -1;
      this.#mined = undefined;
    }
  }

  /** All tensors of the store with what they belong to; whole steps only. */
  async state(): Promise<TrainingState> {
    const { store } = this.#model;
    const values = await store.read(store.names.filter((name) => !name.startsWith(SUM)));
    const mined = this.#mined;
    return {
      tensors: new Map([
        ...[...values].map(([name, data]) => [name, { shape: store.shape(name), data }] as const),
        ...(mined
          ? [[OFFLINE, { shape: [mined.triplets.length / 3, 3], data: Float32Array.from(mined.triplets) }] as const]
          : []),
      ]),
      metadata: new Map([
        ...this.#identity(),
        ['version', STATE_VERSION],
        ['step', String(this.#step)],
        ['stage', String(this.#stage)],
        ['started', String(this.#started)],
        ...(mined ? [['offline', `${mined.phase} ${mined.from}`] as const] : []),
        ['order', [...new Set(this.#built?.plans.map(({ order }) => order) ?? [])].join('; ')],
      ]),
    };
  }

  /** Runs the steps that are left. Each yield is one finished step; stop by `break`, the object then holds the last whole step. */
  async *run(): AsyncGenerator<TrainStep, TrainResult> {
    const { onCollapse = 'stop', validation, evaluateEvery = EVALUATE_EVERY } = this.#options;
    // What is found offline waits for the weights of the step before.
    const ahead = (step: number) => {
      const early = step < this.totalSteps && !this.#phases[this.#where(step).phase]?.offline;
      return early ? this.#gather(step) : undefined;
    };
    let coming = ahead(this.#step);
    try {
      if (validation && this.#step < this.totalSteps)
        this.#validation ??= await Validation.create(this.#model, validation, this.#data, this.#seed);
      while (this.#step < this.totalSteps) {
        if (this.#stops) return { steps: this.#step, stopped: 'aborted' };
        const start = performance.now();
        const { phase, within } = this.#where(this.#step);
        const built = await this.#plan(phase);
        const batch = await (coming ?? this.#gather(this.#step));
        coming = ahead(this.#step + 1);
        coming?.catch(() => {});
        const step = await this.#compute(built, batch, phase, within, start);
        if (!step) return { steps: this.#step, stopped: 'aborted' };
        const complete = this.#phases[phase] as CompletePhase;
        this.#advanceStage(complete, step, within);
        if (step.step <= this.#reached) {
          yield step;
          continue;
        }
        const due = step.step % evaluateEvery === 0 || step.step === this.totalSteps;
        const figures = due ? await this.#validation?.evaluate() : undefined;
        const finished = figures ? { ...step, validation: figures } : step;
        const triplets = complete.losses.some(([name]) => isTriplet(name));
        const finding = this.#watchdog.check(finished, triplets);
        // Only now: a device that was lost on the way has not finished this step.
        this.#reached = step.step;
        yield {
          ...finished,
          ...(finding && { warning: finding.text }),
          ...(this.#watchdog.suspects && { suspect: true }),
        };
        if (finding && ends(finding, onCollapse)) return { steps: this.#step, stopped: 'collapsed' };
      }
      return { steps: this.#step, stopped: 'done' };
    } finally {
      await coming?.catch(() => {});
    }
  }

  /** Asked to stop; not before a repeated run is where it was. */
  get #stops(): boolean {
    return this.#options.signal?.aborted === true && this.#step >= this.#reached;
  }

  /** What the last step was computed by, in order: for profiles. Profiling runs them, updates of the weights and all. */
  get plans(): readonly Plan[] {
    return this.#built?.plans ?? [];
  }

  /** Frees the plans. The weights stay in the store; head and optimiser slots too, until the store goes. */
  dispose(): void {
    for (const plan of this.#built?.plans ?? []) plan.dispose();
    this.#built = undefined;
    void this.#validation?.dispose();
  }

  /** What must be equal for a checkpoint to fit. */
  #identity(): Map<string, string> {
    const { network, variant, preprocessing } = this.#model;
    const phases = this.#phases.map((phase) => ({
      ...phase,
      schedule: typeof phase.schedule === 'function' ? 'function' : phase.schedule,
    }));
    return new Map([
      ['network', network.name],
      ['variant', JSON.stringify(variant)],
      ['input', `${preprocessing.width}x${preprocessing.height}`],
      ['phases', JSON.stringify(phases)],
      ['groups', this.#phases.map((phase) => this.#split(phase).groups).join()],
      ['micro', this.#phases.map((phase) => this.#split(phase).micro).join()],
      ['seed', String(this.#seed)],
      ['images', String(this.#data.labels.length)],
      ['backend', this.#model.backend.name],
    ]);
  }

  #where(step: number): { phase: number; within: number } {
    let within = step;
    for (const [phase, { steps }] of this.#phases.entries()) {
      if (within < steps) return { phase, within };
      within -= steps;
    }
    throw new FaceNetError('internal', `train: step ${step} lies behind the last phase.`);
  }

  #advanceStage({ stages }: CompletePhase, step: TrainStep, within: number): void {
    const until = stages[this.#stage]?.until;
    if (this.#stage + 1 >= stages.length || !until) return;
    if (
      (until.step !== undefined && within + 1 >= until.step) ||
      (until.activeFraction !== undefined && step.triplets > 0 && step.activeFraction < until.activeFraction)
    ) {
      this.#stage++;
      this.#mined = undefined;
    }
  }

  async #plan(phase: number): Promise<Built> {
    if (this.#started !== phase) {
      // A phase begins: fresh optimiser slots, a fresh head, the first stage.
      this.#prepareSlots(this.#phases[phase] as CompletePhase);
      this.#started = phase;
      this.#stage = 0;
      this.#mined = undefined;
    }
    if (this.#built?.phase === phase && this.#built.stage === this.#stage) return this.#built;
    for (const plan of this.#built?.plans ?? []) plan.dispose();
    this.#built = undefined;
    const complete = this.#phases[phase] as CompletePhase;
    const made =
      this.#split(complete).micro < batchSizeOf(complete)
        ? await this.#buildParts(complete, this.#stage)
        : await this.#buildWhole(complete, this.#stage);
    this.#built = { ...made, phase, stage: this.#stage };
    const used = new Set(made.plans.flatMap(({ steps }) => steps.map(({ operator }) => operator)));
    await checkGradients(this.#model.backend, used, this.#probed);
    return this.#built;
  }

  #prepareSlots(phase: CompletePhase): void {
    const { store } = this.#model;
    const learnt = this.#learnt(phase);
    if (hasHead(phase)) {
      const info: ParameterInfo = {
        name: HEAD,
        shape: [this.#classCount, this.#dimensions],
        role: 'weight',
        learnt: true,
      };
      if (!store.has(HEAD)) store.set(HEAD, initialise([info], this.#seed).get(HEAD) as Float32Array, info.shape);
    }
    for (const { name, shape } of learnt) {
      for (const slot of SLOTS[phase.optimizer]) {
        const length = shape.reduce((a, b) => a * b, 1);
        store.set(`optimizer/${slot}/${name}`, new Float32Array(length).fill(slot === 'accumulator' ? 0.1 : 0), shape);
      }
    }
  }

  get #dimensions(): number {
    return this.#model.variant.dimensions ?? this.#model.network.dimensions;
  }

  #learnt(phase: CompletePhase): { name: string; shape: readonly number[] }[] {
    const own = this.#parameters.filter((parameter) => parameter.learnt);
    return hasHead(phase) ? [...own, { name: HEAD, shape: [this.#classCount, this.#dimensions] }] : own;
  }

  /** How a phase's batch is computed. @throws 'input' when it does not divide. */
  #split(phase: CompletePhase): { micro: number; groups: number } {
    const batch = batchSizeOf(phase);
    const micro = Math.min(batch, this.#options.microBatch ?? batch);
    if (!(Number.isInteger(micro) && micro >= 1 && batch % micro === 0)) {
      throw new FaceNetError(
        'input',
        `train: the batch of ${batch} must be a multiple of microBatch, got ${this.#options.microBatch}. Choose a divisor, or change people, perPerson or extraNegatives.`,
      );
    }
    const groups = this.#options.groups ?? batch / micro;
    if (!(Number.isInteger(groups) && groups >= 1 && batch % groups === 0))
      throw new FaceNetError('input', `train: the batch of ${batch} must be a multiple of groups, got ${groups}.`);
    if (micro < batch && groups !== batch / micro && !this.#options.freezeBatchNorm) {
      throw new FaceNetError(
        'input',
        `train: micro-batches of ${micro} need ${batch / micro} groups, got ${groups}: statistics over several micro-batches do not exist. Leave groups out, or set freezeBatchNorm.`,
      );
    }
    return { micro, groups };
  }

  /** Pictures as they are drawn -> embeddings, in training form. */
  #embed(graph: Graph, batch: number, groups: number): { embeddings: Value; statistics: BatchStatistics[] } {
    const { network, variant, preprocessing } = this.#model;
    const { width, height, scale, shift } = preprocessing;
    const images = graph.input('images', [regionBytes(preprocessing) * batch], 'u8');
    const placements = graph.input('placements', [batch, PLACEMENT_COLUMNS]);
    const controls = graph.input('controls', [batch, augmentControls.columns]);
    const crops = graph.scope('crop', () =>
      networkInput(
        augment(warpAffine(images, placements, { width, height, border: 'edge', scale, shift }), controls),
        preprocessing,
      ),
    );
    const statistics: BatchStatistics[] = [];
    const frozenBatchNorm = this.#options.freezeBatchNorm ?? false;
    const embeddings = network.build(crops, {
      ...variant,
      mode: 'training',
      frozenBatchNorm,
      groups,
      onStatistics: (found) => statistics.push(found),
    });
    return { embeddings, statistics };
  }

  /** Norm of the gradients, clipping, optimiser and moving average. Returns the squared norm. */
  async #update(
    graph: Graph,
    phase: CompletePhase,
    gradientOf: (parameter: Value) => Value | undefined,
  ): Promise<Value> {
    const { store } = this.#model;
    const settings = graph.input('settings', [SETTINGS]);
    const limit = graph.input('clipNorm', [1]);
    const pairs = this.#learnt(phase).flatMap(({ name, shape }) => {
      const parameter = graph.parameter(name, shape);
      const gradient = gradientOf(parameter);
      return gradient ? [{ parameter, gradient }] : [];
    });
    let total: Value | undefined;
    for (const { gradient } of pairs) total = sumOfSquares(gradient, total);
    if (!total) throw new FaceNetError('internal', 'train: the loss depends on no parameter.');
    const gradientScale = clipScale(total, limit);
    for (const { parameter, gradient } of pairs) {
      const updated = update(phase, parameter, gradient, settings, gradientScale);
      graph.assign(parameter, updated);
      if (this.#options.ema === undefined || parameter.name === HEAD) continue;
      const name = `average/${parameter.name}`;
      if (!store.has(name))
        store.set(name, (await store.read([parameter.name])).get(parameter.name) as Float32Array, parameter.shape);
      const average = graph.parameter(name, parameter.shape);
      graph.assign(average, emaUpdate(average, updated, settings));
    }
    return total;
  }

  /** The whole step as one graph: crop, change, embed, select, loss, gradients, updates. */
  async #buildWhole(phase: CompletePhase, stageIndex: number): Promise<Pick<Built, 'plans' | 'step'>> {
    const { backend, store } = this.#model;
    const batch = batchSizeOf(phase);
    const { groups } = this.#split(phase);
    const graph = new Graph();
    const { embeddings, statistics } = this.#embed(graph, batch, groups);
    const { loss, summary } = this.#losses(
      graph,
      phase,
      stageAt(phase, stageIndex),
      embeddings,
      graph.input('labels', [batch], 'i32'),
    );
    const learnt = this.#learnt(phase).map(({ name, shape }) => graph.parameter(name, shape));
    const found = gradients(loss, learnt, graph.constant(Float32Array.of(1), [1]), add);
    const total = await this.#update(graph, phase, (parameter) => found[learnt.indexOf(parameter)]);
    for (const { mean, variance, batch: seen, perImage } of statistics)
      assignRunning(graph, mean, variance, seen, (perImage * batch) / groups);
    const plan = await Plan.create(graph, { loss, total, ...(summary ? { summary } : {}) }, backend, store, {
      batchSize: batch,
    });
    return { plans: [plan], step: ({ parts }, inputs) => plan.run(chosen(plan, { ...inputs, ...parts[0] })) };
  }

  /** The four plans of micro-batches. */
  async #buildParts(phase: CompletePhase, stageIndex: number): Promise<Pick<Built, 'plans' | 'step'>> {
    const { backend, store } = this.#model;
    const dimensions = this.#dimensions;
    const batch = batchSizeOf(phase);
    const { micro } = this.#split(phase);
    const sums: { name: string; shape: readonly number[] }[] = [];
    const sum = (graph: Graph, name: string, value: Value): void => {
      const settings = graph.constant(Float32Array.of(-1, 0, 0, 0, 0, 0, 0, 0), [SETTINGS]);
      store.define(sumOf(name), value.shape);
      sums.push({ name, shape: value.shape });
      const slot = graph.parameter(sumOf(name), value.shape);
      graph.assign(slot, sgdUpdate(slot, { gradient: value, settings }));
    };

    const forward = new Graph();
    const first = this.#embed(forward, micro, 1);

    const whole = new Graph();
    const all = whole.input('embeddings', [batch, dimensions]);
    const { loss, summary } = this.#losses(
      whole,
      phase,
      stageAt(phase, stageIndex),
      all,
      whole.input('labels', [batch], 'i32'),
    );
    const wanted = hasHead(phase) ? [all, whole.parameter(HEAD, [this.#classCount, dimensions])] : [all];
    const [perEmbedding, perHead] = gradients(loss, wanted, whole.constant(Float32Array.of(1), [1]), add);
    if (!perEmbedding) throw new FaceNetError('internal', 'train: the loss depends on no embedding.');
    if (perHead) sum(whole, HEAD, perHead);

    const backward = new Graph();
    const second = this.#embed(backward, micro, 1);
    const learnt = this.#learnt(phase)
      .filter(({ name }) => name !== HEAD)
      .map(({ name, shape }) => backward.parameter(name, shape));
    const found = gradients(second.embeddings, learnt, backward.input('gradient', [micro, dimensions]), add);
    found.forEach((gradient, index) => {
      if (gradient) sum(backward, (learnt[index] as Value).name, gradient);
    });
    for (const { mean, batch: seen } of second.statistics) sum(backward, mean.name, seen);

    const last = new Graph();
    const summed = new Set(sums.map(({ name }) => name));
    const total = await this.#update(last, phase, ({ name, shape }) =>
      summed.has(name) ? last.parameter(sumOf(name), shape) : undefined,
    );
    for (const { mean, variance, batch: seen, perImage } of second.statistics) {
      const average = scaleShift(last.parameter(sumOf(mean.name), seen.shape), { scale: micro / batch });
      assignRunning(
        last,
        last.parameter(mean.name, mean.shape),
        last.parameter(variance.name, variance.shape),
        average,
        perImage * micro,
      );
    }

    const plans: Plan[] = [];
    const plan = async (graph: Graph, outputs: Record<string, Value>, batchSize: number): Promise<Plan> => {
      const made = await Plan.create(graph, outputs, backend, store, { batchSize });
      plans.push(made);
      return made;
    };
    try {
      const embed = await plan(forward, { embeddings: first.embeddings }, micro);
      const judge = await plan(whole, { loss, perEmbedding, ...(summary ? { summary } : {}) }, batch);
      const differentiate = await plan(backward, { embeddings: second.embeddings }, micro);
      const finish = await plan(last, { total }, 1);
      const step = async ({ parts }: Gathered, inputs: Inputs): Promise<Results | undefined> => {
        for (const { name, shape } of sums) store.set(sumOf(name), new Float32Array(shape.reduce((a, b) => a * b, 1)));
        const embeddings = new Float32Array(batch * dimensions);
        for (const [index, part] of parts.entries()) {
          if (this.#stops) return undefined;
          embeddings.set(
            (await embed.run(chosen(embed, { ...part }))).embeddings as Float32Array,
            index * micro * dimensions,
          );
        }
        const judged = await judge.run(chosen(judge, { ...inputs, embeddings }));
        for (const [index, part] of parts.entries()) {
          if (this.#stops) return undefined;
          const gradient = (judged.perEmbedding as Float32Array).subarray(
            index * micro * dimensions,
            (index + 1) * micro * dimensions,
          );
          await differentiate.run(chosen(differentiate, { ...part, gradient }), micro, []);
        }
        if (this.#stops) return undefined;
        return { ...judged, ...(await finish.run(chosen(finish, inputs))) };
      };
      return { plans, step };
    } catch (error) {
      for (const made of plans) made.dispose();
      throw error;
    }
  }

  #losses(
    graph: Graph,
    phase: CompletePhase,
    stage: Stage,
    embeddings: Value,
    labels: Value,
  ): { loss: Value; summary: Value | undefined } {
    let loss: Value | undefined;
    let summary: Value | undefined;
    for (const [name, weight] of phase.losses) {
      let term: Value;
      if (isTriplet(name)) {
        const distances = pairwiseDistance(embeddings);
        const count = embeddings.shape[0] as number;
        const choice = isOffline(stage)
          ? graph.input('choice', [count, count], 'i32')
          : tripletSelection(distances, labels, {
              rule: stage.miner as SelectionRule,
              margin: stage.margin,
              key: graph.input('key', [4], 'i32'),
            });
        const triplet = tripletLoss(distances, labels, choice, {
          margin: stage.margin,
          softMargin: name === 'soft-margin',
          scale: phase.scale,
          reduction: phase.reduction,
        });
        term = triplet.loss;
        summary = triplet.summary;
      } else if (name === 'distill') {
        term = distillation(embeddings, graph.input('teacher', [embeddings.shape[0] as number, this.#dimensions]));
      } else {
        const head = graph.parameter(HEAD, [this.#classCount, this.#dimensions]);
        const classes = graph.input('classes', labels.shape, 'i32');
        const margin = name === 'softmax' ? 0 : phase.headMargin;
        term = softmaxCrossEntropy(
          cosineMargin(embeddings, head, classes, { scale: phase.headScale, margin }),
          classes,
        ).loss;
      }
      const weighted = weight === 1 ? term : scaleShift(term, { scale: weight });
      loss = loss ? add(loss, weighted) : weighted;
    }
    return { loss: loss as Value, summary };
  }

  async #compute(
    built: Built,
    batch: Gathered,
    phaseIndex: number,
    within: number,
    start: number,
  ): Promise<TrainStep | undefined> {
    const phase = this.#phases[phaseIndex] as CompletePhase;
    const learningRate = learningRateAt(phase, within);
    const results = await built.step(batch, {
      labels: batch.labels,
      settings: settingsOf(phase, learningRate, within, this.#options.ema ?? 0),
      clipNorm: Float32Array.of(phase.clipNorm),
      key: Int32Array.of((this.#seed % 2 ** 32) | 0, Math.floor(this.#seed / 2 ** 32), this.#step, 1),
      classes: batch.classes,
      ...(batch.teacher ? { teacher: batch.teacher } : {}),
      ...(batch.choice ? { choice: batch.choice } : {}),
    });
    if (!results) return undefined;
    const { loss, total, summary } = results;
    this.#step++;
    const of = (what: keyof typeof tripletSummary) => summary?.[tripletSummary[what]] ?? 0;
    return {
      step: this.#step,
      phase: phaseIndex,
      loss: loss?.[0] as number,
      triplets: of('triplets'),
      activeTriplets: of('active'),
      activeFraction: of('triplets') > 0 ? of('active') / of('triplets') : 0,
      pairs: of('pairs'),
      strangers: of('strangers'),
      meanPositive: of('meanPositive'),
      meanNegative: of('meanNegative'),
      gradientNorm: Math.sqrt(total?.[0] as number),
      learningRate,
      milliseconds: performance.now() - start,
    };
  }

  /** Triplets of the latest search; a new search where its time has come. */
  async #search(phaseIndex: number, within: number): Promise<MinedTriplets> {
    const phase = this.#phases[phaseIndex] as CompletePhase;
    const { batches, every } = phase.offline as Required<OfflineOptions>;
    const known = this.#mined;
    if (known?.phase === phaseIndex && within >= known.from && within < known.from + every) return known;
    const indices = drawSearched(this.#identities, phase, batches, this.#seed, this.#step);
    const images = await Promise.all(indices.map((index) => this.#read(index)));
    const { preprocessing, backend } = this.#model;
    const embedder = await inferenceOf(this.#model);
    let data: Float32Array;
    try {
      data = await embedPlaced(
        embedder,
        images.map(({ pixels, landmarks }) => place(pixels, landmarks, preprocessing)),
      );
    } finally {
      await embedder.dispose();
    }
    const found = await hardestTriplets(backend, {
      data,
      dimensions: this.#dimensions,
      indices,
      labels: this.#data.labels,
    });
    const order = shuffled([...found.keys()], generator(this.#seed, streams.offline, this.#step));
    const triplets = Int32Array.from(order.flatMap((at) => found[at] as number[]));
    this.#mined = { phase: phaseIndex, from: within, triplets };
    return this.#mined;
  }

  /** Pictures of a step in order of their rows, and what is selected of them where that is known before. */
  async #draw(step: number): Promise<{ indices: number[]; choice?: Int32Array }> {
    const { phase: phaseIndex, within } = this.#where(step);
    const phase = this.#phases[phaseIndex] as CompletePhase;
    const drawn = drawBatch(this.#identities, phase, this.#seed, step);
    const size = drawn.length;
    const rows = [...drawn.keys()];
    const { groups } = this.#split(phase);
    const order = groups > 1 ? shuffled(rows, generator(this.#seed, streams.groups, step)) : rows;
    if (!isOffline(stageAt(phase, this.#stage))) return { indices: order.map((at) => drawn[at] as number) };
    const given = offlineBatch(await this.#search(phaseIndex, within), size, within);
    // Whole triplets first; the one or two rows left over stay with what the sampler drew.
    const pictures = [...given, ...drawn.slice(given.length)];
    return { indices: order.map((at) => pictures[at] as number), choice: offlineChoice(order, given.length / 3) };
  }

  async #read(index: number): Promise<TrainingImage> {
    return withPicture(this.#data, index, (picture) => picture);
  }

  async #gather(step: number): Promise<Gathered> {
    const phase = this.#phases[this.#where(step).phase] as CompletePhase;
    const { micro } = this.#split(phase);
    const { indices, choice } = await this.#draw(step);
    const random = generator(this.#seed, streams.augment, step);
    const pictures = await Promise.all(indices.map((index) => this.#read(index)));
    const parts: Part[] = [];
    for (let from = 0; from < pictures.length; from += micro)
      parts.push(this.#part(pictures.slice(from, from + micro), random));
    const { teacher } = this.#options;
    const targets = teacher && new Float32Array(indices.length * teacher.dimensions);
    indices.forEach((index, row) =>
      targets?.set(
        teacher?.data.subarray(index * teacher.dimensions, (index + 1) * teacher.dimensions) as Float32Array,
        row * teacher!.dimensions,
      ),
    );
    return {
      parts,
      labels: Int32Array.from(indices, (index) => this.#data.labels[index] as number),
      classes: Int32Array.from(indices, (index) => this.#classes[index] as number),
      ...(targets ? { teacher: targets } : {}),
      ...(choice ? { choice } : {}),
    };
  }

  /** Cuts what the crops need out of the pictures, changed by the augmentation. */
  #part(pictures: readonly TrainingImage[], random: Philox): Part {
    const { preprocessing } = this.#model;
    const { width, height, scale, shift } = preprocessing;
    const placements = new Float32Array(pictures.length * PLACEMENT_COLUMNS);
    const controls = new Float32Array(pictures.length * augmentControls.columns);
    const regions: Uint8Array[] = [];
    let end = 0;
    pictures.forEach(({ pixels, landmarks }, row) => {
      const placed: Placed = place(pixels, landmarks, preprocessing);
      const { alignment } = placed;
      const inverse = changedMap(alignment.inverse, width, height, this.#augmentation, random);
      const { bytes, placement } = cutRegion({ pixels, alignment: { ...alignment, inverse } });
      placements.set([end / 4, ...placement], row * PLACEMENT_COLUMNS);
      controls.set(
        changedColours(width, height, scale, shift, this.#augmentation, random),
        row * augmentControls.columns,
      );
      regions.push(bytes);
      end += Math.ceil(bytes.length / 4) * 4;
    });
    const images = new Uint8Array(Math.max(4, end));
    let at = 0;
    for (const bytes of regions) {
      images.set(bytes, at);
      at += Math.ceil(bytes.length / 4) * 4;
    }
    return { images, placements, controls };
  }
}

/** The triplets found offline that a state holds. */
function minedOf({ tensors, metadata }: TrainingState): MinedTriplets | undefined {
  const list = tensors.get(OFFLINE);
  const [phase, from] = (metadata.get('offline') ?? '').split(' ').map(Number);
  if (!list || phase === undefined || from === undefined) return undefined;
  return { phase, from, triplets: Int32Array.from(list.data) };
}

const stageAt = (phase: CompletePhase, index: number): Stage =>
  phase.stages[Math.min(index, phase.stages.length - 1)] as Stage;

const chosen = (plan: Plan, inputs: Inputs): Inputs => {
  const names = new Set(plan.inputs);
  return Object.fromEntries(Object.entries(inputs).filter(([name]) => names.has(name)));
};

/** Running mean and variance take their share of what a batch showed; `count` values a channel in each group (Torch's variance is unbiased). */
function assignRunning(graph: Graph, mean: Value, variance: Value, statistics: Value, count: number): void {
  graph.assign(mean, runningAverage(mean, statistics, { of: 'mean' }));
  graph.assign(
    variance,
    runningAverage(variance, statistics, { of: 'variance', factor: count / Math.max(1, count - 1) }),
  );
}

const SLOTS: Readonly<Record<CompletePhase['optimizer'], readonly string[]>> = {
  adagrad: ['accumulator'],
  adam: ['moment', 'secondMoment'],
  sgd: ['velocity'],
};

function update(phase: CompletePhase, parameter: Value, gradient: Value, settings: Value, gradientScale: Value): Value {
  const slot = (name: string) => parameter.graph.parameter(`optimizer/${name}/${parameter.name}`, parameter.shape);
  const common = { gradient, settings, gradientScale };
  switch (phase.optimizer) {
    case 'adagrad':
      return adagradUpdate(parameter, { ...common, accumulator: slot('accumulator') });
    case 'adam':
      return adamUpdate(parameter, { ...common, moment: slot('moment'), secondMoment: slot('secondMoment') });
    default:
      return sgdUpdate(parameter, { ...common, velocity: slot('velocity') });
  }
}

/** Run-time numbers of the updates. Adam: beta 0.9 and 0.999, epsilon 1e-8. */
function settingsOf(phase: CompletePhase, learningRate: number, within: number, average: number): Float32Array {
  const settings = new Float32Array(SETTINGS);
  const second = 0.999;
  settings[updateSettings.learningRate] = learningRate;
  settings[updateSettings.weightDecay] = phase.weightDecay;
  settings[updateSettings.momentum] = phase.momentum;
  settings[updateSettings.secondMomentum] = second;
  settings[updateSettings.epsilon] = phase.optimizer === 'adagrad' ? 1e-10 : 1e-8;
  settings[updateSettings.correction] = 1 / (1 - power(phase.momentum, within + 1));
  settings[updateSettings.secondCorrection] = 1 / (1 - power(second, within + 1));
  settings[updateSettings.average] = average;
  return settings;
}

/** base^exponent by repeated squaring: Math.pow may differ between runtimes. */
function power(base: number, exponent: number): number {
  let result = 1;
  for (let square = base, rest = exponent; rest > 0; rest = Math.floor(rest / 2), square *= square)
    if (rest % 2 === 1) result *= square;
  return result;
}

const ends = (finding: Finding, onCollapse: 'stop' | 'warn'): boolean =>
  finding.kind === 'not-finite' ||
  finding.kind === 'dead-gradient' ||
  (finding.kind === 'collapse' && onCollapse === 'stop');
