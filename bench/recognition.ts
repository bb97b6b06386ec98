// Figures of the three tasks with dlib-resnet on data outside the repository (FACENET_SHARED, default ../shared), as docs/recognition.md states them:
//
//   node build.mjs run bench/recognition.ts [one-shot] [photos] [int8] [--backend webgpu]
//
// one-shot  five people, one picture each in the gallery, all other 88 pictures asked
// photos    clusters of photographs of people whose names their sources state
// int8      what templates of one byte a number lose: OpenFace's embeddings, and dlib-resnet on LFW sets 7-9; appended to docs/eval-log.md
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { bCubed, int8Loss, normalisedMutualInformation } from '../src/evaluate.ts';
import { readEmbeddings } from '../src/io/embeddings-file.ts';
import { tarEntries } from '../src/io/tar.ts';
import { FaceNetGPU } from '../src/node.ts';
import { lfwFaces } from '../test/lfw.ts';

const root = fileURLToPath(new URL('../', import.meta.url));
const data = join(process.env.FACENET_SHARED ?? join(root, '..', 'shared'), 'data');
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { backend: { type: 'string', default: 'wasm' } },
});
const asked = (name: string) => positionals.length === 0 || positionals.includes(name);
const percent = (rate: number) => `${(100 * rate).toFixed(2)} %`;
const net = await FaceNetGPU.create({ model: 'dlib-resnet', backend: values.backend as 'wasm' | 'webgpu' });
console.log(`${net.fingerprint}, ${net.why}`);

if (asked('one-shot')) {
  const tar = readFileSync(join(data, 'five-celebrities', 'faces.tar'));
  const pictures: { path: string; image: Uint8Array }[] = [];
  const entries = tarEntries(async (offset, bytes) => tar.subarray(offset, offset + bytes), tar.length, 'faces.tar');
  for await (const { path, offset, bytes } of entries)
    pictures.push({ path, image: new Uint8Array(tar.subarray(offset, offset + bytes)) });
  pictures.sort((a, b) => (a.path < b.path ? -1 : 1));
  const person = ({ path }: { path: string }) => path.split('/').at(-2) as string;
  const training = pictures.filter(({ path }) => path.includes('train/'));
  const first = [...new Set(training.map(person))].map((name) => training.find((face) => person(face) === name)!);
  const gallery = await net.gallery();
  for (const face of first) await gallery.enroll(person(face), await net.embed(face.image));
  const others = pictures.filter((face) => !first.includes(face));
  const embeddings = await net.embed(others.map(({ image }) => image));
  for (const far of [1e-3, 1e-2]) {
    const found = await gallery.identify(embeddings, net.operatingPoint({ far }));
    const count = { nearest: 0, right: 0, wrong: 0, unknown: 0 };
    found.forEach(({ label, matches }, i) => {
      const name = person(others[i]!);
      if (matches[0]?.label === name) count.nearest++;
      count[label === null ? 'unknown' : label === name ? 'right' : 'wrong']++;
    });
    const { threshold } = net.operatingPoint({ far });
    console.log(
      `one-shot, ${first.length} people, ${others.length} pictures: nearest is right ${count.nearest}; at ${threshold.toFixed(4)} (FAR ${far}): ${count.right} right, ${count.wrong} wrong, ${count.unknown} unknown`,
    );
  }
  await gallery.close();
}

if (asked('photos')) {
  interface Photo {
    readonly file: string;
    readonly people: readonly string[] | null;
    readonly role: string;
    readonly mtcnn: readonly { readonly points: readonly (readonly [number, number])[] }[];
  }
  const { photos } = JSON.parse(readFileSync(join(data, 'photos', 'photos.json'), 'utf8')) as { photos: Photo[] };
  const chosen = photos.filter(
    ({ role, people, mtcnn }) =>
      (role === 'photo' || role === 'gallery crop') && people?.length === 1 && mtcnn.length === 1,
  );
  const faces = chosen.map(({ file, mtcnn }) => ({ image: join(data, 'photos', file), landmarks: mtcnn[0]!.points }));
  const names = chosen.map(({ people }) => people![0]!);
  const embeddings = await net.embed(faces);
  for (const far of [1e-3, 1e-2]) {
    const { threshold } = net.operatingPoint({ far });
    const { groups, count } = await net.cluster(embeddings, { threshold, minSize: 2 });
    const { f, precision, recall } = bCubed(groups, names);
    console.log(
      `photos, ${names.length} faces of ${new Set(names).size} people, at ${threshold.toFixed(4)} (FAR ${far}): ${count} groups, B-cubed F ${f.toFixed(4)} (precision ${precision.toFixed(4)}, recall ${recall.toFixed(4)}), NMI ${normalisedMutualInformation(groups, names).toFixed(4)}`,
    );
  }
}

if (asked('int8')) {
  const line = ({ valAtFar, meanDistance, largestDistance }: Awaited<ReturnType<typeof int8Loss>>) =>
    `${valAtFar.map(({ targetFar, float32, int8 }) => `VAL at FAR ${targetFar}: ${percent(float32)} float32, ${percent(int8)} int8`).join('; ')}; a vector moves by ${meanDistance.toExponential(1)} on average, ${largestDistance.toExponential(1)} at most (squared)`;
  const folder = join(data, 'embeddings');
  const file = 'openface-nn4.small2.v1-lfw.safetensors';
  const { vectors, count, dimensions } = readEmbeddings(new Uint8Array(readFileSync(join(folder, file))), file);
  const labels = readFileSync(join(folder, 'labels.csv'), 'utf8').trim().split('\n').slice(1);
  const people = labels.map((row) => row.split(',')[1]!);
  console.log(`int8, OpenFace: ${line(await int8Loss({ data: vectors, count, dimensions }, people))}`);
  const faces = lfwFaces('eval');
  const embeddings = await net.embed(faces.values());
  const loss = line(
    await int8Loss(
      embeddings,
      [...faces.keys()].map((path) => path.split('/')[0]!),
      [1e-1, 1e-2, 1e-3, 1e-4],
    ),
  );
  console.log(`int8, dlib-resnet on ${faces.size} images of LFW sets 7-9: ${loss}`);
  appendFileSync(
    join(root, 'docs', 'eval-log.md'),
    `| ${new Date().toISOString().slice(0, 10)} | \`node build.mjs run bench/recognition.ts int8\` | dlib-resnet ${net.model.sha256.slice(0, 12)}, ${net.why} | templates of one byte a number, all pairs of ${faces.size} images: ${loss} |\n`,
  );
}
await net.dispose();
