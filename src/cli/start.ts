// npm start: who is who on six photos that come with a development package.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { FaceNetError } from '../errors.ts';
import { distanceMatrix } from '../faces/distance.ts';
import { ImageReader } from '../io/node/image-files.ts';
import { type Embeddings, type Face, FaceNetGPU, type OperatingPoint } from '../node.ts';
import { exitCodeOf, exitCodes } from './exit-code.ts';
import { readFaceList } from './face-list.ts';
import { Terminal } from './terminal.ts';

/** A face of the demonstration. */
interface Sample {
  /** Number of the photo and a letter, such as '3b'. */
  readonly name: string;
  readonly photo: string;
  readonly face: Face;
}

const photoNames = ['sample1.jpg', 'sample2.jpg', 'sample3.jpg', 'sample4.jpg', 'sample5.jpg', 'sample6.jpg'];

/** The repository: above dist/, or two above src/cli/. */
function repository(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const found = [join(here, '..'), join(here, '..', '..')].find((folder) =>
    existsSync(join(folder, 'demo', 'faces.json')),
  );
  if (found === undefined)
    throw new FaceNetError(
      'input',
      'start: the repository with demo/faces.json, got the package alone. Clone the repository.',
    );
  return found;
}

async function samples(root: string): Promise<Sample[]> {
  const list = await readFaceList(join(root, 'demo', 'faces.json'));
  const reader = new ImageReader();
  const found: Sample[] = [];
  for (const photo of photoNames) {
    const image = await reader.read(join(root, 'node_modules', '@vladmandic', 'face-api', 'demo', photo));
    for (const { name, landmarks } of list.facesOf(photo))
      found.push({ name: name ?? photo, photo, face: { image, landmarks } });
  }
  return found;
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

function ownPhotos(): string {
  return `On your own photos, until there is a detector, say where the eyes are (left in the picture first), in faces.json:
  { "photos": [{ "image": "a.jpg", "faces": [{ "landmarks": [[444, 454], [517, 459]] }] }] }

  node dist/cli.js verify a.jpg b.jpg --landmarks faces.json       one person or two
  node dist/cli.js embed photos/ --landmarks faces.json --out faces.safetensors
  node dist/cli.js info                                            what this machine can do
  node dist/cli.js --help                                          everything else`;
}

async function start(args: readonly string[]): Promise<number> {
  const terminal = new Terminal(process, { format: 'text', quiet: false, colour: (process.env.NO_COLOR ?? '') === '' });
  try {
    const { values } = parseArgs({ args: [...args], options: { backend: { type: 'string', default: 'auto' } } });
    const faces = await samples(repository());
    const opening = performance.now();
    const net = await FaceNetGPU.create({ model: 'dlib-resnet', backend: values.backend as 'auto' });
    const opened = performance.now();
    const embeddings: Embeddings = await net.embed(faces.map(({ face }) => face));
    const embedded = performance.now();
    const point = net.operatingPoint();
    const distances = distanceMatrix(embeddings);
    const each = (embedded - opened) / faces.length;
    const rate = (100 * point.far).toPrecision(1);
    terminal.text(`
${terminal.style('bold', 'Who is who')}: ${faces.length} faces in ${photoNames.length} photos (${photoNames[0]} ... ${photoNames.at(-1)} of @vladmandic/face-api)

  model     ${net.model.name}: ${net.model.input.width} x ${net.model.input.height} pixels to ${net.dimensions} numbers, ${(net.model.multiplyAdds / 1e6).toFixed(0)} M multiply-adds
  computed  on ${net.why}
  time      ${each.toFixed(1)} ms a face, ${((opened - opening) / 1000).toFixed(1)} s to load the model

Squared distances; * marks at most ${point.threshold.toFixed(4)}, the same person (${rate} % of pairs of strangers pass here):

${matrixText(faces, distances, point, terminal)}

${pairsText(faces, distances, point)}

${ownPhotos()}
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
