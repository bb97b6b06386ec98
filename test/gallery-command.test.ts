// area: tasks
//
// R3, R13, R24 for what the commands do with people: names that survive every path, a process that is killed while it saves a gallery, one bad
// picture among a thousand. The commands run in this process, on a small untrained network, with what they write caught.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { png } from '../src/cli/align.ts';
import { cluster } from '../src/cli/cluster.ts';
import { Context } from '../src/cli/context.ts';
import { embed } from '../src/cli/embed.ts';
import { enroll } from '../src/cli/enroll.ts';
import { identify } from '../src/cli/identify.ts';
import { Terminal } from '../src/cli/terminal.ts';
import { writeEmbeddings } from '../src/io/embeddings-file.ts';
import { readGallery, writeGallery } from '../src/io/gallery-file.ts';
import { removeUnfinished } from '../src/io/node/atomic-file.ts';
import { sha256 } from '../src/io/sha256.ts';
import { FaceNetGPU } from '../src/node.ts';
import { bundleSource } from './bundle.mjs';
import labels from './cases/labels.json' with { type: 'json' };
import { killedWriter } from './killed-writer.ts';
import { generator } from './oracles/plain-random.ts';

const folder = mkdtempSync(join(tmpdir(), 'facenet-people-'));
const at = (...names: string[]): string => join(folder, ...names);
const net = await FaceNetGPU.create({
  model: { network: 'nn4.small2', seed: 3, variant: { width: 0.25 } },
  backend: 'wasm',
  threads: 1,
});
afterAll(async () => {
  await net.dispose();
  rmSync(folder, { recursive: true });
});

/** Runs a command on the network above. */
async function command(
  format: 'json' | 'jsonl',
  run: (context: Context) => Promise<number>,
  model = net,
): Promise<{ code: number; text: string; json: () => Record<string, never> }> {
  let text = '';
  const stdout = new Writable({
    write(chunk, _, done) {
      text += chunk;
      done();
    },
  });
  const terminal = new Terminal({ stdout, stderr: new PassThrough().resume() }, { format, quiet: true, colour: false });
  class Here extends Context {
    override withModel<T>(use: (opened: FaceNetGPU) => Promise<T>): Promise<T> {
      return use(model);
    }
  }
  const context = new Here(
    { model: 'none', backend: 'wasm' },
    terminal,
    new AbortController().signal,
    new PassThrough(),
  );
  const code = await run(context);
  return { code, text, json: () => JSON.parse(text) };
}

/** A picture of its own for each number. */
function picture(path: string, number: number, side = 96): string {
  const next = generator(Math.imul(number + 1, 0x9e3779b1));
  const tone = Array.from({ length: 12 }, () => next(256));
  const data = Uint8Array.from({ length: side * side * 3 }, (_, i) => {
    const [x, y] = [Math.floor(i / 3) % side, Math.floor(i / 3 / side)];
    return tone[(Math.floor((2 * y) / side) * 2 + Math.floor((2 * x) / side)) * 3 + (i % 3)] as number;
  });
  writeFileSync(path, png({ data, width: side, height: side }));
  return path;
}

describe('R13: names', () => {
  const names = labels.cases.flatMap((entry) => entry.names);
  const points = (name: string) => [...name].map((character) => character.codePointAt(0));
  const gallery = at('people.safetensors');
  const pictures = names.map((_, i) => picture(at(`${i}.png`), i));

  test('enroll, identify, the file and an export keep every name, code point for code point', async () => {
    for (const [i, name] of names.entries()) {
      const { code, json } = await command('json', (context) =>
        enroll(context, name, [pictures[i] as string], { gallery, aligned: true }),
      );
      expect(code).toBe(0);
      expect(points((json().added as { label: string }[])[0]?.label as string)).toEqual(points(name));
    }
    const options = { gallery, aligned: true, limit: 3, policy: 'nearest', k: 5, threshold: 1e-9 } as const;
    const known = await command('json', (context) => identify(context, pictures, options));
    expect(known.code).toBe(0);
    const faces = known.json().faces as { label: string; matches: { label: string }[] }[];
    expect(faces.map(({ label }) => points(label))).toEqual(names.map(points));
    expect(faces.map(({ matches }) => points(matches[0]?.label as string))).toEqual(names.map(points));
    const lines = await command('jsonl', (context) => identify(context, pictures, options));
    const fromLines = lines.text.trim().split('\n');
    expect(fromLines.map((line) => points(JSON.parse(line).label))).toEqual(names.map(points));
    const content = await readGallery(new Uint8Array(readFileSync(gallery)));
    expect(content.entries.map(({ label }) => points(label))).toEqual(names.map(points));
    const opened = await net.gallery();
    await opened.load(new Uint8Array(readFileSync(gallery)));
    for (const name of names) {
      const own = await readGallery(await opened.exportPerson(name));
      expect(own.entries.map(({ label }) => points(label))).toEqual([points(name)]);
    }
    await opened.close();
  });

  test('a folder a person: every name that a folder can bear', async () => {
    const possible = names.filter((name) => !/[/\0]/.test(name) && Buffer.byteLength(name) <= 255);
    expect(possible.length).toBeGreaterThan(names.length / 2);
    for (const [i, name] of possible.entries()) {
      mkdirSync(at('root', name), { recursive: true });
      picture(at('root', name, '1.png'), i);
    }
    const place = at('folders.safetensors');
    const { code } = await command('json', (context) =>
      enroll(context, undefined, [], { gallery: place, dir: at('root'), aligned: true }),
    );
    expect(code).toBe(0);
    const { entries } = await readGallery(new Uint8Array(readFileSync(place)));
    expect(entries.map(({ label }) => label).sort()).toEqual([...possible].sort());
  });

  test('cluster: JSON, the data inside the page and its captions', async () => {
    const { data, count } = await net.embed(names.map((_, i) => pictures[i] as string));
    const file = at('named.safetensors');
    const { dimensions, fingerprint } = net;
    writeFileSync(
      file,
      writeEmbeddings({ vectors: data, count, dimensions, fingerprint, decoder: 'exact', labels: names, paths: names }),
    );
    const report = at('groups.html');
    const options = { method: 'agglomerative', linkage: 'average', threshold: 4, minSize: 1, seed: 1 } as const;
    const { code, json } = await command('json', (context) =>
      cluster(context, [file], { ...options, truth: 'name', report }),
    );
    expect(code).toBe(0);
    const bearing = (faces: unknown) =>
      (faces as { image: string; name: string }[]).flatMap(({ image, name }) => [points(image), points(name)]);
    const expected = names.flatMap((name) => [points(name), points(name)]);
    expect(bearing(json().faces)).toEqual(expected);
    const page = readFileSync(report, 'utf8');
    const inside = /<script type="application\/json" id="data">([^]*)<\/script>/.exec(page)?.[1] as string;
    expect(bearing(JSON.parse(inside).faces)).toEqual(expected);
    const named = { lt: '<', gt: '>', quot: '"', amp: '&', '#39': "'" } as Record<string, string>;
    const plain = page.replace(/&(lt|gt|quot|amp|#39);/g, (_, name) => named[name] as string);
    expect(page).not.toContain('<b>bold');
    // A group shows twelve faces; the pairs to ask about show more.
    const shown = names.filter((name) => plain.includes(`${name} (${name})`));
    expect(shown.length).toBeGreaterThanOrEqual(12);
  });
});

test('cluster takes embeddings by what any version called this model, and those of no other', async () => {
  const saved = await net.save();
  const model = await FaceNetGPU.create({ model: saved, backend: 'wasm', threads: 1 });
  const photo = picture(at('beside.png'), 7);
  const { data, count, dimensions } = await model.embed([photo]);
  const write = (name: string, fingerprint: string) => {
    const bytes = writeEmbeddings({ vectors: data, count, dimensions, fingerprint, decoder: 'exact' });
    writeFileSync(at(name), bytes);
    return at(name);
  };
  const files = [
    write('now.safetensors', model.fingerprint),
    write('before.safetensors', `nn4.small2/${(await sha256(saved)).slice(0, 16)}`),
  ];
  const options = {
    ...({ method: 'agglomerative', linkage: 'average' } as const),
    ...{ threshold: 0.5, minSize: 1, seed: 1, aligned: true },
  };
  const run = (names: string[]) => command('json', (context) => cluster(context, names, options), model);
  const { code, json } = await run([...files, photo]);
  expect(code).toBe(0);
  expect((json().faces as { group: number }[]).map(({ group }) => group)).toEqual([0, 0, 0]);
  const other = write('other.safetensors', 'nn4.small2/0000000000000000');
  await expect(run([...files, other, photo])).rejects.toMatchObject({ code: 'mismatch' });
  await model.dispose();
});

describe('R3: kill -9 while a gallery is saved', () => {
  const kills = Number(process.env.FACENET_KILLS ?? 50);
  test(`whole old or new file in ${kills} kills`, { timeout: 60_000 + kills * 5000 }, async () => {
    const program = at('writer.mjs');
    await bundleSource({
      entry: fileURLToPath(new URL('./oracles/kill-gallery.ts', import.meta.url)),
      output: program,
      platform: 'node',
    });
    const next = generator(20_261_125);
    mkdirSync(at('killed'));
    const file = at('killed', 'people.safetensors');
    // Some hundred kilobytes, so that a write takes its time.
    const vectors = new Float32Array(64 * 1500);
    for (let row = 0; row < 1500; row++) {
      vectors[row * 64 + (row % 64)] = Math.fround(0.6);
      vectors[row * 64 + ((row + 1 + Math.floor(row / 64)) % 64)] = Math.fround(0.8);
    }
    const entries = Array.from({ length: 1500 }, (_, i) => ({ id: `${i}`, label: `person ${i}` }));
    writeFileSync(file, await writeGallery({ fingerprint: 'model/0', dimensions: 64, entries, vectors }));
    let acknowledged = 1500;
    let written = 0;
    for (let kill = 0; kill < kills; kill++) {
      // Somewhere in the reading, adding and writing that follow an acknowledgement.
      const lines = await killedWriter(program, [file], next(120));
      expect(lines.length, `kill ${kill}: nothing was written`).toBeGreaterThan(0);
      written += lines.length;
      const { entries: found } = await readGallery(new Uint8Array(readFileSync(file)));
      expect(found.length, `kill ${kill}: an acknowledged person is gone`).toBeGreaterThanOrEqual(
        lines.at(-1) as number,
      );
      expect(found.length).toBeLessThanOrEqual((lines.at(-1) as number) + 1);
      expect(found.map(({ label }) => label)).toEqual(found.map((_, i) => `person ${i}`));
      acknowledged = found.length;
      await removeUnfinished(at('killed'));
      expect(readdirSync(at('killed')), `kill ${kill}: a stray file`).toEqual(['people.safetensors']);
    }
    expect(acknowledged).toBeGreaterThanOrEqual(1500 + kills);
    console.log(`${kills} kills, ${written} acknowledged writes, none lost`);
  });
});

describe('R24: one bad picture among a thousand', () => {
  test('is named with its index, exit code 6, and no other result changes', { timeout: 60_000 }, async () => {
    mkdirSync(at('thousand'));
    const bad = 617;
    const paths = Array.from({ length: 1000 }, (_, i) => at('thousand', `${String(i).padStart(4, '0')}.png`));
    for (const [i, path] of paths.entries()) picture(path, i % 50, 8);
    const options = { aligned: true, skipBad: true };
    const without = await command('jsonl', (context) =>
      embed(context, [...paths.slice(0, bad), ...paths.slice(bad + 1)], options),
    );
    expect(without.code).toBe(0);
    writeFileSync(paths[bad] as string, 'no picture');
    const { code, text } = await command('jsonl', (context) => embed(context, paths, options));
    expect(code).toBe(6);
    const lines = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.map(({ index }) => index)).toEqual(paths.map((_, i) => i));
    expect(lines[bad]).toMatchObject({ index: bad, image: paths[bad], error: { code: 'image', index: bad } });
    expect(lines.filter(({ error }) => error)).toHaveLength(1);
    const good = without.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.filter(({ error }) => !error).map(({ image, embedding }) => ({ image, embedding }))).toEqual(
      good.map(({ image, embedding }) => ({ image, embedding })),
    );
    // Through the class: the same vectors, bit for bit, and the index.
    const faces = await net.embed(paths.slice(bad - 20, bad + 20), { onError: 'skip' });
    const alone = await net.embed(paths.slice(bad - 20, bad + 20).filter((_, i) => i !== 20));
    expect(faces.skipped).toMatchObject([{ index: 20, error: { code: 'image', index: 20 } }]);
    expect(faces.data).toEqual(alone.data);
  });
});
