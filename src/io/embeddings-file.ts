/**
 * Files of embeddings: safetensors (everything in one file), .npy and .csv (for others' tools; what they cannot hold stands in a JSON beside
 * them). What is written comes back code point for code point and bit for bit.
 */
import { FaceNetError } from '../errors.ts';
import { csvLine, parseCsv } from './csv.ts';
import { readNpy, writeNpy } from './npy.ts';
import { quoteName, readSafetensors, type Tensor, toFloat32, writeSafetensors } from './safetensors.ts';

/** Version of the metadata. */
export const EMBEDDINGS_FORMAT = 'facenet-gpu/embeddings@1';

/** Embeddings and what belongs to them, row by row. */
export interface EmbeddingsFile {
  /** Row-major, count x dimensions, finite. */
  readonly vectors: Float32Array;
  readonly count: number;
  readonly dimensions: number;
  /** Names model and preprocessing; '' in files of others, which no gallery accepts unasked. */
  readonly fingerprint: string;
  /** One a row: who it is. */
  readonly labels?: readonly string[];
  /** One a row: which image it comes from. */
  readonly paths?: readonly string[];
  /** Which decoder read the images: 'exact', 'sharp', 'browser'. */
  readonly decoder?: string;
}

/** @throws FaceNetError 'input' for sizes that do not fit, labels or paths of another number, or values that are not finite. */
function check(file: EmbeddingsFile, source: string): EmbeddingsFile {
  const { vectors, count, dimensions, labels, paths } = file;
  const refuse = (rule: string, got: string): FaceNetError =>
    new FaceNetError('input', `${source}: ${rule}, got ${got}. Make the embeddings again.`);
  if (!Number.isSafeInteger(count) || count < 0 || !Number.isSafeInteger(dimensions) || dimensions < 1)
    throw refuse('count from 0 and dimensions from 1', `${count} x ${dimensions}`);
  if (vectors.length !== count * dimensions)
    throw refuse('count x dimensions values', `${vectors.length} for ${count} x ${dimensions}`);
  for (const [what, list] of [
    ['labels', labels],
    ['paths', paths],
  ] as const) {
    if (list !== undefined && list.length !== count)
      throw refuse(`as many ${what} as rows`, `${list.length} for ${count}`);
  }
  const bad = vectors.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw refuse('finite values', `${vectors[bad]} in row ${Math.floor(bad / dimensions)}`);
  return file;
}

/** Everything in one safetensors file: tensor `embeddings` [count, dimensions] F32, the rest as metadata. */
export function writeEmbeddings(file: EmbeddingsFile): Uint8Array {
  check(file, 'embeddings');
  const metadata = new Map([['format', EMBEDDINGS_FORMAT], ...describe(file)]);
  return writeSafetensors(
    new Map<string, Tensor>([
      ['embeddings', { dtype: 'F32', shape: [file.count, file.dimensions], data: file.vectors }],
    ]),
    metadata,
  );
}

/** Metadata of the parts that are there; lists as JSON. */
function describe({ fingerprint, labels, paths, decoder }: EmbeddingsFile): [string, string][] {
  const entries: [string, string | undefined][] = [
    ['fingerprint', fingerprint],
    ['labels', labels && JSON.stringify(labels)],
    ['paths', paths && JSON.stringify(paths)],
    ['decoder', decoder],
  ];
  return entries.filter((entry): entry is [string, string] => entry[1] !== undefined);
}

/**
 * Reads what `writeEmbeddings` wrote, or any safetensors file with one tensor `embeddings` [n, d] F32 or F16.
 * @throws FaceNetError 'model' for broken files and newer versions, 'input' for values that do not fit.
 */
export function readEmbeddings(bytes: Uint8Array, source = 'embeddings'): EmbeddingsFile {
  const { tensors, metadata } = readSafetensors(bytes, { source });
  const refuse = (rule: string, got: string): FaceNetError =>
    new FaceNetError('model', `${source}: ${rule}, got ${got}. Make the embeddings again.`);
  const format = metadata.get('format');
  if (format !== undefined && format !== EMBEDDINGS_FORMAT)
    throw refuse(`format ${EMBEDDINGS_FORMAT}`, quoteName(format));
  const tensor = tensors.get('embeddings');
  const [count, dimensions, ...more] = tensor?.shape ?? [];
  if (
    tensor === undefined ||
    count === undefined ||
    dimensions === undefined ||
    more.length > 0 ||
    (tensor.dtype !== 'F32' && tensor.dtype !== 'F16')
  ) {
    throw refuse(
      "a tensor 'embeddings' [n, d] of floats",
      tensor === undefined ? 'none' : `${tensor.dtype} [${tensor.shape.join(', ')}]`,
    );
  }
  const list = (key: string): { [key: string]: string[] } | undefined => {
    const text = metadata.get(key);
    return text === undefined ? undefined : { [key]: texts(parseJson(text, source), key, source) };
  };
  const decoder = metadata.get('decoder');
  return check(
    {
      vectors: toFloat32(tensor),
      count,
      dimensions,
      fingerprint: metadata.get('fingerprint') ?? '',
      ...list('labels'),
      ...list('paths'),
      ...(decoder !== undefined && { decoder }),
    },
    source,
  );
}

function parseJson(text: string, source: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new FaceNetError(
      'model',
      `${source}: labels and paths are JSON, got other text. Make the embeddings again.`,
      { cause },
    );
  }
}

function texts(value: unknown, key: string, source: string): string[] {
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) {
    throw new FaceNetError('model', `${source}: ${key} are a list of texts, got another. Make the embeddings again.`);
  }
  return value as string[];
}

/** A .npy array [count, dimensions] float32, and the text of the .json to put beside it. */
export function writeEmbeddingsNpy(file: EmbeddingsFile): { npy: Uint8Array; json: string } {
  check(file, 'embeddings');
  return {
    npy: writeNpy({ dtype: 'F32', shape: [file.count, file.dimensions], data: file.vectors }),
    json: sidecar(file),
  };
}

/** What a .npy or .csv cannot hold. */
function sidecar({ fingerprint, labels, paths, decoder }: EmbeddingsFile): string {
  return `${JSON.stringify({ format: EMBEDDINGS_FORMAT, fingerprint, labels, paths, decoder }, undefined, 1)}\n`;
}

/** @param json the text beside the array, if there is one. @throws FaceNetError as `readEmbeddings`. */
export function readEmbeddingsNpy(bytes: Uint8Array, json?: string, source = 'embeddings'): EmbeddingsFile {
  const tensor = readNpy(bytes, source).get('');
  const [count, dimensions, ...more] = tensor?.shape ?? [];
  if (
    tensor === undefined ||
    count === undefined ||
    dimensions === undefined ||
    more.length > 0 ||
    (tensor.dtype !== 'F32' && tensor.dtype !== 'F16')
  ) {
    throw new FaceNetError(
      'model',
      `${source}: an array [n, d] of floats, got ${tensor ? `${tensor.dtype} [${tensor.shape.join(', ')}]` : 'another'}. Save it again.`,
    );
  }
  return check(
    { vectors: toFloat32(tensor), count, dimensions, fingerprint: '', ...readSidecar(json, source) },
    source,
  );
}

function readSidecar(json: string | undefined, source: string): Partial<EmbeddingsFile> {
  if (json === undefined) return {};
  const value = parseJson(json, source);
  const member = (key: string): unknown =>
    typeof value === 'object' && value !== null && Object.hasOwn(value, key)
      ? (value as Record<string, unknown>)[key]
      : undefined;
  if (member('format') !== EMBEDDINGS_FORMAT)
    throw new FaceNetError(
      'model',
      `${source}: format ${EMBEDDINGS_FORMAT} in the JSON, got ${quoteName(String(member('format')))}. Use its own JSON.`,
    );
  const [fingerprint, decoder, labels, paths] = [
    member('fingerprint'),
    member('decoder'),
    member('labels'),
    member('paths'),
  ];
  if (typeof fingerprint !== 'string' || (decoder !== undefined && typeof decoder !== 'string'))
    throw new FaceNetError('model', `${source}: fingerprint and decoder are texts, got others. Use its own JSON.`);
  return {
    fingerprint,
    ...(labels !== undefined && { labels: texts(labels, 'labels', source) }),
    ...(paths !== undefined && { paths: texts(paths, 'paths', source) }),
    ...(decoder !== undefined && { decoder }),
  };
}

/**
 * CSV with a header line: `label` and `path` where there are any, then `e0`, `e1`, ... Each value has the digits that give back its float32.
 * The fingerprint stands in the JSON to put beside it.
 */
export function writeEmbeddingsCsv(file: EmbeddingsFile): { csv: string; json: string } {
  const { vectors, count, dimensions, labels, paths } = check(file, 'embeddings');
  const lines = [
    csvLine([
      ...(labels ? ['label'] : []),
      ...(paths ? ['path'] : []),
      ...Array.from({ length: dimensions }, (_, i) => `e${i}`),
    ]),
  ];
  for (let row = 0; row < count; row++) {
    const values = Array.from(vectors.subarray(row * dimensions, (row + 1) * dimensions), shortest);
    lines.push(
      csvLine([...(labels ? [labels[row] as string] : []), ...(paths ? [paths[row] as string] : []), ...values]),
    );
  }
  return { csv: lines.join(''), json: sidecar({ ...file, labels: undefined, paths: undefined } as EmbeddingsFile) };
}

/** Nine digits at most, which is what a float32 needs to come back. */
function shortest(value: number): string {
  if (Object.is(value, -0)) return '-0';
  for (let digits = 6; digits < 9; digits++) {
    const text = String(Number(value.toPrecision(digits)));
    if (Math.fround(Number(text)) === value) return text;
  }
  return String(Number(value.toPrecision(9)));
}

/** @param json the text beside the table, if there is one. @throws FaceNetError 'input' for rows or values that do not fit, 'model' for another JSON. */
export function readEmbeddingsCsv(text: string, json?: string, source = 'embeddings'): EmbeddingsFile {
  const refuse = (rule: string, got: string): FaceNetError =>
    new FaceNetError('input', `${source}: ${rule}, got ${got}. Write the table again.`);
  const rows = parseCsv(text, source);
  const head = rows.next().value as string[] | undefined;
  if (head === undefined) throw refuse('a header line', 'an empty file');
  const labelAt = head.indexOf('label');
  const pathAt = head.indexOf('path');
  const first = head.indexOf('e0');
  const dimensions = head.length - first;
  const ordered =
    first >= 0 && head.every((name, i) => (i < first ? !/^e[0-9]+$/.test(name) : name === `e${i - first}`));
  if (!ordered || new Set(head).size !== head.length)
    throw refuse('columns e0, e1, ... to the last', quoteName(head.join(',')));
  const labels: string[] = [];
  const paths: string[] = [];
  const values: number[] = [];
  let count = 0;
  for (const row of rows) {
    count++;
    if (row.length !== head.length) throw refuse(`${head.length} fields in every row`, `${row.length} in row ${count}`);
    if (labelAt >= 0) labels.push(row[labelAt] as string);
    if (pathAt >= 0) paths.push(row[pathAt] as string);
    for (const field of row.slice(first)) {
      if (!/^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?\s*$/.test(field))
        throw refuse('numbers', `${quoteName(field)} in row ${count}`);
      values.push(Number(field));
    }
  }
  return check(
    {
      fingerprint: '',
      ...readSidecar(json, source),
      vectors: Float32Array.from(values),
      count,
      dimensions,
      ...(labelAt >= 0 && { labels }),
      ...(pathAt >= 0 && { paths }),
    },
    source,
  );
}
