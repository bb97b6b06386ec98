// Every operator in a page: wasm, and WebGPU on the browser's adapter, against float64. The cases of conformance.test.ts.
// area: browser
import { backends, title } from './backends.ts';
import { caseTitle, conform, specs } from './conformance.ts';

/** Runs in the page; see test/browser.mjs. */
export async function run(): Promise<{ passed: number; failed: number; skipped: number; failures: string[] }> {
  let passed = 0;
  let skipped = 0;
  const failures: string[] = [];
  for (const backend of await backends()) {
    for (const spec of specs) {
      for (const testCase of spec.cases) {
        // Tier 1: software WebGPU compiles each new pipeline for tenths of a second.
        if (testCase.large === true && backend.name === 'webgpu') {
          skipped++;
          continue;
        }
        const name = `${spec.operator.name} on ${title(backend)}: ${caseTitle(testCase)}`;
        try {
          const bad = (await conform(backend, spec, testCase)).filter(({ error, bound }) => !(error <= bound));
          if (bad.length === 0) passed++;
          else
            failures.push(
              `${name}: ${bad.map(({ what, error, bound }) => `${what} error ${error}, bound ${bound}`).join('; ')}`,
            );
        } catch (error) {
          failures.push(`${name}: ${(error as Error).message}`);
        }
      }
    }
    await backend.dispose();
  }
  return { passed, failed: failures.length, skipped, failures };
}
