// area: operators
// on: none lavapipe swiftshader
// Every operator, backend and case against float64. No per-operator code.
import { afterAll, describe, expect, test } from 'vitest';
import { backends, title } from './backends.ts';
import { caseTitle, conform, specs } from './conformance.ts';

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

for (const backend of opened) {
  for (const spec of specs) {
    describe(`${spec.operator.name} on ${title(backend)}`, () => {
      for (const testCase of spec.cases) {
        test.skipIf(testCase.large === true && backend.name === 'webgpu')(caseTitle(testCase), async () => {
          const before = backend.counters();
          for (const { what, error, bound } of await conform(backend, spec, testCase)) {
            expect(error, `${what}: error ${error}, bound ${bound}`).toBeLessThanOrEqual(bound);
          }
          const after = backend.counters();
          expect([after.buffers, after.bytes, after.programs]).toEqual([before.buffers, before.bytes, before.programs]);
        });
      }
    });
  }
}
