import { FaceNetError } from '../errors.ts';
import { type EmbeddingsFile, writeEmbeddings, writeEmbeddingsCsv, writeEmbeddingsNpy } from '../io/embeddings-file.ts';
import { replaceFile } from '../io/node/atomic-file.ts';
import type { FaceNetGPU } from '../node.ts';
import { type Context, digits, type PhotoOptions } from './context.ts';
import { exitCodes } from './exit-code.ts';
import { embedPhotos, type Item, labelOf, type Result } from './face-reader.ts';
import { findPhotos } from './photos.ts';
import { errorObject, withErrorObject } from './terminal.ts';

export interface EmbedOptions extends PhotoOptions {
  /** FILE.safetensors, .npy or .csv. */
  readonly out?: string;
}

/** `facenet embed`: a unit vector for every face. */
export async function embed(context: Context, names: readonly string[], options: EmbedOptions): Promise<number> {
  const { terminal, signal, stdin } = context;
  const { out } = options;
  if (out !== undefined) checkOutput(out);
  const reading = await context.reading(options);
  const photos = await findPhotos(names, stdin, signal);
  return context.withModel(async (net) => {
    const done: (Item & { vector: Float32Array })[] = [];
    const skipped: (Item & { error: FaceNetError })[] = [];
    for await (const result of embedPhotos(net, photos, reading, context)) {
      if (result.error) {
        skipped.push(result);
        if (terminal.format !== 'jsonl') terminal.warn(`left out: ${result.error.message}`);
      } else if (out !== undefined || terminal.format === 'json') done.push(result);
      if (terminal.format === 'jsonl') terminal.line(lineOf(result, net));
      else if (terminal.format === 'text' && out === undefined && result.vector) terminal.text(textOf(result, context));
    }
    if (out !== undefined) {
      await save(out, done, net, reading.decoder ?? 'exact');
      if (terminal.format === 'text') terminal.text(`${out}: ${done.length} x ${net.dimensions}`);
    }
    if (terminal.format === 'json') {
      const { fingerprint, dimensions, backend } = net;
      terminal.document({
        schema: 'facenet/embed@1',
        model: net.model.name,
        fingerprint,
        dimensions,
        backend,
        ...(out !== undefined && { out }),
        faces: done.map(({ vector, ...item }) => ({
          ...item,
          ...(out === undefined && { embedding: digits(vector) }),
        })),
        skipped: skipped.map(withErrorObject),
      });
    }
    return skipped.length > 0 ? exitCodes.skipped : exitCodes.done;
  });
}

function lineOf({ vector, error, ...item }: Result, net: FaceNetGPU): object {
  return error
    ? { ...item, error: errorObject(error) }
    : { ...item, fingerprint: net.fingerprint, embedding: digits(vector) };
}

/** People see how it begins; programs get everything, tab-separated. */
function textOf({ vector, ...item }: Item & { vector: Float32Array }, { terminal }: Context): string {
  const label = labelOf(item);
  if (!terminal.interactive) return [label, ...digits(vector)].join('\t');
  const first = Array.from(vector.slice(0, 4), (value) => value.toFixed(4).padStart(7)).join(' ');
  return `${label}  ${terminal.style('dim', `${first} ... ${vector.length} numbers`)}`;
}

function checkOutput(path: string): void {
  if (!/\.(safetensors|npy|csv)$/.test(path)) {
    throw new FaceNetError(
      'input',
      `--out: a file ending in .safetensors, .npy or .csv, got ${path}. The ending chooses the format.`,
    );
  }
}

async function save(
  path: string,
  rows: readonly (Item & { vector: Float32Array })[],
  net: FaceNetGPU,
  decoder: string,
): Promise<void> {
  const vectors = new Float32Array(rows.length * net.dimensions);
  rows.forEach(({ vector }, row) => vectors.set(vector, row * net.dimensions));
  const labels = rows.map(({ name }) => name ?? '');
  const file: EmbeddingsFile = {
    vectors,
    count: rows.length,
    dimensions: net.dimensions,
    fingerprint: net.fingerprint,
    decoder,
    paths: rows.map(({ image }) => image),
    ...(labels.some((label) => label !== '') && { labels }),
  };
  if (path.endsWith('.safetensors')) return replaceFile(path, writeEmbeddings(file));
  const encoder = new TextEncoder();
  const [bytes, json] = path.endsWith('.npy')
    ? [writeEmbeddingsNpy(file).npy, writeEmbeddingsNpy(file).json]
    : [encoder.encode(writeEmbeddingsCsv(file).csv), writeEmbeddingsCsv(file).json];
  await replaceFile(path, bytes);
  // Beside it: fingerprint, labels and paths.
  await replaceFile(`${path}.json`, encoder.encode(json));
}
