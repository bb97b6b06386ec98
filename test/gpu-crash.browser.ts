// Reliability R2 in a page: the GPU process really crashes while a call runs and between two steps of training. Both keep their bits.
// area: browser
import type { FaceNetGPU as Class, Pixels } from '../src/index.ts';
import { memoryDataset } from '../src/train/dataset.ts';
import { Checks, type PageReport, sameBits } from './page-report.ts';

const noise = (seed: number): Pixels => {
  const data = Uint8Array.from({ length: 32 * 32 * 3 }, (_, i) => (i * 37 + seed * 91 + (i >> 5) * seed) & 255);
  return { data, width: 32, height: 32 };
};

/** Given by test/browser.mjs. */
const crash = (): Promise<void> => (globalThis as unknown as { crashGpuProcess(): Promise<void> }).crashGpuProcess();

/** Runs in the page; see test/browser.mjs. */
export async function run(): Promise<PageReport> {
  const checks = new Checks();
  const library = '/dist/facenet-gpu.js';
  const { FaceNetGPU } = (await import(/* @vite-ignore */ library)) as { FaceNetGPU: typeof Class };
  const { crashes, training } = (await (await fetch('/expected.json')).json()) as {
    crashes: number;
    training: boolean;
  };
  const model = { network: 'nn4.small2', seed: 2, size: 32 } as const;
  const told: boolean[] = [];
  const net = await FaceNetGPU.create({
    model,
    backend: 'webgpu',
    batchSize: 2,
    onDeviceLost: ({ recovered }) => told.push(recovered),
  });
  // Enough for the call to be under way when the crash arrives, some 0.2 s after it was asked for.
  const faces = Array.from({ length: 80 }, (_, i) => noise(i));
  const { data: expected } = await net.embed(faces);
  for (let time = 1; time <= crashes; time++) {
    await checks.check(`crash ${time} while a call runs: the same bits, told once`, async () => {
      told.length = 0;
      let settled = false;
      const running = net.embed(faces).finally(() => {
        settled = true;
      });
      await crash();
      if (settled) return 'the call ended before the crash';
      const first = sameBits((await running).data, expected);
      const second = sameBits((await net.embed(faces)).data, expected);
      if (first !== true || second !== true) return `${first}, ${second}`;
      return (told.length === 1 && told[0] === true) || JSON.stringify(told);
    });
  }
  if (!training) {
    await net.dispose();
    return checks.report;
  }
  await checks.check('a crash between two steps of training: the losses of an undisturbed run', async () => {
    const data = memoryDataset(Array.from({ length: 12 }, (_, i) => ({ pixels: noise(i), label: i >> 1 })));
    const results: number[][] = [];
    for (const at of [0, 2]) {
      const object = at === 0 ? net : await FaceNetGPU.create({ model, backend: 'webgpu', batchSize: 2 });
      const losses: number[] = [];
      const options = { steps: 3, people: 3, perPerson: 2, seed: 1, snapshotEvery: 2 } as const;
      for await (const { step, loss } of object.train(data, options)) {
        losses.push(loss);
        if (step === at) await crash();
      }
      results.push([...losses, ...(await object.embed(noise(3))).data]);
      await object.dispose();
    }
    return sameBits(results[1] as number[], results[0] as number[]);
  });
  return checks.report;
}
