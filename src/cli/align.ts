import { mkdir } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { PNG } from 'pngjs';
import { FaceNetError } from '../errors.ts';
import { replaceFile } from '../io/node/atomic-file.ts';
import type { Pixels } from '../node.ts';
import type { Context, PhotoOptions } from './context.ts';
import { exitCodes } from './exit-code.ts';
import { FaceReader, type Item, named } from './face-reader.ts';
import { findPhotos } from './photos.ts';
import { withErrorObject } from './terminal.ts';

export interface AlignOptions extends PhotoOptions {
  /** A file ending in .png for a single face, else a folder. */
  readonly out: string;
}

/** `facenet align`: writes what the model would see of every face, as PNG. */
export async function align(context: Context, names: readonly string[], options: AlignOptions): Promise<number> {
  const { terminal, signal, stdin } = context;
  const { out } = options;
  const reading = await context.reading(options);
  const photos = await findPhotos(names, stdin, signal);
  const single = /\.png$/i.test(out);
  return context.withModel(async (net) => {
    const reader = new FaceReader(photos, net, reading, (text) => terminal.warn(text));
    const crops: (Item & { file: string; width: number; height: number })[] = [];
    const skipped: (Item & { error: FaceNetError })[] = [];
    const used = new Set<string>();
    let handedOut = 0;
    if (!single) await mkdir(out, { recursive: true });
    for await (const face of reader.faces()) {
      if (signal.aborted) throw new FaceNetError('aborted', 'align: stopped.');
      const item = reader.handedOut(handedOut++);
      try {
        const crop = await net.align(face);
        if (single && crops.length > 0)
          throw new FaceNetError('input', `--out: a folder for several faces, got ${out}. Name a folder.`);
        const file = single ? out : join(out, fileName(item, used));
        await replaceFile(file, png(crop));
        crops.push({ ...item, file, width: crop.width, height: crop.height });
        if (terminal.format === 'text') terminal.text(file);
        else if (terminal.format === 'jsonl') terminal.line(crops.at(-1) as object);
      } catch (error) {
        const bad =
          error instanceof FaceNetError &&
          (error.code === 'image' || error.code === 'input') &&
          !/^--out/.test(error.message);
        if (!bad) throw error;
        const failure = named(error, item);
        if (!reading.skipBad) throw failure;
        skipped.push({ ...item, error: failure });
      }
    }
    for (const item of reader.items) {
      const error = reader.failureOf(item);
      if (error) skipped.push({ ...item, error });
    }
    skipped.sort((a, b) => a.index - b.index);
    for (const item of skipped) {
      terminal.warn(`left out: ${item.error.message}`);
      if (terminal.format === 'jsonl') terminal.line(withErrorObject(item));
    }
    if (terminal.format === 'json') {
      const { name, input } = net.model;
      terminal.document({
        schema: 'facenet/align@1',
        model: name,
        template: input.template,
        crops,
        skipped: skipped.map(withErrorObject),
      });
    }
    return skipped.length > 0 ? exitCodes.skipped : exitCodes.done;
  });
}

/** A name that no other crop of this run has. */
export function fileName({ image, face = 0, name }: Pick<Item, 'image' | 'face' | 'name'>, used: Set<string>): string {
  const stem = image === '-' ? 'face' : basename(image, extname(image));
  const label = (name ?? (face > 0 ? String(face) : '')).replaceAll(/[^\w.-]/g, '_');
  const start = label === '' ? stem : `${stem}-${label}`;
  let file = `${start}.png`;
  for (let n = 2; used.has(file); n++) file = `${start}-${n}.png`;
  used.add(file);
  return file;
}

/** An RGB PNG. */
export function png({ data, width, height }: Pixels): Uint8Array {
  const image = new PNG({ width, height, colorType: 2, inputColorType: 2, inputHasAlpha: false });
  image.data = Buffer.from(data);
  return PNG.sync.write(image, { colorType: 2, inputColorType: 2, inputHasAlpha: false });
}
