// `npm test`: installs what is missing, builds, checks, and runs every test on every adapter it names.
//
//   npm test                                everything
//   npm test -- operators tasks             only these areas
//   npm test -- test/graph.test.ts          only these files
//   npm test -- --on lavapipe               only this adapter (none, lavapipe, swiftshader, system, chromium)
//   npm test -- -t 'conv2d on wasm'         only tests with this in their name (vitest's -t)
//   npm test -- --no-build                  on what dist/ already holds
//   npm run test:all                        the slow tier too (FACENET_TIER=all), without budgets
//
// A test file says in its first lines where it belongs and where it runs:
//   // area: operators                      one of the areas below; default: unit
//   // on: none lavapipe swiftshader        once for each; default: none (no GPU visible)
// Files test/*.browser.ts run in Chromium (test/browser.mjs). A skipped test must be listed in docs/skipped.md.
// Needs nothing but Node until packages are installed.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ADAPTERS, adapterEnvironment, adapterPresent } from './adapters.mjs';
import { findChromium, installPackages, linuxDistribution, prepareMachine } from './machine.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Minutes an area may take on two cores; more is a failure. Together they stay within CI's 90 minutes; a quiet machine needs far less. */
const budgets = {
  install: 4,
  build: 4,
  unit: 5,
  operators: 26,
  networks: 10,
  training: 8,
  detection: 6,
  tasks: 9,
  browser: 14,
  fuzz: 4,
};

const totals = { passed: 0, failed: 0, skipped: 0 };
const failures = [];
const skips = [];
const seconds = {};
const counts = {};

function add(area, result) {
  counts[area] ??= { passed: 0, failed: 0, skipped: 0 };
  for (const key of Object.keys(totals)) {
    totals[key] += result[key] ?? 0;
    counts[area][key] += result[key] ?? 0;
  }
}

function fail(area, name) {
  failures.push(name);
  add(area, { failed: 1 });
}

async function timed(area, action) {
  const start = performance.now();
  try {
    return await action();
  } finally {
    seconds[area] = (seconds[area] ?? 0) + (performance.now() - start) / 1000;
  }
}

/** Runs Node on `args`; resolves to { code, timedOut }. The whole process group ends with it, so that nothing is left behind. */
function node(args, environment, limitSeconds) {
  return new Promise((done) => {
    const inherited = { ...process.env };
    if (!process.stdout.isTTY) {
      delete inherited.FORCE_COLOR;
      inherited.NO_COLOR = '1';
    }
    const child = spawn(process.execPath, args, {
      cwd: root,
      stdio: 'inherit',
      env: { ...inherited, ...environment },
      detached: process.platform !== 'win32',
    });
    let timedOut = false;
    const end = (signal) => {
      try {
        if (process.platform === 'win32') child.kill(signal);
        else process.kill(-child.pid, signal);
      } catch {
        // The group is gone already.
      }
    };
    const timer = setTimeout(() => {
      timedOut = true;
      end('SIGKILL');
    }, limitSeconds * 1000);
    const interrupted = () => {
      end('SIGTERM');
      process.exit(130);
    };
    process.on('SIGINT', interrupted);
    process.on('SIGTERM', interrupted);
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      process.off('SIGINT', interrupted);
      process.off('SIGTERM', interrupted);
      end('SIGKILL');
      done({ code: code ?? signal, timedOut });
    });
  });
}

/** { area, on } of a test file, from the comments in its first ten lines. */
export function readHeader(text, file) {
  const head = text.split('\n').slice(0, 10).join('\n');
  const value = (key) => new RegExp(`^// ${key}:\\s*(.+)$`, 'm').exec(head)?.[1].trim();
  const browser = file.endsWith('.browser.ts');
  const area = value('area') ?? (browser ? 'browser' : 'unit');
  const on = browser ? ['chromium'] : (value('on') ?? 'none').split(/[\s,]+/);
  if (!Object.hasOwn(budgets, area)) {
    throw new Error(`${file}: area must be one of ${Object.keys(budgets).join(', ')}, got ${area}`);
  }
  for (const adapter of on) {
    if (!browser && !ADAPTERS.includes(adapter)) {
      throw new Error(`${file}: on must name ${ADAPTERS.join(', ')}, got ${adapter}`);
    }
  }
  return { area, on };
}

/** Whether a file with these adapters runs on `adapter`. `--on system` runs on the machine's own GPU what asks for any. */
export function runsOn(on, adapter, only) {
  if (only === 'system' && adapter === 'system') return on.some((name) => !['none', 'chromium'].includes(name));
  return on.includes(adapter);
}

/** Rows of docs/skipped.md: a pattern in backquotes (`*` stands for anything) and the reason. */
export function readAllowedSkips(text) {
  return [...text.matchAll(/^\|\s*`([^`]+)`\s*\|\s*(.+?)\s*\|\s*$/gm)].map(([, pattern, reason]) => ({
    reason,
    expression: new RegExp(`^${pattern.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*')}$`, 's'),
  }));
}

function skip(area, name, allowed) {
  const reason = allowed.find(({ expression }) => expression.test(name))?.reason;
  skips.push({ name, reason });
  add(area, { skipped: 1 });
  if (reason === undefined) fail(area, `${name}: skipped without a reason. List it in docs/skipped.md.`);
}

async function runVitest(area, adapter, files, rest, allowed, environment) {
  const output = join(root, '.cache', 'test', `${area}-${adapter}.json`);
  mkdirSync(dirname(output), { recursive: true });
  rmSync(output, { force: true });
  console.log(`\n== ${area} on ${adapter}: ${files.length} file${files.length === 1 ? '' : 's'}`);
  const { code, timedOut } = await node(
    [
      join(root, 'node_modules', 'vitest', 'vitest.mjs'),
      'run',
      ...files,
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${output}`,
      ...rest,
    ],
    { ...adapterEnvironment(adapter), ...environment },
    (environment.FACENET_TIER === 'all' ? 10 : 1.5) * 60 * budgets[area],
  );
  const name = `${area} on ${adapter}`;
  if (!existsSync(output)) {
    fail(area, `${name}: vitest ${timedOut ? 'was stopped after its time' : `ended with ${code}`} without a report`);
    return;
  }
  const report = JSON.parse(readFileSync(output, 'utf8'));
  const before = totals.failed;
  for (const { name: path, assertionResults, status, message } of report.testResults) {
    const file = path.replaceAll('\\', '/').replace(`${root.replaceAll('\\', '/')}/`, '');
    for (const test of assertionResults) {
      const title = `${file} > ${[...test.ancestorTitles, test.title].join(' > ')} [${adapter}]`;
      if (test.status === 'passed') add(area, { passed: 1 });
      else if (test.status === 'failed') fail(area, title);
      else if (!rest.includes('-t')) skip(area, title, allowed);
    }
    if (assertionResults.length === 0 && status !== 'passed') {
      fail(area, `${file} [${adapter}]: ${message?.split('\n')[0] || 'no tests'}`);
    }
  }
  // An error outside any test (an unhandled rejection, a crashed worker) shows in the exit code only.
  if (totals.failed === before && code !== 0) fail(area, `${name}: vitest ended with ${code}; see its errors above`);
}

async function runBrowser(area, file, allowed, environment) {
  const output = join(root, '.cache', 'test', `${file.replaceAll('/', '-')}.json`);
  mkdirSync(dirname(output), { recursive: true });
  rmSync(output, { force: true });
  console.log(`\n== ${area} in Chromium: ${file}`);
  const limit = (environment.FACENET_TIER === 'all' ? 10 : 1) * 60 * budgets[area];
  const { code, timedOut } = await node(
    [join(root, 'test', 'browser.mjs'), file, '--output', output, '--seconds', String(limit)],
    environment,
    limit + 60,
  );
  if (!existsSync(output)) {
    fail(
      area,
      `${file}: the browser ${timedOut ? 'was stopped after its time' : `run ended with ${code}`} without a report`,
    );
    return;
  }
  const report = JSON.parse(readFileSync(output, 'utf8'));
  add(area, { passed: report.passed });
  for (const failure of report.failures) fail(area, `${file} > ${failure}`);
  for (const name of report.skips ?? []) skip(area, `${file} > ${name} [chromium]`, allowed);
  const unnamed = report.failed - report.failures.length + report.skipped - (report.skips?.length ?? 0);
  if (unnamed !== 0 || (code !== 0 && report.failed === 0)) {
    fail(area, `${file}: ${unnamed} results without a name, exit ${code}`);
  }
}

function finish() {
  const bound = (area) => (Object.hasOwn(counts, area) || Object.hasOwn(seconds, area) ? budgets[area] * 60 : 0);
  if (skips.length > 0) {
    console.log(`\nSKIPPED, ${skips.length} in all:`);
    for (const { name, reason } of skips) console.log(`  ${name}: ${reason ?? 'NOT LISTED in docs/skipped.md'}`);
  }
  if (failures.length > 0) {
    console.log(`\nFAILED, ${failures.length} in all:`);
    for (const name of failures) console.log(`  ${name}`);
  }
  console.log('\narea         seconds   budget   passed   failed  skipped');
  for (const area of Object.keys(budgets)) {
    if (bound(area) === 0) continue;
    const { passed, failed, skipped } = counts[area] ?? { passed: 0, failed: 0, skipped: 0 };
    const cells = [(seconds[area] ?? 0).toFixed(1), bound(area), passed, failed, skipped];
    console.log(area.padEnd(11) + cells.map((cell) => String(cell).padStart(9)).join(''));
  }
  console.log(`\n${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
  process.exitCode = totals.failed > 0 ? 1 : 0;
}

async function main(args) {
  const tierAll = args.includes('--all');
  const environment = tierAll ? { FACENET_TIER: 'all' } : {};
  const build = !args.includes('--no-build');
  const onlyOn = args.includes('--on') ? args[args.indexOf('--on') + 1] : undefined;
  const areas = args.filter((arg) => Object.hasOwn(budgets, arg));
  const chosen = args.filter((arg) => /^test\/.*\.(test|browser)\.ts$/.test(arg));
  const rest = args.includes('-t') ? ['-t', args[args.indexOf('-t') + 1]] : [];
  const known = new Set(['--all', '--no-build', '--on', onlyOn, ...areas, ...chosen, ...rest]);
  const unknown = args.filter((arg) => !known.has(arg));
  if (unknown.length > 0) throw new Error(`test: unknown argument ${unknown.join(' ')}. See the head of test/run.mjs.`);

  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    throw new Error(`test: Node must be 20.19 or newer, got ${process.version}`);
  }

  // -- install -------------------------------------------------------------------------------------------------------
  let missing = [];
  await timed('install', async () => {
    installPackages();
    missing = prepareMachine();
  });
  if (missing.length > 0 && linuxDistribution()?.id === 'debian' && process.getuid?.() === 0) {
    fail('install', `install: apt-get did not bring ${missing.join(' and ')}`);
  }

  // -- build and check -----------------------------------------------------------------------------------------------
  if (build) {
    await timed('build', async () => {
      console.log('\n== build');
      for (const step of ['wasm', 'bundle', 'types', 'models']) {
        const { code } = await node([join(root, 'build.mjs'), step], {}, 600);
        if (code === 0) continue;
        // Without these there is nothing to test; the others are faults beside which the tests still tell something.
        if (step === 'wasm' || step === 'bundle') throw new Error(`build: node build.mjs ${step} ended with ${code}`);
        fail('build', `build: node build.mjs ${step} ended with ${code}; see above`);
      }
      if (chosen.length === 0 && areas.length === 0) {
        console.log('\n== check');
        const checked = await node([join(root, 'build.mjs'), 'check'], {}, 600);
        if (checked.code !== 0) fail('build', 'check: node build.mjs check found faults; see above');
      }
    });
  }

  // -- tests ---------------------------------------------------------------------------------------------------------
  const list = existsSync(join(root, 'docs', 'skipped.md'))
    ? readFileSync(join(root, 'docs', 'skipped.md'), 'utf8')
    : '';
  const allowed = readAllowedSkips(list);
  const files = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .map((name) => `test/${name.replaceAll('\\', '/')}`)
    .filter((name) => /\.(test|browser)\.ts$/.test(name))
    .filter((name) => chosen.length === 0 || chosen.includes(name))
    .sort()
    .map((file) => ({ file, ...readHeader(readFileSync(join(root, file), 'utf8'), file) }));

  for (const area of Object.keys(budgets)) {
    if (areas.length > 0 && !areas.includes(area)) continue;
    for (const adapter of [...ADAPTERS, 'chromium']) {
      if (onlyOn !== undefined && adapter !== onlyOn) continue;
      const wanted = files
        .filter((entry) => entry.area === area && runsOn(entry.on, adapter, onlyOn))
        .map(({ file }) => file);
      if (wanted.length === 0) continue;
      const present = adapter === 'chromium' ? findChromium() !== null : adapterPresent(adapter);
      if (!present) for (const file of wanted) skip(area, `${file} [${adapter}]`, allowed);
      else if (adapter !== 'chromium') {
        await timed(area, () => runVitest(area, adapter, wanted, rest, allowed, environment));
      } else for (const file of wanted) await timed(area, () => runBrowser(area, file, allowed, environment));
    }
    if (!tierAll && seconds[area] > budgets[area] * 60) {
      fail(area, `${area}: took ${seconds[area].toFixed(0)} s, its budget is ${budgets[area] * 60} s`);
    }
  }
  if (files.length === 0) fail('unit', 'test: no test file was found');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    fail(Object.keys(seconds).at(-1) ?? 'install', error.message);
  }
  finish();
}
