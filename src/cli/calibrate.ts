import { basename } from 'node:path';
import { FaceNetError } from '../errors.ts';
import { calibrate as operatingPointFor } from '../faces/evaluation/calibration.ts';
import { identified } from '../faces/evaluation/pairs.ts';
import { pairDistances } from '../faces/evaluation/rates.ts';
import { readModelFile, writeModelFile } from '../io/model-file.ts';
import { replaceFile } from '../io/node/atomic-file.ts';
import { readWholeFile } from '../io/node/image-files.ts';
import type { OperatingPoint } from '../node.ts';
import type { Context, PhotoOptions } from './context.ts';
import { exitCodes } from './exit-code.ts';
import { measurePairs, pairLine, readPairList } from './pair-list.ts';
import { meaning } from './verify.ts';

export interface CalibrateCommandOptions extends PhotoOptions {
  readonly pairs: string;
  readonly images: string;
  readonly far: number;
  /** Stores the point in the model file. */
  readonly write?: boolean;
}

const MAX_MODEL_BYTES = 2 ** 31 - 1;

/** `facenet calibrate`: the threshold for a false accept rate on one's own pairs; `--write` stores it in the model file. */
export async function calibrate(context: Context, options: CalibrateCommandOptions): Promise<number> {
  const { terminal } = context;
  const { images, far, write = false } = options;
  const path = context.modelName;
  if (write) {
    if (!/[/\\.]/.test(path))
      throw new FaceNetError(
        'input',
        `--write: a model file, got the packaged model ${path}. Copy it and give --model FILE.`,
      );
    readModelFile(await readWholeFile(path, path, MAX_MODEL_BYTES), path);
  }
  const reading = await context.reading(options);
  const list = await readPairList(options.pairs, images, context);
  return context.withModel(async (net) => {
    const measured = await measurePairs(net, list, images, reading, context);
    const usable = measured.filter((pair): pair is typeof pair & { distance: number } => pair.distance !== null);
    const of = (same: boolean) => usable.filter((pair) => pair.same === same).map(({ distance }) => distance);
    const people = identified(usable);
    const source = `${basename(options.pairs)}: ${usable.length} pairs`;
    const point = operatingPointFor(pairDistances(of(true), of(false)), { far, source, ...(people && { people }) });
    if (write) await store(path, point);
    const skipped = measured.filter(({ error }) => error);
    if (terminal.format === 'text') {
      terminal.text(`threshold ${point.threshold.toFixed(4)}. ${meaning(point)}${write ? `\nwritten to ${path}` : ''}`);
    } else {
      const document = {
        schema: 'facenet/calibrate@1',
        point,
        model: net.model.name,
        fingerprint: net.fingerprint,
        written: write ? path : null,
        skipped: skipped.map(pairLine),
      };
      if (terminal.format === 'json') terminal.document(document);
      else terminal.line(document);
    }
    if (point.note !== undefined) terminal.warn(point.note);
    return skipped.length > 0 ? exitCodes.skipped : exitCodes.done;
  });
}

/** The point takes the place of one that was fitted for the same rate; weights and all else stay byte for byte. */
async function store(path: string, point: OperatingPoint): Promise<void> {
  if (point.threshold < 0)
    throw new FaceNetError(
      'input',
      `--write: a threshold of 0 or more, got ${point.threshold}: two people of the list have distance 0. Check the pairs.`,
    );
  const file = readModelFile(await readWholeFile(path, path, MAX_MODEL_BYTES), path);
  const others = file.metadata.operatingPoints.filter((other) => (other.targetFar ?? other.far) !== point.targetFar);
  const metadata = { ...file.metadata, operatingPoints: [...others, point] };
  await replaceFile(path, writeModelFile({ ...file, metadata }));
}
