// Training in a page: the same script as in Node, ten steps of a small network. Plain wasm has Node's bits; WebGPU is compared with Node's
// on the same software adapter, and the difference is said.
// area: browser
import { wasmBackend, webgpuBackend } from './backends.ts';
import { Checks, type PageReport } from './page-report.ts';
import type { ExpectedTraining } from './training.node.ts';
import { tenSteps } from './training-script.ts';

/** Runs in the page; see test/browser.mjs. */
export async function run(): Promise<PageReport> {
  const checks = new Checks();
  const expected = (await (await fetch('/expected.json')).json()) as ExpectedTraining;

  for (const threads of [1, 2]) {
    await checks.check(
      `ten steps by plain wasm, ${threads} thread${threads > 1 ? 's' : ''}: the hash of Node`,
      async () => {
        const backend = await wasmBackend({ threads });
        const { hash } = await tenSteps(backend);
        await backend.dispose();
        return hash === expected.wasm.hash || `${hash}, not ${expected.wasm.hash}`;
      },
    );
  }

  await checks.check("ten steps by WebGPU: Node's on the same driver, within 1e-3 of the largest weight", async () => {
    const backend = await webgpuBackend();
    if (!backend) return 'no adapter';
    const { hash, losses, weights } = await tenSteps(backend);
    await backend.dispose();
    const other = expected.webgpu ?? expected.wasm;
    const where = expected.webgpu ? 'Node + SwiftShader' : 'Node + wasm (Node finds no SwiftShader)';
    const largest = weights.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const worst = weights.reduce((most, value, i) => Math.max(most, Math.abs(value - (other.weights[i] as number))), 0);
    console.log(
      `WebGPU in this page against ${where}: ${hash === other.hash ? 'the same bits' : `other bits, weights at most ${(worst / largest).toExponential(1)} of the largest apart`}; last loss ${losses.at(-1)} and ${other.losses.at(-1)}; against wasm: last loss ${expected.wasm.losses.at(-1)}`,
    );
    const same = weights.length === other.weights.length && losses.every(Number.isFinite);
    return (same && worst <= 1e-3 * largest) || `${worst / largest}`;
  });
  return checks.report;
}
