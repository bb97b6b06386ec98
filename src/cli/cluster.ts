import { copyFile, mkdir, readdir, symlink } from 'node:fs/promises';
import { basename, extname, join, resolve } from 'node:path';
import { FaceNetError } from '../errors.ts';
import { type Clustering, type ClusterOptions, clusterVectors } from '../faces/clustering.ts';
import { difference } from '../faces/fingerprint.ts';
import type { FloatVectors } from '../faces/gallery/search.ts';
import type { FaceNetGPU, OperatingPoint } from '../node.ts';
import { type ClusterScore, scored, scoreSentence } from './cluster-score.ts';
import type { Context, PhotoOptions } from './context.ts';
import { embeddingsIn } from './embeddings-in.ts';
import { exitCodes } from './exit-code.ts';
import { embedPhotos, type Item, labelOf } from './face-reader.ts';
import { findPhotos } from './photos.ts';
import { clusterReport } from './report/cluster-report.ts';
import { checkReport, writeReport } from './report/page.ts';
import { Thumbnails } from './report/thumbnails.ts';
import { rowsBy } from './rows-by.ts';
import { counted, visible, withErrorObject } from './terminal.ts';
import { decisionOf, meaning } from './verify.ts';

export interface ClusterCommandOptions extends PhotoOptions {
  readonly method: 'agglomerative' | 'chinese-whispers' | 'dbscan';
  readonly linkage: 'average' | 'complete' | 'single';
  /** Squared L2, 0 to 4. */
  readonly threshold?: number;
  readonly far?: number;
  readonly minSize: number;
  readonly seed: number;
  readonly apartByPhoto?: boolean;
  readonly truth?: 'folder' | 'name';
  readonly report?: string;
  readonly link?: string;
}

/** A face with its vector, from a photo or from a row of a file of embeddings. */
export type ClusteredFace = Item & { readonly vector: Float32Array };

/** Largest file of embeddings that is read. */
const MAX_EMBEDDINGS_BYTES = 2 ** 31 - 1;
const isEmbeddingsFile = (name: string): boolean => /\.(safetensors|npy|csv)$/i.test(name);

/** `facenet cluster`: who belongs together. */
export async function cluster(
  context: Context,
  names: readonly string[],
  options: ClusterCommandOptions,
): Promise<number> {
  const { stdin, signal } = context;
  if (options.report !== undefined) await checkReport(options.report);
  if (options.link !== undefined) await emptyFolder(options.link);
  const reading = await context.reading(options);
  const photos = await findPhotos(
    names.filter((name) => !isEmbeddingsFile(name)),
    stdin,
    signal,
  );
  const files = await Promise.all(names.filter(isEmbeddingsFile).map(readFaces));
  const models = [...new Set(files.map(({ fingerprint }) => fingerprint))];
  if (photos.length === 0 && options.threshold !== undefined) {
    if (models.length > 1)
      throw new FaceNetError(
        'mismatch',
        `cluster: embeddings of one model, got those of ${models.map((name) => name || 'a model that is not named').join(' and ')}. Cluster them apart.`,
      );
    return answer(context, options, files.flatMap(facesOf), [], undefined, { threshold: options.threshold });
  }
  return context.withModel(async (net) => {
    const point = net.operatingPoint(decisionOf(options));
    const other = models.find((fingerprint) => !net.isOwn(fingerprint));
    if (other !== undefined) {
      throw new FaceNetError(
        'mismatch',
        `cluster: embeddings must be those of this model: ${other === '' ? 'they name none' : difference(net.fingerprint, other)}. Name their model by --model, or give them alone with --threshold.`,
      );
    }
    const faces = files.flatMap(facesOf);
    const skipped: (Item & { error: FaceNetError })[] = [];
    const base = faces.length;
    for await (const { vector, error, ...item } of embedPhotos(net, photos, reading, context)) {
      const about = { ...item, index: base + item.index };
      if (error) {
        skipped.push({ ...about, error });
        context.terminal.warn(`left out: ${error.message}`);
      } else faces.push({ ...about, vector });
    }
    const thumbnails = new Thumbnails(net, reading, photos);
    return answer(context, options, faces, skipped, { net, thumbnails }, { threshold: point.threshold, point });
  });
}

async function answer(
  context: Context,
  options: ClusterCommandOptions,
  faces: readonly ClusteredFace[],
  skipped: readonly (Item & { error: FaceNetError })[],
  model: { net: FaceNetGPU; thumbnails: Thumbnails } | undefined,
  line: { threshold: number; point?: OperatingPoint },
): Promise<number> {
  const { terminal, signal } = context;
  const { method, linkage, minSize, seed, apartByPhoto, report, link } = options;
  const counter = terminal.counter('compared', faces.length);
  const clusterOptions: ClusterOptions = {
    method,
    linkage,
    minSize,
    seed,
    threshold: line.threshold,
    ...(apartByPhoto && { apart: facesOfOnePhoto(faces) }),
    signal,
    pause: () => new Promise((done) => setImmediate(done)),
  };
  const start = performance.now();
  let found: Clustering;
  try {
    const vectors = vectorsOf(faces);
    if (model) {
      const { net } = model;
      const embeddings = { ...vectors, fingerprint: net.fingerprint, indices: new Uint32Array(0), skipped: [] };
      found = await net.cluster(embeddings, { ...clusterOptions, onProgress: ({ done }) => counter.update(done) });
    } else found = await clusterVectors(vectors, { ...clusterOptions, onProgress: (done) => counter.update(done) });
  } finally {
    counter.stop();
  }
  const seconds = ((performance.now() - start) / 1000).toFixed(2);
  const score = options.truth === undefined ? undefined : scored(found.groups, faces, options.truth);
  const alone = found.groups.filter((group) => group < 0).length;
  const items = faces.map(({ vector: _, ...item }, row) => ({ ...item, group: found.groups[row] as number }));
  const document = {
    schema: 'facenet/cluster@1',
    method,
    ...(method === 'agglomerative' && { linkage }),
    ...line,
    minSize,
    groups: found.count,
    alone,
    ...(score && { score }),
    faces: items,
    representatives: found.representatives.map((row) => faces[row]?.index ?? -1),
    uncertain: found.uncertain.map(({ a, b, distance }) => ({
      a: (faces[a] as ClusteredFace).index,
      b: (faces[b] as ClusteredFace).index,
      distance,
    })),
    skipped: skipped.map(withErrorObject),
  };
  if (link !== undefined) await linkGroups(link, items);
  if (report !== undefined) {
    const html = await clusterReport({ faces, found, score, line, options, thumbnails: model?.thumbnails });
    await writeReport(report, html, document);
  }
  if (terminal.format === 'json') terminal.document(document);
  else if (terminal.format === 'jsonl') {
    for (const item of items) terminal.line(item);
    for (const item of skipped) terminal.line(withErrorObject(item));
  } else terminal.text(groupsText(items, found, score));
  terminal.note(
    `${counted(faces.length, 'face')} in ${seconds} s: ${counted(found.count, 'group')} of ${minSize} and more, ${counted(alone, 'face')} in none, ${counted(found.uncertain.length, 'uncertain pair')}. ${line.point ? meaning(line.point) : ''}`.trimEnd(),
  );
  return skipped.length > 0 ? exitCodes.skipped : exitCodes.done;
}

/** A line a face, groups in order, the faces of none last. */
function groupsText(
  items: readonly (Item & { group: number })[],
  found: Clustering,
  score: ClusterScore | undefined,
): string {
  const order = [...items].sort((a, b) => {
    const [x, y] = [a, b].map(({ group }) => (group < 0 ? Number.POSITIVE_INFINITY : group)) as [number, number];
    return x === y ? a.index - b.index : x - y;
  });
  const lines = order.map(({ group, ...item }) => `${group < 0 ? '-' : group}\t${visible(labelOf(item))}`);
  lines.push(counted(found.count, 'group'));
  if (score) lines.push(scoreSentence(score));
  return lines.join('\n');
}

interface EmbeddedFile {
  readonly fingerprint: string;
  readonly vectors: readonly Float32Array[];
  readonly about: readonly { image: string; name?: string; face: number }[];
}

async function readFaces(path: string): Promise<EmbeddedFile> {
  const file = await embeddingsIn(path, MAX_EMBEDDINGS_BYTES);
  const { vectors, count, dimensions, paths, labels, fingerprint } = file;
  // Rows of one photo are its faces, in order.
  const seen = new Map<string, number>();
  const about = Array.from({ length: count }, (_, row) => {
    const image = paths?.[row] ?? `${path}:${row}`;
    const face = seen.get(image) ?? 0;
    seen.set(image, face + 1);
    const name = labels?.[row];
    return { image, face, ...(name !== undefined && name !== '' && { name }) };
  });
  return {
    fingerprint,
    about,
    vectors: Array.from({ length: count }, (_, row) => vectors.subarray(row * dimensions, (row + 1) * dimensions)),
  };
}

const facesOf = ({ vectors, about }: EmbeddedFile, file: number, files: readonly EmbeddedFile[]): ClusteredFace[] => {
  const base = files.slice(0, file).reduce((sum, { vectors }) => sum + vectors.length, 0);
  return vectors.map((vector, row) => ({
    index: base + row,
    ...(about[row] as EmbeddedFile['about'][number]),
    vector,
  }));
};

function vectorsOf(faces: readonly ClusteredFace[]): FloatVectors {
  const dimensions = faces[0]?.vector.length ?? 1;
  const odd = faces.find(({ vector }) => vector.length !== dimensions);
  if (odd)
    throw new FaceNetError(
      'mismatch',
      `cluster: vectors of ${dimensions} numbers, got ${odd.vector.length} for ${odd.image}.`,
    );
  const data = new Float32Array(faces.length * dimensions);
  faces.forEach(({ vector }, row) => data.set(vector, row * dimensions));
  return { data, count: faces.length, dimensions };
}

function facesOfOnePhoto(faces: readonly ClusteredFace[]): number[][] {
  const byImage = rowsBy(faces.length, (row) => faces[row]?.image);
  return [...byImage.values()].filter((rows) => rows.length > 1);
}

async function emptyFolder(path: string): Promise<void> {
  const entries = await readdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new FaceNetError('input', `--link: a folder that can be made, got ${error.code} for ${path}. Name another.`);
  });
  if (entries.length > 0)
    throw new FaceNetError(
      'input',
      `--link: a new or empty folder, got ${entries.length} entries in ${path}. Name another.`,
    );
}

/** DIR/<group>/ with a link to each photo; a copy where the system makes no links. */
async function linkGroups(folder: string, items: readonly (Item & { group: number })[]): Promise<void> {
  const used = new Set<string>();
  const linked = new Set<string>();
  for (const { image, group } of items) {
    const key = `${group}\0${image}`;
    if (group < 0 || image === '-' || linked.has(key)) continue;
    linked.add(key);
    const place = join(folder, String(group).padStart(4, '0'));
    await mkdir(place, { recursive: true });
    const [stem, ending] = [basename(image, extname(image)), extname(image)];
    let name = join(place, `${stem}${ending}`);
    for (let n = 2; used.has(name); n++) name = join(place, `${stem}-${n}${ending}`);
    used.add(name);
    try {
      await symlink(resolve(image), name, 'file');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'EPERM') await copyFile(image, name);
      else
        throw new FaceNetError(
          'input',
          `--link: a folder that can be written, got ${(cause as NodeJS.ErrnoException).code} for ${name}.`,
          {
            cause,
          },
        );
    }
  }
}
