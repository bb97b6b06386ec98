import { readFile, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { FaceNetError } from '../errors.ts';
import { readCheckpoint } from '../io/checkpoint.ts';
import { removeUnfinished, replaceFile } from '../io/node/atomic-file.ts';
import { peopleDataset } from '../io/node/folder-dataset.ts';
import type {
  FaceNetGPU,
  FolderDataset,
  HeldOutFigures,
  LossName,
  MinerName,
  NetworkName,
  TrainPhase,
  TrainStep,
} from '../node.ts';
import { trainingReport } from '../train/report.ts';
import { type Targets, whitenedTargets } from '../train/whitening.ts';
import type { Context } from './context.ts';
import { embeddingsIn } from './embeddings-in.ts';
import { exitCodes } from './exit-code.ts';
import { readPhases } from './phases-file.ts';

export interface TrainCommandOptions {
  readonly network: NetworkName;
  readonly from?: string;
  readonly width: number;
  readonly size?: number;
  readonly dimensions?: number;
  readonly lrn: boolean;
  readonly loss: LossName;
  readonly miner: MinerName;
  readonly margin: number;
  readonly people: number;
  readonly perPerson: number;
  readonly extraNegatives: number;
  readonly microBatch?: number;
  readonly optimizer: 'adagrad' | 'adam' | 'sgd';
  readonly learningRate?: number;
  readonly schedule: 'constant' | 'cosine';
  readonly warmup: number;
  readonly weightDecay: number;
  readonly clipNorm: number;
  readonly ema?: number;
  readonly offlineEvery: number;
  readonly offlineBatches: number;
  readonly steps: number;
  readonly phases?: string;
  readonly teacher?: string;
  readonly validate?: string;
  readonly evaluateEvery: number;
  readonly onCollapse: 'stop' | 'warn';
  readonly seed: number;
  readonly augment: boolean;
  readonly checkpoint?: string;
  readonly every: number;
  readonly resume?: string;
  readonly out?: string;
  readonly half?: boolean;
  readonly licence?: string;
  readonly report?: string;
}

/** Largest file of target embeddings, in bytes: 1 GiB. */
const MAX_TEACHER_BYTES = 2 ** 30;
/** Lines of progress where standard error is no terminal. */
const PROGRESS_LINES = 20;

/**
 * `facenet train DIR`: trains a network on DIR/person/*.jpg. Everything that can be wrong is looked at before the first step. A run
 * that fails, or collapses, writes neither model nor checkpoint: what was written at earlier steps stays. Ctrl-C writes the last whole step.
 */
export async function train(context: Context, folder: string, options: TrainCommandOptions): Promise<number> {
  const { terminal, signal } = context;
  const { out, checkpoint, report, resume, from, validate } = options;
  for (const [name, path] of Object.entries({ out, checkpoint, report })) await checkTarget(`--${name}`, path);
  if (out !== undefined && !out.endsWith('.safetensors')) {
    throw new FaceNetError('input', `--out: a file ending in .safetensors, got ${out}.`);
  }
  const phases = options.phases === undefined ? [phaseOf(options)] : await readPhases(options.phases);
  const total = phases.reduce((sum, { steps }) => sum + steps, 0);
  const data = await peopleDataset(folder);
  const heldOut = validate === undefined ? undefined : await peopleDataset(validate);
  const teacher = options.teacher === undefined ? undefined : await targetsIn(options.teacher, data);
  // What runs left that were killed while they wrote.
  for (const path of [checkpoint, report, out])
    if (path !== undefined) await removeUnfinished(dirname(path), basename(path));
  const resumed = resume === undefined ? undefined : await checkpointIn('--resume', resume);
  const { network, width, size, dimensions, lrn, seed } = options;
  const model = from ?? {
    network,
    seed,
    variant: { width, lrn },
    ...(size !== undefined && { size }),
    ...(dimensions !== undefined && { dimensions }),
  };

  return context.withModel(async (net) => {
    const steps: TrainStep[] = [];
    const about = `${data.paths.length} pictures of ${data.names.length} people in ${basename(folder)}`;
    const plan = describe(net, phases, options.seed);
    const held = heldOut && `held out: ${heldOut.paths.length} pictures of ${heldOut.names.length} people`;
    const writeCheckpoint = async () => {
      if (checkpoint !== undefined) await replaceFile(checkpoint, await net.checkpoint());
    };
    const writeReport = async () => {
      if (report === undefined) return;
      const lines = [plan, about, ...(held ? [held] : []), net.why];
      await replaceFile(
        report,
        new TextEncoder().encode(trainingReport(steps, { title: `Training of ${net.model.network}`, lines })),
      );
    };
    terminal.note(`facenet: ${plan}; ${about}; ${held ? `${held}; ` : ''}${net.why}`);
    const counter = terminal.counter('train', total);
    let stopped: string;
    try {
      const run = net.train(data, {
        ...(phases.length === 1 ? phases[0] : { phases }),
        ...(options.microBatch !== undefined && { microBatch: options.microBatch }),
        ...(options.ema !== undefined && { ema: options.ema }),
        ...(teacher && { teacher }),
        ...(heldOut && { validation: heldOut, evaluateEvery: options.evaluateEvery }),
        onCollapse: options.onCollapse,
        seed,
        ...(options.augment ? {} : { augment: false }),
        ...(resumed && { resume: resumed }),
        signal,
      });
      for (;;) {
        const next = await run.next();
        if (next.done) {
          ({ stopped } = next.value);
          break;
        }
        const step = next.value;
        steps.push(step);
        counter.update(step.step);
        if (step.warning !== undefined) terminal.warn(step.warning);
        if (terminal.format === 'jsonl') terminal.line({ ...step });
        if (isDue(step.step, total)) terminal.note(textOf(step, total));
        if (step.validation) terminal.note(heldOutText(step.step, step.validation));
        if (step.suspect !== true && step.step % options.every === 0 && step.step < total) {
          await writeCheckpoint();
          await writeReport();
        }
      }
    } finally {
      counter.stop();
    }
    await writeReport();
    if (stopped === 'collapsed') {
      throw new FaceNetError(
        'model',
        `train: ended. ${steps.at(-1)?.warning ?? ''} Nothing was written for this step.`,
      );
    }
    await writeCheckpoint();
    if (stopped === 'aborted') {
      const kept = checkpoint === undefined ? 'nothing was kept; --checkpoint FILE keeps it' : `${checkpoint} holds it`;
      throw new FaceNetError('aborted', `train: stopped after step ${steps.at(-1)?.step ?? 0}: ${kept}.`);
    }
    if (out !== undefined) {
      const card = {
        weights: options.half ? ('float16' as const) : ('float32' as const),
        trainedOn: about,
        licence: options.licence ?? 'not stated',
        source: `facenet train: ${plan}`,
        ...(options.ema !== undefined && { average: true }),
      };
      await replaceFile(out, await net.save(card));
    }
    answer(context, { ...options, steps: total }, steps, net);
    return exitCodes.done;
  }, model);
}

/** The only phase, from the options. */
function phaseOf(options: TrainCommandOptions): TrainPhase {
  const { loss, miner, margin, people, perPerson, extraNegatives, optimizer, learningRate, steps } = options;
  const { schedule, warmup, weightDecay, clipNorm, offlineEvery, offlineBatches } = options;
  return {
    loss,
    miner,
    margin,
    people,
    perPerson,
    extraNegatives,
    optimizer,
    schedule,
    warmup,
    weightDecay,
    clipNorm,
    steps,
    ...(learningRate !== undefined && { learningRate }),
    ...(miner === 'offline-hardest' && { offline: { every: offlineEvery, batches: offlineBatches } }),
  };
}

function describe(net: FaceNetGPU, phases: readonly TrainPhase[], seed: number): string {
  const { network, parameters, input } = net.model;
  const texts = phases.map((phase) => {
    const { loss = 'triplet', miner = 'semi-hard', curriculum, margin = 0.2, optimizer = 'adagrad', steps } = phase;
    const { people = 45, perPerson = 40, extraNegatives = 0 } = phase;
    const miners = curriculum ? curriculum.map((stage) => stage.miner).join(', then ') : miner;
    const batch = `${people} x ${perPerson}${extraNegatives > 0 ? ` + ${extraNegatives}` : ''}`;
    const losses = typeof loss === 'string' ? loss : Object.keys(loss).join(' and ');
    return `${losses}, ${miners}, margin ${margin}, batches of ${batch}, ${optimizer}, ${steps} steps`;
  });
  return `${network} (${parameters} parameters, ${input.width} x ${input.height}), ${texts.join('; then ')}, seed ${seed}`;
}

/** Half-whitened targets for the pictures of a set, out of a file of embeddings: rows are found by folder and name of the picture. */
async function targetsIn(path: string, data: FolderDataset): Promise<Targets> {
  const { vectors, dimensions, paths } = await embeddingsIn(path, MAX_TEACHER_BYTES);
  if (paths === undefined)
    throw new FaceNetError('input', `--teacher: embeddings with the paths of their pictures, got none in ${path}.`);
  const tail = (name: string) => name.replaceAll('\\', '/').split('/').slice(-2).join('/');
  const rows = new Map(paths.map((name, row) => [tail(name), row]));
  const chosen = new Float32Array(data.paths.length * dimensions);
  data.paths.forEach((name, index) => {
    const row = rows.get(tail(name));
    if (row === undefined)
      throw new FaceNetError('input', `--teacher: an embedding of every picture, got none of ${name} in ${path}.`);
    chosen.set(vectors.subarray(row * dimensions, (row + 1) * dimensions), index * dimensions);
  });
  return whitenedTargets(chosen, dimensions);
}

const isDue = (step: number, total: number): boolean =>
  step === 1 || step === total || step % Math.ceil(total / PROGRESS_LINES) === 0;

function textOf(
  { step, loss, activeFraction, meanPositive, meanNegative, gradientNorm, milliseconds }: TrainStep,
  total: number,
): string {
  return `step ${step}/${total}  loss ${loss.toFixed(4)}  active ${activeFraction.toFixed(2)}  positive ${meanPositive.toFixed(3)}  negative ${meanNegative.toFixed(3)}  gradient ${gradientNorm.toPrecision(3)}  ${Math.round(milliseconds)} ms`;
}

function heldOutText(step: number, { accuracy, val, far, trainingAccuracy }: HeldOutFigures): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  return `step ${step}  held out: accuracy ${percent(accuracy)}, VAL ${percent(val)} at FAR ${far}; people trained on: accuracy ${percent(trainingAccuracy)}`;
}

function answer(
  { terminal }: Context,
  options: TrainCommandOptions,
  steps: readonly TrainStep[],
  net: FaceNetGPU,
): void {
  const { out, checkpoint, report } = options;
  const last = steps.at(-1);
  const files = {
    ...(out !== undefined && { out }),
    ...(checkpoint !== undefined && { checkpoint }),
    ...(report !== undefined && { report }),
  };
  if (terminal.format === 'json') {
    terminal.document({
      schema: 'facenet/train@1',
      network: net.model.network,
      backend: net.backend,
      steps: options.steps,
      seed: options.seed,
      ...files,
      ...(last && { last }),
    });
  } else if (terminal.format === 'text') {
    if (last)
      terminal.text(
        `${options.steps} steps; last loss ${last.loss.toFixed(4)}, positive ${last.meanPositive.toFixed(3)}, negative ${last.meanNegative.toFixed(3)}`,
      );
    for (const [name, path] of Object.entries(files)) terminal.text(`${name}: ${path}`);
  }
}

/** Hours of training must not end in a folder that is not there. */
async function checkTarget(option: string, path: string | undefined): Promise<void> {
  if (path === undefined) return;
  const folder = await stat(dirname(path)).catch(() => undefined);
  const there = await stat(path).catch(() => undefined);
  if (!folder?.isDirectory() || there?.isDirectory()) {
    throw new FaceNetError('input', `${option}: a file in a folder that exists, got ${path}. Make the folder first.`);
  }
}

async function checkpointIn(option: string, path: string): Promise<Uint8Array> {
  let bytes: Uint8Array;
  try {
    bytes = new Uint8Array(await readFile(path));
  } catch (cause) {
    throw new FaceNetError(
      'input',
      `${option}: a file that can be read, got ${path} (${(cause as NodeJS.ErrnoException).code ?? 'unknown'}).`,
      { cause },
    );
  }
  // Looked at here for the sake of the path in messages, and before anything is loaded.
  readCheckpoint(bytes, path);
  return bytes;
}
