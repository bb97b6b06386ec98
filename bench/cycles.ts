// Reliability R4: the same thing again and again, in Node or in Chromium. What is alive (counters, active resources, listeners, workers) must
// be equal after the tenth time and after the last (of steps: after the tenth of the last object), the bits equal always, and memory must not grow.
//
//   node build.mjs run bench/cycles.ts [node|chromium] [wasm|webgpu] [TIMES] [objects|embeds|steps]
//
// Default: node wasm 1000 objects; VK_ICD_FILENAMES chooses Node's adapter. objects: create, embed, dispose; embeds: ten embeddings a time with one
// object; steps: one training step a time, a new object after 200. Growth is the slope of the line through resident memory after a forced
// collection, over all but the first tenth: through the least of each twentieth of it, in which a browser is given
// time once, since it gives shared memories back seconds later (on WebGPU it collects only then, so that devices are handed on in between). Beside `objects` stands a control in a process of its own, which uses none of our code: as many workers
// with as large a shared memory that instantiate the same module and are ended, or a device of WebGPU that runs a few kernels and is destroyed. What that grows by is
// the runtime's. Fails where something alive or bits change, or where growth over the control is 2 kB an object, embedding or step and more.
// CONTROL=no leaves the control out. The last line is a row of docs/reliability.md.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext, runInThisContext } from 'node:vm';

const [, program = '', ...words] = process.argv;
const child = words[0] === 'child';
const [where = 'node', backend = 'wasm', count = '1000', what = 'objects'] = child ? words.slice(1) : words;
const times = Number(count);
const root = process.cwd();
const STEPS = 200;
/** Times from one object to the next at the same place. */
const period = what === 'steps' ? STEPS : 1;

/** One time: what is alive afterwards as text, bits of the result as text, and bytes resident. */
interface Sample {
  readonly alive: string;
  readonly bits: string;
  readonly bytes: number;
}

/** Source of what is done, in both places; the object is small and its network random. `at.kept` outlives a call. */
const sources: Record<string, string> = {
  objects: `async (at) => {
    const net = await at.create();
    const { data } = await net.embed(at.pixels);
    await net.dispose();
    return [net.counters(), data.join()];
  }`,
  embeds: `async (at) => {
    const { kept, pixels } = at;
    kept.net ??= await at.create();
    let last;
    for (let i = 0; i < 10; i++) last = await kept.net.embed(pixels);
    return [kept.net.counters(), last.data.join()];
  }`,
  steps: `async (at) => {
    const { kept, people } = at;
    if (!kept.steps) {
      kept.net = await at.create();
      kept.steps = kept.net.train(people, { steps: ${STEPS}, people: 3, perPerson: 2, seed: 1 })[Symbol.asyncIterator]();
      kept.done = 0;
    }
    const { value } = await kept.steps.next();
    const found = [kept.net.counters(), [value.loss, value.gradientNorm].join()];
    if (++kept.done === ${STEPS}) {
      await kept.steps.next();
      await kept.net.dispose();
      kept.steps = undefined;
    }
    return found;
  }`,
  wasmControl: `async ({ kept, compile, startWorker }) => {
    kept.module ??= await compile();
    const memory = new WebAssembly.Memory({ initial: 320, maximum: 65536, shared: true });
    new Uint8Array(memory.buffer).fill(1);
    const workers = [startWorker(), startWorker()];
    await Promise.all(workers.map(({ answer, post }) => (post({ module: kept.module, memory }), answer)));
    await Promise.all(workers.map(({ end }) => end()));
    return [{}, ''];
  }`,
  webgpuControl: `async ({ findGpu }) => {
    const device = await (await (await findGpu()).requestAdapter()).requestDevice();
    for (let i = 0; i < 20; i++) {
      const code = '@group(0) @binding(0) var<storage, read_write> y: array<f32>;' +
        '@compute @workgroup_size(64) fn f(@builtin(global_invocation_id) at: vec3u) { y[at.x] = y[at.x] * ' + (i + 1) + '.0 + 1.0; }';
      const compute = { module: device.createShaderModule({ code }), entryPoint: 'f' };
      const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute });
      const buffer = device.createBuffer({ size: 2 ** 20, usage: 132 });
      const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer } }] });
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(1);
      pass.end();
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
      buffer.destroy();
    }
    device.destroy();
    return [{}, ''];
  }`,
};

/** Source of the object that these are given, but for what Node and pages do differently. */
const given = `(library, own) => ({
  ...own,
  kept: {},
  pixels: { data: Uint8Array.from({ length: 32 * 32 * 3 }, (_, i) => (i * 31) & 255), width: 32, height: 32 },
  people: library.memoryDataset(Array.from({ length: 12 }, (_, i) => ({
    pixels: { data: Uint8Array.from({ length: 32 * 32 * 3 }, (_, at) => (at * (31 + i)) & 255), width: 32, height: 32 },
    label: i >> 1,
  }))),
  // From bytes: drawing the weights anew would take most of the time.
  async create() {
    const options = { backend: ${JSON.stringify(backend)}, threads: 2, batchSize: 1 };
    if (!this.kept.model) {
      const net = await library.FaceNetGPU.create({ model: { network: 'nn4.small2', seed: 1, size: 32 }, ...options });
      this.kept.model = await net.save();
      await net.dispose();
    }
    return library.FaceNetGPU.create({ model: this.kept.model, ...options });
  },
})`;

/** Source of what a worker of the control does: instantiates, answers, sleeps. */
const sleeper = `async ({ module, memory }, answer) => {
  await WebAssembly.instantiate(module, { env: { memory, abort() {} } });
  answer('ready');
  Atomics.wait(new Int32Array(memory.buffer), 0, 0x01010101);
}`;

/** Embeddings are counted one by one. */
const perTime = what === 'embeds' ? 10 : 1;

/** Bytes a time: slope of the line through the points. */
function slope(values: readonly number[]): number {
  const mean = (values.length - 1) / 2;
  const level = values.reduce((sum, value) => sum + value, 0) / values.length;
  const above = values.reduce((sum, value, i) => sum + (i - mean) * (value - level), 0);
  return above / values.reduce((sum, _, i) => sum + (i - mean) ** 2, 0);
}

/** Of so many times, a twentieth of all but the first tenth. */
const partOf = (count: number): number => Math.max(1, Math.floor((count - Math.floor(count / 10)) / 20));

/** Growth of memory by an object, embedding or step, over all but the first tenth, and over whole objects where one lasts long. */
function growthOf(samples: readonly Sample[]): number {
  const objects = samples.length >= 5 * period ? period : 1;
  const from = Math.ceil(Math.max(1, samples.length / 10) / objects) * objects;
  const bytes = samples.slice(from).map((sample) => sample.bytes);
  const part = Math.max(objects, partOf(samples.length));
  return slope(parts(bytes, part).map((group) => Math.min(...group))) / part / perTime;
}

/** Whole groups of so many, in order. */
const parts = <T>(values: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.floor(values.length / size) }, (_, i) => values.slice(i * size, (i + 1) * size));

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Does it `times` times in this process. */
async function inNode(task: string): Promise<Sample[]> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const { Worker } = await import('node:worker_threads');
  const text = `const { parentPort } = require('node:worker_threads');
    parentPort.on('message', (data) => (${sleeper})(data, (message) => parentPort.postMessage(message)));`;
  const own = {
    compile: () => WebAssembly.compile(readFileSync(join(root, 'dist', 'facenet.wasm'))),
    startWorker: () => {
      const worker = new Worker(text, { eval: true });
      const answer = new Promise((done, fail) => worker.once('message', done).once('error', fail));
      return { answer, post: (message: unknown) => worker.postMessage(message), end: () => worker.terminate() };
    },
    findGpu: async () => ((await import('webgpu')) as unknown as { create(flags: string[]): GPU }).create([]),
  };
  const library = await import(pathToFileURL(join(root, 'dist', 'facenet-gpu.node.js')).href);
  const at = (runInThisContext(given) as (...args: unknown[]) => object)(library, own);
  const run = runInThisContext(`(${sources[task]})`) as (at: object) => Promise<[object, string]>;
  const samples: Sample[] = [];
  for (let i = 0; i < times; i++) {
    const [counters, bits] = await run(at);
    // Twice: buffers of what was collected are given back by another thread.
    for (let k = 0; k < 2; k++) {
      collect();
      await new Promise((done) => setTimeout(done, 1));
    }
    const resources = process
      .getActiveResourcesInfo()
      .filter((name) => !/Timeout|TTY|Pipe|FSReq|Immediate/.test(name)).length;
    const files = existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length : 0;
    const alive = `${JSON.stringify(counters)}, ${resources} resources, ${files} files`;
    samples.push({ alive, bits: digest(bits), bytes: process.memoryUsage().rss });
  }
  return samples;
}

/** Messages to and from a browser through its debugging pipe. */
class BrowserPipe {
  readonly #input: Duplex;
  readonly #waiting = new Map<number, { done(result: never): void; fail(error: Error): void }>();
  #sent = 0;

  constructor(browser: ChildProcess) {
    this.#input = browser.stdio[3] as Duplex;
    let text = '';
    (browser.stdio[4] as Duplex).setEncoding('utf8').on('data', (part: string) => {
      const messages = (text + part).split('\0');
      text = messages.pop() as string;
      for (const message of messages) {
        const { id, result, error } = JSON.parse(message);
        const waiting = this.#waiting.get(id);
        this.#waiting.delete(id);
        if (error) waiting?.fail(new Error(error.message));
        else waiting?.done(result as never);
      }
    });
  }

  send<T>(method: string, params: object = {}, sessionId?: string): Promise<T> {
    const id = ++this.#sent;
    this.#input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((done, fail) => this.#waiting.set(id, { done, fail }));
  }
}

/** Does it `times` times in a page. Not by Playwright: that has the page keep whatever it fetches for its debugger, which grows. */
async function inChromium(task: string): Promise<Sample[]> {
  const { findChromium } = (await import(pathToFileURL(join(root, 'test/machine.mjs')).href)) as {
    findChromium(): string;
  };
  const { chromiumArguments, serve } = (await import(pathToFileURL(join(root, 'test/browser.mjs')).href)) as {
    chromiumArguments: string[];
    serve(extra: object): Promise<{ origin: string; close(): Promise<void> }>;
  };
  const { origin, close } = await serve({
    '/': { type: 'text/html', body: '<!doctype html><title>cycles</title>' },
    '/control.js': {
      type: 'text/javascript',
      body: `onmessage = ({ data }) => (${sleeper})(data, (message) => postMessage(message));`,
    },
  });
  const profile = mkdtempSync(join(tmpdir(), 'facenet-gpu-cycles-'));
  const browser = spawn(
    findChromium(),
    [...chromiumArguments, '--headless', '--remote-debugging-pipe', `--user-data-dir=${profile}`, 'about:blank'],
    { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] },
  );
  const ended = new Promise((done) => browser.once('exit', done));
  try {
    const pipe = new BrowserPipe(browser);
    const { targetId } = await pipe.send<{ targetId: string }>('Target.createTarget', { url: `${origin}/` });
    const { sessionId } = await pipe.send<{ sessionId: string }>('Target.attachToTarget', { targetId, flatten: true });
    const evaluate = async <T>(expression: string): Promise<T> => {
      const { result, exceptionDetails } = await pipe.send<{ result: { value: T }; exceptionDetails?: object }>(
        'Runtime.evaluate',
        { expression, awaitPromise: true, returnByValue: true },
        sessionId,
      );
      if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
      return result.value;
    };
    const loaded = 'document.readyState === "complete" && location.protocol === "http:"';
    // Between two documents there is none to ask.
    while (!(await evaluate<boolean>(loaded).catch(() => false))) await new Promise((done) => setTimeout(done, 50));
    await pipe.send('Performance.enable', {}, sessionId);
    await evaluate(`(async () => {
      globalThis.at = (${given})(await import('/dist/facenet-gpu.js'), {
        compile: () => WebAssembly.compileStreaming(fetch('/dist/facenet.wasm')),
        startWorker: () => {
          const worker = new Worker('/control.js');
          const answer = new Promise((done, fail) => { worker.onmessage = done; worker.onerror = fail; });
          return { answer, post: (message) => worker.postMessage(message), end: () => worker.terminate() };
        },
        findGpu: () => navigator.gpu,
      });
      globalThis.run = ${sources[task]};
    })()`);
    const samples: Sample[] = [];
    const watched = new Set<number>();
    for (let i = 0; i < times; i++) {
      const [counters, bits] = await evaluate<[object, string]>('run(at)');
      // A collection takes the device that an object left to the next, and the next then compiles for seconds.
      const rests = i === 9 || i === times - 1 || i % partOf(times) === 0;
      if (rests || backend === 'wasm') await pipe.send('HeapProfiler.collectGarbage', {}, sessionId);
      // Ended workers and their memories are given back seconds later, some at each collection.
      for (let k = 0; k < (rests ? 5 : 0); k++) {
        await new Promise((done) => setTimeout(done, 500));
        await pipe.send('HeapProfiler.collectGarbage', {}, sessionId);
      }
      const { metrics } = await pipe.send<{ metrics: { name: string; value: number }[] }>(
        'Performance.getMetrics',
        {},
        sessionId,
      );
      const metric = (name: string) => metrics.find((one) => one.name === name)?.value ?? Number.NaN;
      // All processes of the browser: linear memories and GPU buffers are outside of the page's heap.
      const { processInfo } = await pipe.send<{ processInfo: { id: number }[] }>('SystemInfo.getProcessInfo');
      // Of those that were there after the tenth time: now and then Chromium starts one more for a page that may come.
      if (i <= 9) for (const { id } of processInfo) watched.add(id);
      const bytes = processInfo.reduce((sum, { id }) => {
        if (!watched.has(id)) return sum;
        const status = existsSync(`/proc/${id}/status`) ? readFileSync(`/proc/${id}/status`, 'utf8') : '';
        return sum + 1024 * Number(/^RssAnon:\s+(\d+)/m.exec(status)?.[1] ?? 0);
      }, 0);
      const alive = `${JSON.stringify(counters)}, ${metric('JSEventListeners')} listeners, ${metric('Nodes')} nodes`;
      samples.push({ alive, bits: digest(bits), bytes });
    }
    await pipe.send('Browser.close');
    return samples;
  } finally {
    browser.kill();
    await ended;
    await close();
    // Its other processes may still be writing for a moment.
    rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

/** In a process of its own, Node's or the browser's. */
async function measure(task: string): Promise<{ samples: Sample[]; growth: number }> {
  let samples: Sample[];
  if (where === 'chromium') samples = await inChromium(task);
  else {
    const { stdout, stderr, status } = spawnSync(process.execPath, [program, 'child', where, backend, count, task], {
      encoding: 'utf8',
      maxBuffer: 2 ** 30,
    });
    if (status !== 0) throw new Error(stderr);
    samples = JSON.parse(stdout.trim().split('\n').at(-1) as string) as Sample[];
  }
  return { samples, growth: growthOf(samples) };
}

async function main(): Promise<void> {
  const start = performance.now();
  const { samples, growth } = await measure(what);
  const control =
    what === 'objects' && process.env.CONTROL !== 'no' ? (await measure(`${backend}Control`)).growth : undefined;
  const seconds = (performance.now() - start) / 1000;
  const tenth = samples[Math.min(9, times - 1)] as Sample;
  const last = samples[9 + period * Math.floor((times - 10) / period)] ?? tenth;
  const megabytes = ({ bytes }: Sample) => `${(bytes / 1e6).toFixed(1)} MB`;
  const kilobytes = (bytes: number) => (bytes / 1000).toFixed(2);
  console.log(`${where}, ${backend}: ${times} x ${what} in ${seconds.toFixed(0)} s`);
  console.log(`after the tenth: ${tenth.alive}; ${megabytes(tenth)}`);
  console.log(`after the last: ${last.alive}; ${megabytes(last)}`);
  const tenths = parts(samples, Math.max(1, Math.floor(times / 10)));
  const least = tenths.map((group) => (Math.min(...group.map(({ bytes }) => bytes)) / 1e6).toFixed(1));
  console.log(`least of each tenth, MB: ${least.join(', ')}`);
  console.log(`growth ${kilobytes(growth)} kB each${control === undefined ? '' : `, control ${kilobytes(control)}`}`);
  const bits = samples.every((sample, i) => sample.bits === samples[i % period]?.bits);
  const failures = [
    ...(tenth.alive === last.alive ? [] : ['what is alive changed']),
    ...(bits ? [] : ['bits changed']),
    ...(growth - Math.max(0, control ?? 0) < 2000 ? [] : ['memory grows']),
  ];
  for (const failure of failures) console.error(failure);
  if (failures.length > 0) process.exitCode = 1;
  const adapter =
    backend === 'wasm'
      ? 'wasm'
      : where === 'chromium'
        ? 'SwiftShader'
        : (process.env.VK_ICD_FILENAMES ?? 'webgpu').replace(/^.*\/|_icd.*$/g, '');
  console.log(
    `| R4 | ${what} | ${where === 'node' ? 'Node' : 'Chromium'} | ${adapter} | ${times} | ${failures.join(', ') || 'none'} | ${kilobytes(growth)} kB each${control === undefined ? '' : `, control ${kilobytes(control)}`} | ${new Date().toISOString().slice(0, 10)} |`,
  );
}

if (child) {
  // Ends once all of it is in the pipe.
  process.stdout.write(`${JSON.stringify(await inNode(what))}\n`, () => process.exit(0));
} else await main();
