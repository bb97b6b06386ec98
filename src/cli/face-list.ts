import { FaceNetError } from '../errors.ts';
import { parseCsv } from '../io/csv.ts';
import { readWholeFile } from '../io/node/image-files.ts';

type Point = readonly [x: number, y: number];

/** A face of a photo, from a list. */
export interface ListedFace {
  /** Pixels of the upright photo: 2 (eyes), 5 or 68 points. */
  readonly landmarks: readonly Point[];
  readonly name?: string;
}

/** Largest list that is read: 256 MiB. */
const MAX_LIST_BYTES = 2 ** 28;
const csvColumns = ['eye1', 'eye2', 'nose', 'mouth1', 'mouth2'];

/**
 * Faces by photo. A photo is found by its path or, where the list names it with fewer folders, by the end of its path:
 * `sample1.jpg` in the list stands for `photos/sample1.jpg`.
 */
export class FaceList {
  /** The file it came from. */
  readonly source: string;
  readonly #faces: ReadonlyMap<string, readonly ListedFace[]>;

  constructor(source: string, faces: ReadonlyMap<string, readonly ListedFace[]>) {
    this.source = source;
    this.#faces = faces;
  }

  /** @throws 'no-face' when the list knows none. */
  facesOf(path: string): readonly ListedFace[] {
    const parts = path.replaceAll('\\', '/').split('/');
    for (let from = 0; from < parts.length; from++) {
      const faces = this.#faces.get(parts.slice(from).join('/'));
      if (faces !== undefined && faces.length > 0) return faces;
    }
    throw new FaceNetError(
      'no-face',
      `${path}: a face in ${this.source}, got none. Add it there, or leave the photo out.`,
    );
  }
}

/**
 * Reads a list of faces: what `facenet detect` prints, { photos: [{ image, faces: [{ landmarks: [[x, y], ...], name? }] }] } or one photo a line,
 * or CSV with the columns file (or image), eye1_x, eye1_y, eye2_x, eye2_y and, if known, nose_x ... mouth2_y, a face a line.
 * @throws FaceNetError 'input' with the place of what is wrong.
 */
export async function readFaceList(path: string): Promise<FaceList> {
  const text = new TextDecoder().decode(await readWholeFile(path, path, MAX_LIST_BYTES)).replace(/^\ufeff/, '');
  const faces = new Map<string, ListedFace[]>();
  const add = (image: string, list: readonly ListedFace[]): void => {
    const key = image.replaceAll('\\', '/').replace(/^\.\//, '');
    faces.set(key, [...(faces.get(key) ?? []), ...list]);
  };
  if (/^\s*[[{]/.test(text)) for (const photo of photosOf(text, path)) add(...photoOf(photo, path));
  else for (const [image, face] of facesOfCsv(text, path)) add(image, [face]);
  return new FaceList(path, faces);
}

/** The photos of a document, of an array, or of lines of JSON. */
function photosOf(text: string, source: string): unknown[] {
  const parse = (part: string, line?: number): unknown => {
    try {
      return JSON.parse(part);
    } catch (cause) {
      const where = line === undefined ? '' : ` in line ${line}`;
      throw new FaceNetError('input', `${source}: JSON${where}, got other text. Write the list again.`, { cause });
    }
  };
  const lines = text.split(/\r?\n/).map((part, i) => ({ part, line: i + 1 }));
  const filled = lines.filter(({ part }) => part.trim() !== '');
  // One photo a line: each line is a whole object.
  if (filled.length > 1 && filled.every(({ part }) => /^\s*\{.*\}\s*$/.test(part)))
    return filled.map(({ part, line }) => parse(part, line));
  const document = parse(text);
  if (Array.isArray(document)) return document;
  const photos = member(document, 'photos');
  if (Array.isArray(photos)) return photos;
  if (member(document, 'image') !== undefined) return [document];
  throw new FaceNetError(
    'input',
    `${source}: { "photos": [{ "image", "faces" }] }, got an object without photos. Write the list again.`,
  );
}

function photoOf(photo: unknown, source: string): [string, ListedFace[]] {
  const image = member(photo, 'image');
  const faces = member(photo, 'faces');
  if (typeof image !== 'string' || !Array.isArray(faces)) {
    throw new FaceNetError(
      'input',
      `${source}: a photo has "image", a path, and "faces", a list; got ${brief(photo)}. Write the list again.`,
    );
  }
  return [
    image,
    faces.map((face: unknown, i) => {
      const name = member(face, 'name');
      const landmarks = member(face, 'landmarks');
      if (!Array.isArray(landmarks) || !landmarks.every(isPoint)) {
        throw new FaceNetError(
          'input',
          `${source}: face ${i} of ${image} has "landmarks", a list of [x, y] in pixels; got ${brief(landmarks)}. Write the list again.`,
          { index: i },
        );
      }
      return { landmarks, ...(typeof name === 'string' && { name }) };
    }),
  ];
}

function* facesOfCsv(text: string, source: string): Generator<[string, ListedFace]> {
  const rows = parseCsv(text, source);
  const header = (rows.next().value as string[] | undefined) ?? [];
  const image = header.findIndex((name) => name === 'file' || name === 'image');
  const columns = csvColumns.map((name) => [header.indexOf(`${name}_x`), header.indexOf(`${name}_y`)] as const);
  const present = columns.every(([x, y]) => x >= 0 && y >= 0) ? columns : columns.slice(0, 2);
  if (image < 0 || present.some(([x, y]) => x < 0 || y < 0)) {
    throw new FaceNetError(
      'input',
      `${source}: JSON, or CSV with the columns file, eye1_x, eye1_y, eye2_x, eye2_y; got a first line ${brief(header.join(','))}. Write the list again.`,
    );
  }
  let line = 1;
  for (const row of rows) {
    line++;
    // A photo in which nothing was found.
    if (present.every(([x]) => (row[x] ?? '') === '')) continue;
    const landmarks = present.map(([x, y]) => [numberOf(row[x]), numberOf(row[y])] as const);
    if (!landmarks.every(isPoint)) {
      throw new FaceNetError(
        'input',
        `${source}: numbers in the landmark columns, got others in line ${line}. Write the list again.`,
        { index: line },
      );
    }
    yield [row[image] as string, { landmarks }];
  }
}

const numberOf = (field: string | undefined): number =>
  field === undefined || field.trim() === '' ? Number.NaN : Number(field);

const isPoint = (point: unknown): point is Point =>
  Array.isArray(point) &&
  point.length === 2 &&
  point.every((value) => typeof value === 'number' && Number.isFinite(value));

function member(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined;
}

function brief(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}
