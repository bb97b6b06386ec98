// npm start: who is who on six photos that come with a development package.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { FaceNetError } from '../errors.ts';
import { distanceMatrix } from '../faces/distance.ts';
import { faceQuality } from '../faces/quality.ts';
import { replaceFile } from '../io/node/atomic-file.ts';
import { ImageReader } from '../io/node/image-files.ts';
import {
  type DetectedFace,
  type Embeddings,
  FaceDetector,
  FaceNetGPU,
  type OperatingPoint,
  type Pixels,
} from '../node.ts';
import { png } from './align.ts';
import { exitCodeOf, exitCodes } from './exit-code.ts';
import { htmlTable, page } from './report/html.ts';
import { Terminal } from './terminal.ts';

/** A face of the demonstration. */
interface Sample {
  /** Number of the photo and a letter, such as '3b'; letters from left to right. */
  readonly name: string;
  readonly photo: string;
  readonly face: { readonly image: Pixels } & DetectedFace;
}

const photoNames = ['sample1.jpg', 'sample2.jpg', 'sample3.jpg', 'sample4.jpg', 'sample5.jpg', 'sample6.jpg'] as const;
const letters = 'abcdefghijklmnopqrstuvwxyz';

/** The repository: above dist/, or two above src/cli/. */
function repository(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const found = [join(here, '..'), join(here, '..', '..')].find((folder) =>
    existsSync(photoPath(folder, photoNames[0])),
  );
  if (found === undefined)
    throw new FaceNetError(
      'input',
      'start: the repository with its development packages, got the package alone. Clone the repository and run npm start.',
    );
  return found;
}

const photoPath = (root: string, photo: string): string =>
  join(root, 'node_modules', '@vladmandic', 'face-api', 'demo', photo);

/** The faces of all photos, found by the tiny face detector. */
async function findFaces(root: string, detector: FaceDetector): Promise<Sample[]> {
  const reader = new ImageReader();
  const samples: Sample[] = [];
  for (const [index, photo] of photoNames.entries()) {
    const image = await reader.read(photoPath(root, photo));
    const found = [...(await detector.detect(image))].sort((a, b) => a.box.x - b.box.x);
    for (const [face, place] of found.entries())
      samples.push({ name: `${index + 1}${letters[face] ?? `-${face}`}`, photo, face: { image, ...place } });
  }
  return samples;
}

/** The lower triangle of distances in hundredths; what is accepted stands out. */
function matrixText(
  faces: readonly Sample[],
  distances: Float64Array,
  { threshold }: OperatingPoint,
  terminal: Terminal,
): string {
  const lines: string[] = [];
  const startsPhoto = (i: number) => i > 0 && faces[i]?.photo !== faces[i - 1]?.photo;
  /** A wider column where a new photo begins. */
  const gap = (i: number) => (startsPhoto(i) ? '  ' : ' ');
  const columns = faces.slice(0, -1);
  lines.push(
    `    ${columns
      .map(({ name }, i) => `${gap(i).slice(1)}${name.padStart(4)} `)
      .join('')
      .trimEnd()}`,
  );
  faces.forEach(({ name }, row) => {
    if (row === 0) return;
    if (startsPhoto(row)) lines.push('');
    const cells = faces.slice(0, row).map((_, column) => {
      const distance = distances[row * faces.length + column] as number;
      const text = distance.toFixed(2).replace(/^0/, '');
      return (
        gap(column).slice(1) + (distance <= threshold ? terminal.style(['green', 'bold'], ` ${text}*`) : ` ${text} `)
      );
    });
    lines.push(`  ${name}${cells.join('').trimEnd()}`);
  });
  return lines.join('\n');
}

function pairsText(faces: readonly Sample[], distances: Float64Array, { threshold }: OperatingPoint): string {
  const near: { a: Sample; b: Sample; distance: number }[] = [];
  faces.forEach((a, row) =>
    faces.slice(0, row).forEach((b, column) => {
      const distance = distances[row * faces.length + column] as number;
      if (distance <= threshold) near.push({ a: b, b: a, distance });
    }),
  );
  near.sort((x, y) => x.distance - y.distance);
  const impossible = near.filter(({ a, b }) => a.photo === b.photo).length;
  const lines = near.map(
    ({ a, b, distance }) =>
      `  ${a.name} and ${b.name}   ${distance.toFixed(3)}${a.photo === b.photo ? '   (wrong: two faces of one photo)' : ''}`,
  );
  return [
    near.length === 0
      ? 'No two faces are near enough to be one person.'
      : `Taken for one person, nearest first; all other pairs are taken for different people:\n${lines.join('\n')}`,
    ...(impossible > 0
      ? [
          'The model errs on faces that are small, turned or half in the dark: a line is a choice between two kinds of error.',
        ]
      : []),
  ].join('\n');
}

function ownPhotos(sheet: string): string {
  return `The same with pictures: ${sheet}

On your own photos:
  node dist/cli.js verify a.jpg b.jpg --detect                     one person or two
  node dist/cli.js detect photos/ --draw drawn/ --crops crops/     where the faces are
  node dist/cli.js embed photos/ --detect --out faces.safetensors
  node dist/cli.js info                                            what this machine can do
  node dist/cli.js --help                                          everything else`;
}

/** A page with each photo and its boxes, the faces as the model sees them, and their distances. */
async function sheetOf(
  root: string,
  faces: readonly Sample[],
  distances: Float64Array,
  { threshold }: OperatingPoint,
  net: FaceNetGPU,
  lines: readonly string[],
): Promise<string> {
  const parts: string[] = [];
  for (const photo of photoNames) {
    const own = faces.filter((face) => face.photo === photo);
    const { width, height } = own[0]?.face.image ?? { width: 1, height: 1 };
    const bytes = await readFile(photoPath(root, photo));
    const unit = Math.max(width, height);
    const marks = own.map(({ name, face: { box, landmarks } }) => {
      const points = landmarks.map(
        ([x, y]) => `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${Math.round(unit / 350)}"/>`,
      );
      return `<rect x="${box.x.toFixed(1)}" y="${box.y.toFixed(1)}" width="${box.width.toFixed(1)}" height="${box.height.toFixed(1)}"/>${points.join('')}<text x="${box.x.toFixed(1)}" y="${(box.y - unit / 150).toFixed(1)}" style="font-size:${Math.round(unit / 35)}px;fill:#4e4;stroke:none">${name}</text>`;
    });
    parts.push(
      `<h2>${photo}</h2><svg viewBox="0 0 ${width} ${height}" fill="none" stroke="#4e4" stroke-width="${unit / 400}"><image width="${width}" height="${height}" href="data:image/jpeg;base64,${bytes.toString('base64')}"/>${marks.join('')}</svg>`,
    );
    const crops: string[] = [];
    for (const { name, face } of own) {
      const { eyeDistance, pose, sharpness } = faceQuality(face.image, face.landmarks);
      const about = `${name}: score ${face.score.toFixed(2)}, eyes ${eyeDistance.toFixed(0)} px apart, yaw ${pose.yaw?.toFixed(0)}, sharpness ${sharpness.toFixed(0)}`;
      crops.push(
        `<figure><img src="data:image/png;base64,${Buffer.from(png(await net.align(face))).toString('base64')}" alt="${name}"><figcaption>${about}</figcaption></figure>`,
      );
    }
    parts.push(`<div class="faces">${crops.join('')}</div>`);
  }
  const table = faces.map(({ name }, row) => [
    name,
    ...faces.map((_, column) => {
      const distance = distances[row * faces.length + column] as number;
      return column >= row ? '' : `${distance.toFixed(2).replace(/^0/, '')}${distance <= threshold ? '*' : ''}`;
    }),
  ]);
  parts.push('<h2>Squared distances</h2>', htmlTable([['', ...faces.map(({ name }) => name)], ...table]));
  return `${page('Who is who', lines, parts)}\n</html>\n`;
}

async function start(args: readonly string[]): Promise<number> {
  const terminal = new Terminal(process, { format: 'text', quiet: false, colour: (process.env.NO_COLOR ?? '') === '' });
  try {
    const { values } = parseArgs({ args: [...args], options: { backend: { type: 'string', default: 'auto' } } });
    const root = repository();
    const opening = performance.now();
    const net = await FaceNetGPU.create({ model: 'dlib-resnet', backend: values.backend as 'auto' });
    const opened = performance.now();
    const detector = await FaceDetector.create({
      model: join(root, 'dist', 'models', 'tiny-face.safetensors'),
      share: net,
    });
    const ready = performance.now();
    const faces = await findFaces(root, detector);
    const detected = performance.now();
    await detector.dispose();
    const embeddings: Embeddings = await net.embed(faces.map(({ face }) => face));
    const embedded = performance.now();
    const point = net.operatingPoint();
    const distances = distanceMatrix(embeddings);
    const each = (embedded - detected) / faces.length;
    const rate = (100 * point.far).toPrecision(1);
    const sheet = join(root, 'dist', 'who-is-who.html');
    const line = `* marks at most ${point.threshold.toFixed(4)}, the same person (${rate} % of pairs of strangers pass here)`;
    const lines = [
      `${faces.length} faces in ${photoNames.length} photos, computed on ${net.why}. In the table ${line}.`,
    ];
    await replaceFile(sheet, new TextEncoder().encode(await sheetOf(root, faces, distances, point, net, lines)));
    terminal.text(`
${terminal.style('bold', 'Who is who')}: ${faces.length} faces in ${photoNames.length} photos (${photoNames[0]} ... ${photoNames.at(-1)} of @vladmandic/face-api)

  model     ${net.model.name}: ${net.model.input.width} x ${net.model.input.height} pixels to ${net.dimensions} numbers, ${(net.model.multiplyAdds / 1e6).toFixed(0)} M multiply-adds
  computed  on ${net.why}
  time      ${((detected - ready) / photoNames.length).toFixed(0)} ms to decode a photo and find its faces, ${each.toFixed(1)} ms to embed a face, ${((opened - opening) / 1000).toFixed(1)} s to load the model

Squared distances; ${line}:

${matrixText(faces, distances, point, terminal)}

${pairsText(faces, distances, point)}

${ownPhotos(relative(process.cwd(), sheet))}
`);
    await net.dispose();
    return exitCodes.done;
  } catch (error) {
    terminal.fail(error);
    return exitCodeOf(error);
  }
}

process.exitCode = exitCodes.internal;
start(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
