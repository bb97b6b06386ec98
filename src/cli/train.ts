import { readFile, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { FaceNetError } from '../errors.ts';
import { readCheckpoint } from '../io/checkpoint.ts';
import { replaceFile } from '../io/node/atomic-file.ts';
import {
  type FaceNetGPU,
  folderDataset,
  type LossName,
  type MinerName,
  type NetworkName,
  type TrainStep,
} from '../node.ts';
import { trainingReport } from '../train/report.ts';
import type { Context } from './context.ts';
import { exitCodes } from './exit-code.ts';

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
  readonly steps: number;
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

/** Lines of progress where standard error is no terminal. */
const PROGRESS_LINES = 20;

/**
 * `facenet train DIR`: trains a network on DIR/person/*.jpg. Everything that can be wrong is looked at before the first step. A run
 * that fails, or collapses, writes neither model nor checkpoint: what was written at earlier steps stays. Ctrl-C writes the last whole step.
 */
export async function train(context: Context, folder: string, options: TrainCommandOptions): Promise<number> {
  const { terminal, signal } = context;
  const { out, checkpoint, report, resume, from } = options;
  for (const [name, path] of Object.entries({ out, checkpoint, report })) await checkTarget(`--${name}`, path);
  if (out !== undefined && !out.endsWith('.safetensors')) {
    throw new FaceNetError('input', `--out: a file ending in .safetensors, got ${out}.`);
  }
  const data = await folderDataset(folder);
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
    const writeCheckpoint = async () => {
      if (checkpoint !== undefined) await replaceFile(checkpoint, await net.checkpoint());
    };
    const writeReport = async () => {
      if (report === undefined) return;
      const lines = [describe(net, options), about, net.why];
      await replaceFile(
        report,
        new TextEncoder().encode(trainingReport(steps, { title: `Training of ${net.model.network}`, lines })),
      );
    };
    terminal.note(`facenet: ${describe(net, options)}; ${about}; ${net.why}`);
    const counter = terminal.counter('train', options.steps);
    let stopped: string;
    try {
      const run = net.train(data, {
        ...phaseOf(options),
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
        if (isDue(step.step, options.steps)) terminal.note(textOf(step, options.steps));
        if (step.suspect !== true && step.step % options.every === 0 && step.step < options.steps) {
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
        source: `facenet train: ${describe(net, options)}`,
      };
      await replaceFile(out, await net.save(card));
    }
    answer(context, options, steps, net);
    return exitCodes.done;
  }, model);
}

function phaseOf(options: TrainCommandOptions) {
  const { loss, miner, margin, people, perPerson, extraNegatives, optimizer, learningRate, steps, microBatch } =
    options;
  return {
    loss,
    miner,
    margin,
    people,
    perPerson,
    extraNegatives,
    optimizer,
    steps,
    ...(learningRate !== undefined && { learningRate }),
    ...(microBatch !== undefined && { microBatch }),
  };
}

function describe(net: FaceNetGPU, options: TrainCommandOptions): string {
  const { network, parameters, input } = net.model;
  const { people, perPerson, extraNegatives, loss, miner, margin, optimizer, steps, seed } = options;
  const batch = `${people} x ${perPerson}${extraNegatives > 0 ? ` + ${extraNegatives}` : ''}`;
  return `${network} (${parameters} parameters, ${input.width} x ${input.height}), ${loss}, ${miner}, margin ${margin}, batches of ${batch}, ${optimizer}, ${steps} steps, seed ${seed}`;
}

const isDue = (step: number, total: number): boolean =>
  step === 1 || step === total || step % Math.ceil(total / PROGRESS_LINES) === 0;

function textOf(
  { step, loss, activeFraction, meanPositive, meanNegative, gradientNorm, milliseconds }: TrainStep,
  total: number,
): string {
  return `step ${step}/${total}  loss ${loss.toFixed(4)}  active ${activeFraction.toFixed(2)}  positive ${meanPositive.toFixed(3)}  negative ${meanNegative.toFixed(3)}  gradient ${gradientNorm.toPrecision(3)}  ${Math.round(milliseconds)} ms`;
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
