// `npm run conformance`: the same cases in every runtime of this machine, side by side in docs/conformance.md and conformance.json.
//
//   npm run conformance                      all of them
//   npm run conformance -- --only deno       those whose name holds this text; the others stay as they were found last
//   npm run conformance -- --part pairs      only operators, networks, faces, detection, training or pairs (several with commas); the others stay
//   npm run conformance -- --operator cast   only these operators
//   npm run conformance -- --limit 300       at most this many seconds a runtime; what was not reached is said
//   npm run conformance -- --on system       the machine's own GPU in Node as well
//   npm run conformance -- --write           only the page, from conformance.json
//   npm run conformance -- --serve           a page that runs it in your browser, and gives the report to copy (?backends=webgpu&parts=operators)
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { adapterEnvironment, adapterPresent, driverManifest } from './adapters.mjs';
import { chromiumArguments, serve } from './browser.mjs';
import { bundleSource } from './bundle.mjs';
import { findChromium } from './machine.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const file = join(root, 'conformance.json');
const require = createRequire(import.meta.url);
const wasm = ['plain', 'plain x2', 'relaxed', 'relaxed x2'];

/** The runtimes: name, who runs it, what it sees, what it is asked for. */
const runtimes = [
  { name: 'Node, wasm', by: 'node', adapter: 'none', backends: wasm },
  { name: 'Node, lavapipe', by: 'node', adapter: 'lavapipe', backends: ['webgpu'] },
  { name: 'Node, SwiftShader', by: 'node', adapter: 'swiftshader', backends: ['webgpu'] },
  { name: 'Chromium, wasm', by: 'chromium', backends: wasm },
  { name: 'Chromium, SwiftShader', by: 'chromium', backends: ['webgpu'] },
  { name: 'Deno, wasm', by: 'deno', adapter: 'none', backends: wasm },
  { name: 'Deno, lavapipe', by: 'deno', adapter: 'lavapipe', backends: ['webgpu'] },
];
const system = { name: 'Node, own GPU', by: 'node', adapter: 'system', backends: ['webgpu'] };

const programs = join(root, '.cache', 'programs');
/** The images of 300 pairs of LFW as JSON; absent where the data set is. */
const lfw = join(programs, 'conformance-lfw.json');

async function collectLfw() {
  const program = join(programs, 'conformance-lfw.mjs');
  rmSync(lfw, { force: true });
  await bundleSource({ entry: join(root, 'test', 'conformance-lfw.ts'), output: program, platform: 'node' });
  execFileSync(process.execPath, [program, lfw], { cwd: root, stdio: 'inherit' });
}

async function inProcess({ name, by, adapter, backends }, { limit, parts, before, operators }) {
  if (!adapterPresent(adapter)) return { runtime: name, missing: `this machine has no ${adapter}` };
  const program = join(programs, 'conformance-process.mjs');
  const stem = `conformance-${name.replaceAll(/\W+/g, '-')}`;
  const output = join(programs, `${stem}.json`);
  rmSync(output, { force: true });
  let command = [process.execPath, program];
  if (by === 'deno') {
    let deno;
    try {
      const { os, libc } = {
        os: `${process.platform}-${process.arch}`,
        libc: process.platform === 'linux' ? '-glibc' : '',
      };
      deno = require.resolve(`@deno/${os}${libc}/deno`);
    } catch {
      return { runtime: name, missing: 'the package deno is not installed' };
    }
    command = [deno, 'run', '--allow-all', '--unstable-webgpu', '--no-prompt', program];
  }
  const sofar = join(programs, `${stem}-before.json`);
  if (before) writeFileSync(sofar, JSON.stringify(before));
  const args = [
    name,
    backends.join(),
    output,
    lfw,
    ...(parts ? [parts.join(), before ? sofar : '', operators?.join() ?? ''] : []),
  ];
  const child = spawn(command[0], [...command.slice(1), ...args], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...adapterEnvironment(adapter) },
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), limit * 1000);
  const code = await new Promise((done) => child.on('exit', (status, signal) => done(status ?? signal)));
  clearTimeout(timer);
  if (!existsSync(output)) return { runtime: name, missing: `the process ended with ${code} and without a report` };
  return JSON.parse(readFileSync(output, 'utf8'));
}

async function site() {
  const bundle = join(programs, 'conformance-page.js');
  await bundleSource({ entry: join(root, 'test', 'conformance-page.ts'), output: bundle, platform: 'browser' });
  const page = `<!doctype html><html lang="en"><meta charset="utf-8"><title>FaceNetGPU conformance</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}pre{background:#eee;padding:1rem;max-height:20rem;overflow:auto}</style>
<h1>What this browser computes</h1><p>Every operator, forward and backward, every network, faces and their detection in six photos, ten training steps; on WebAssembly and, where the browser has it, on WebGPU. Nothing leaves this page.</p>
<button id="run">Run</button> <button id="copy" disabled>Copy the report</button><p role="status" id="status"></p><pre id="log"></pre>
<script type="module">
const at = (id) => document.getElementById(id);
let text = '';
at('run').onclick = async () => {
  at('run').disabled = true;
  at('status').textContent = 'running; some minutes';
  const { run } = await import('/entry.js');
  const asked = new URLSearchParams(location.search);
  const list = (name) => asked.get(name)?.split(',');
  const found = await run(list('backends'), (line) => { at('log').textContent += line + '\\n'; }, { parts: list('parts') });
  text = JSON.stringify(found, null, 1);
  const failures = found.backends.flatMap((b) => [...b.failures, ...Object.entries(b.operators).flatMap(([name, o]) => o.failures.map((f) => b.backend + ' ' + name + ': ' + f))]);
  at('status').textContent = failures.length === 0 ? 'Everything within its bound.' : failures.length + ' outside their bound.';
  at('log').textContent = failures.join('\\n') + '\\n' + text;
  at('copy').disabled = false;
};
at('copy').onclick = async () => {
  await navigator.clipboard.writeText(text);
  at('copy').textContent = 'Copied';
};
</script></html>`;
  return serve({
    '/': { type: 'text/html', body: page },
    '/favicon.ico': { type: 'image/png', body: '' },
    '/entry.js': { type: 'text/javascript', body: readFileSync(bundle) },
    ...(existsSync(lfw) && { '/lfw.json': { type: 'application/json', body: readFileSync(lfw) } }),
  });
}

async function inChromium({ name, backends }, { limit, parts, before, operators }) {
  const executablePath = findChromium();
  if (executablePath === null) return { runtime: name, missing: 'this machine has no Chromium' };
  const { chromium } = await import('playwright-core');
  const profile = mkdtempSync(join(tmpdir(), 'facenet-gpu-chromium-'));
  const { origin, close } = await site();
  let context;
  try {
    context = await chromium.launchPersistentContext(profile, {
      executablePath,
      headless: true,
      args: chromiumArguments,
    });
    const page = await context.newPage();
    page.on('console', (message) => console.error(`[page] ${message.text()}`));
    await page.goto(`${origin}/`);
    let kept;
    await page.exposeFunction('keepReport', (text) => {
      kept = JSON.parse(text);
    });
    let timer;
    const report = await Promise.race([
      page.evaluate(
        async ([wanted, asked]) => (await import('/entry.js')).run(wanted, undefined, asked),
        [backends, parts ? { parts, before, operators } : {}],
      ),
      new Promise((done) => {
        timer = setTimeout(() => done(kept), limit * 1000);
      }),
    ]).finally(() => clearTimeout(timer));
    return report ? { ...report, runtime: name } : { runtime: name, missing: `nothing within ${limit} s` };
  } finally {
    await context?.close();
    await close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 3 });
  }
}

// -- the page --------------------------------------------------------------------------------------------------------

const versionOf = (name) => JSON.parse(readFileSync(require.resolve(`${name}/package.json`), 'utf8')).version;

/** What computed: programs and drivers with their versions. */
function versions() {
  const run = (program, args) => {
    try {
      return execFileSync(program, args, { encoding: 'utf8' }).trim().split('\n')[0];
    } catch {
      return 'not there';
    }
  };
  const chromium = findChromium();
  const vulkan = (adapter) => {
    const manifest = driverManifest(adapter);
    return manifest ? `Vulkan ${JSON.parse(readFileSync(manifest, 'utf8')).ICD.api_version}` : 'not there';
  };
  return {
    Node: process.version,
    'Dawn (package webgpu)': versionOf('webgpu'),
    Chromium: chromium ? run(chromium, ['--version', '--no-sandbox']) : 'not there',
    Deno: versionOf('deno'),
    lavapipe: vulkan('lavapipe'),
    SwiftShader: vulkan('swiftshader'),
    processor: run('sh', ['-c', "sed -n 's/^model name.*: //p' /proc/cpuinfo"]),
  };
}

const percent = (share) =>
  Number.isFinite(share) ? (share === 0 ? '0' : share < 0.01 ? '<1' : String(Math.round(100 * share))) : 'over';

function page({ versions: found, runtimes: reports }) {
  const columns = reports.flatMap((report) =>
    report.missing
      ? [{ title: report.runtime, missing: report.missing }]
      : report.backends.map((backend) => ({
          title: `${report.runtime}${backend.backend === 'webgpu' ? '' : `: ${backend.backend}`}`,
          ...backend,
          seconds: Math.round(Object.values(backend.ran).reduce((sum, { seconds }) => sum + seconds, 0)),
          when: [...new Set(Object.values(backend.ran).map(({ of }) => of))].sort().join(', '),
        })),
  );
  const numbered = columns.map((column, index) => ({ ...column, letter: String.fromCharCode(65 + index) }));
  const reference = numbered.find(({ backend }) => backend === 'plain');
  const names = [...new Set(columns.flatMap(({ operators }) => Object.keys(operators ?? {})))].sort();
  const networkNames = [...new Set(columns.flatMap(({ networks }) => Object.keys(networks ?? {})))];
  const header = (first) => [
    `| ${first} | ${numbered.map(({ letter }) => letter).join(' | ')} |`,
    `|---|${numbered.map(() => '---:').join('|')}|`,
  ];
  const row = (name, cell) =>
    `| ${name} | ${numbered.map((column) => (column.missing ? '-' : cell(column))).join(' | ')} |`;
  const letters = (list) => list.map(({ letter }) => letter).join(', ');
  /** Which of some columns have the bits of the first of them. */
  const compared = (list, of) => {
    const [first, ...others] = list.filter(({ missing }) => !missing);
    if (!first || others.length === 0) return 'nothing to compare';
    const different = names.filter((name) => others.some((other) => of(other, name) !== of(first, name)));
    return different.length === 0
      ? `the same bits in all ${names.length} operators`
      : `the same bits in ${names.length - different.length} of ${names.length} operators; different in ${different.join(', ')}`;
  };
  /** Whether all columns that have this have the same. */
  const equal = (list, key) => {
    const found = list.filter((column) => column[key]).map((column) => column[key]);
    return found.length < 2 ? 'not compared' : new Set(found).size === 1 ? 'the same' : 'different';
  };
  const bits = ({ operators }, name) => operators[name]?.bits;
  const titled = (expression) => numbered.filter(({ title }) => expression.test(title));
  const minutes = (list) => (list.reduce((sum, { seconds = 0 }) => sum + seconds, 0) / 60).toFixed(1);
  const plain = titled(/: plain/);
  const swift = titled(/SwiftShader/);
  const lavapipe = titled(/lavapipe/);
  const worst = (column) => Math.max(...Object.values(column.faces));
  const failures = numbered.flatMap((column) => [
    ...(column.failures ?? []).map((text) => `${column.letter}: ${text}`),
    ...Object.entries(column.operators ?? {}).flatMap(([name, { failures: list }]) =>
      list.map((text) => `${column.letter}: ${name}: ${text}`),
    ),
  ]);
  return `# Conformance

Written by \`npm run conformance\`. The same cases in every runtime, against float64: every operator forward and backward, every network, the faces of the sample
photos, detection, 300 pairs of LFW, ten training steps.
\`npm run conformance -- --serve\` runs it in your own browser.

## What computed

| | runtime | device | seconds | of |
|---|---|---|---:|---|
${numbered.map((column) => `| ${column.letter} | ${column.title} | ${column.missing ?? column.device} | ${column.seconds ?? '-'} | ${column.when ?? '-'} |`).join('\n')}

${Object.entries(found)
  .map(([name, version]) => `${name} ${version}`)
  .join(' · ')}

"plain" is the build without fused multiply-add, "x2" two threads. Times are those of a machine that did other things as well; added up \`npm run conformance\` takes ${minutes(numbered)} minutes,
the columns of wasm alone (\`--only wasm\`) ${minutes(titled(/wasm/))}.

## Equality of bits

- Plain wasm (${letters(plain)}), in every runtime and for one and two threads (promised): ${compared(plain, bits)}; networks ${equal(plain, 'networkBits')}; faces ${equal(plain, 'faceBits')}; ten training steps ${equal(plain, 'trainingBits')}.
- Detection (measured, not promised): boxes differ in the last bits of float64 between Node 20 and the newer V8 of Chromium and Deno, whose \`Math.exp\` rounds otherwise.
- Relaxed wasm (${letters(titled(/: relaxed/))}): ${compared(titled(/: relaxed/), bits)}.
- SwiftShader in Node and in Chromium (${letters(swift)}; measured, not promised): ${compared(swift, bits)}; networks ${equal(swift, 'networkBits')}; faces ${equal(swift, 'faceBits')}; ten training steps ${equal(swift, 'trainingBits')}.
- lavapipe by Dawn in Node and by wgpu and naga in Deno (${letters(lavapipe)}; measured, not promised): ${compared(lavapipe, bits)}.

## Operators: largest error, per cent of its bound

Bounds are formulas in the length of the sums (test/ops); 100 would be the whole bound. Forward and all gradients, the worst of all cases.
The updates of optimisers are held by test/optimisers.test.ts and, below, by ten training steps.

${header('operator (cases)').join('\n')}
${names.map((name) => row(`${name} (${numbered.find(({ operators }) => operators?.[name])?.operators[name].cases})`, ({ operators }) => (operators[name] === undefined ? 'failed' : operators[name].failures.length > 0 ? `**${percent(operators[name].share)}**` : percent(operators[name].share)))).join('\n')}

## Operators: largest error, relative to the largest value

${header('operator').join('\n')}
${names.map((name) => row(name, ({ operators }) => (operators[name] === undefined ? 'failed' : operators[name].error === 0 ? '0' : operators[name].error.toExponential(1)))).join('\n')}

## Networks: L2 distance of the embedding from float64

Every network whole, at an eighth of its width; the worst of three pictures. The bound is 1e-4. As published, at full width: [networks.md](networks.md).

${header('network').join('\n')}
${networkNames.map((name) => row(name, ({ networks }) => (networks === undefined ? 'not run' : (networks[name]?.toExponential(1) ?? 'failed')))).join('\n')}

## Faces and training

${header('').join('\n')}
${row('embedding from float64, worst face (L2)', (column) => (Object.keys(column.faces).length > 0 ? worst(column).toExponential(1) : 'failed'))}
${row('decisions as plain wasm', ({ decisions }) => (reference && decisions.length > 0 ? `${decisions.filter((same, i) => same === reference.decisions[i]).length} of ${reference.decisions.length}` : 'failed'))}
${row('faces found in six photos, of those the original finds', ({ detection }) => (detection ? `${detection.found} of ${detection.expected}` : 'not run'))}
${row('boxes from those of the original, worst (pixels)', ({ detection }) => detection?.worst.toExponential(1) ?? 'not run')}
${row('300 pairs of LFW: decisions as plain wasm', ({ pairs }) => (pairs && reference?.pairs ? `${[...pairs.decisions].filter((one, i) => one === reference.pairs.decisions[i]).length} of ${pairs.decisions.length}` : 'not run'))}
${row('300 pairs of LFW: right', ({ pairs }) => pairs?.right ?? 'not run')}
${row('loss of step 10', ({ losses }) => (losses.length === 10 ? losses[9].toPrecision(6) : 'not run'))}
${row('largest difference of the ten losses from plain wasm', ({ losses }) => (reference && losses.length === 10 ? Math.max(...losses.map((loss, i) => Math.abs(loss - reference.losses[i]))).toExponential(1) : 'not run'))}
${row('steps with as many triplets as plain wasm', ({ triplets }) => (reference && triplets?.length === 10 ? `${triplets.filter((count, i) => count === reference.triplets[i]).length} of 10` : 'not run'))}

Training is ten steps of a small network of three convolutions with batch norm, semi-hard mining, people at random and Adagrad (\`train\` in
test/conformance-report.ts). Every arithmetic must select as many triplets as plain wasm at every step, with losses within 1e-4 (test/conformance-matrix.test.ts).

A deep network whose batch norm sees few values a channel does not allow that comparison, whatever computes: nn4.small2 at 32 x 32 normalises its last layers over the
six pictures of a batch, so that each step multiplies a difference of rounding by ten to a hundred until the losses have nothing in common but their size. Mining is not
the reason: losses without triplets drift as far. By \`node build.mjs run bench/training-rounding.ts\` (plain against relaxed wasm, Node 20):

| run | loss apart at step 1 | 2 | 3 | 5 | 10 | steps with other triplets |
|---|---:|---:|---:|---:|---:|---:|
| nn4.small2, batch norm over six values, mining | 2.0e-6 | 3.0e-4 | 2.9e-2 | 1.0e-1 | 8.7e-2 | 6 of 10 |
| the same without triplets or mining (softmax) | 7.4e-6 | 1.8e-4 | 2.1e-1 | 1.8 | 1.4 | - |
| the same with mining, batch norm frozen | 3.0e-8 | 0 | 1.5e-8 | 1.0e-7 | 3.7e-4 | 0 of 10 |

## Empty cells and failures

${numbered
  .filter(({ missing }) => missing)
  .map(({ letter, missing }) => `- ${letter}: ${missing}`)
  .join('\n')}
${failures.map((text) => `- ${text}`).join('\n') || 'No case was outside its bound.'}

Cases marked large (${names.reduce((sum, name) => sum + (reference?.operators[name]?.skipped ?? 0), 0)} of them) are run by \`npm test\` on wasm, not here. Firefox, Safari and GPUs of hardware: no machine at hand; the page above is for them.
`;
}

async function main(args) {
  const option = (name) => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
  mkdirSync(programs, { recursive: true });
  if (!args.includes('--write')) await collectLfw();
  if (args.includes('--serve')) {
    const { origin } = await site();
    console.log(
      `Open ${origin}/ in the browser to be tested; ${origin}/?backends=webgpu&parts=faces,training for a part of it. Ctrl-C ends this.`,
    );
    return;
  }
  const before = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).runtimes : [];
  const only = option('--only');
  const operators = option('--operator')?.split(',');
  const parts = operators ? ['operators'] : option('--part')?.split(',');
  const limit = Number(option('--limit') ?? 3600);
  const wanted = [...runtimes, ...(option('--on') === 'system' ? [system] : [])];
  if (!args.includes('--write'))
    await bundleSource({
      entry: join(root, 'test', 'conformance-process.ts'),
      output: join(programs, 'conformance-process.mjs'),
      platform: 'node',
    });
  const reports = [];
  for (const runtime of wanted) {
    const old = before.find((report) => report.runtime === runtime.name);
    if (args.includes('--write') || (only !== undefined && !runtime.name.includes(only))) {
      reports.push(old ?? { runtime: runtime.name, missing: 'not run yet: npm run conformance' });
      continue;
    }
    console.error(`== ${runtime.name}`);
    try {
      reports.push(
        await (runtime.by === 'chromium' ? inChromium : inProcess)(runtime, { limit, parts, before: old, operators }),
      );
    } catch (error) {
      reports.push({ runtime: runtime.name, missing: error.message.split('\n')[0] });
    }
    // Runs of the one runtime beside those of another must not lose each other's.
    const now = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).runtimes : [];
    const merged = wanted.map(({ name }) =>
      name === runtime.name
        ? reports.at(-1)
        : (now.find((r) => r.runtime === name) ?? { runtime: name, missing: 'not run yet: npm run conformance' }),
    );
    writeFileSync(file, `${JSON.stringify({ versions: versions(), runtimes: merged })}\n`);
  }
  const result = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(join(root, 'docs', 'conformance.md'), page(result));
  const bad = result.runtimes.flatMap((report) =>
    (report.backends ?? []).flatMap(({ failures, operators }) => [
      ...failures,
      ...Object.values(operators).flatMap((o) => o.failures),
    ]),
  );
  console.error(`conformance: docs/conformance.md; ${bad.length} results outside their bound or not reached`);
  process.exitCode = bad.length > 0 ? 1 : 0;
}

await main(process.argv.slice(2));
