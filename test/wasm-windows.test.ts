// Kernels on wasm that walk windows of pixels or of channels, forward and backward: errors against float64 and bits that do not depend on the
// number of threads, also where threads share an image, a window crosses from one thread's lines to the next, and channels leave a tail.
// area: operators
import { createHash } from 'node:crypto';
import { afterAll, describe, expect, test } from 'vitest';
import { wasmBackend } from './backends.ts';
import { caseTitle, conform } from './conformance.ts';
import { spec as avgPool } from './ops/avgPool.ts';
import { spec as l2Pool } from './ops/l2Pool.ts';
import { spec as lrn } from './ops/lrn.ts';
import { spec as maxPool } from './ops/maxPool.ts';
import type { Case } from './ops/operator-spec.ts';

const steps = (_: number, uniform: () => number) => Math.floor(uniform() * 2); // -2, -1, 0, 1: many ties

const overlapping: Case = {
  why: 'windows over many lines, eight channels and a tail',
  shapes: { x: [2, 9, 7, 13] },
  options: { size: [5, 3], stride: [2, 1], padding: [2, 1, 2, 1] },
};
const high: Case = {
  why: 'windows as high as the image, two fours',
  shapes: { x: [3, 4, 5, 8] },
  options: { size: 4, padding: 2 },
};

const more: readonly (readonly [typeof maxPool, readonly Case[]])[] = [
  [maxPool, [overlapping, high, { ...overlapping, fill: { x: steps } }, { ...high, fill: { x: steps } }]],
  [l2Pool, [overlapping, high]],
  [avgPool, [overlapping, high]],
  [
    lrn,
    [
      { why: 'four channels', shapes: { x: [3, 4] }, options: { alpha: 0.9 } },
      { why: 'eight channels, k 2', shapes: { x: [3, 8] }, options: { alpha: 0.9, k: 2 } },
      { why: 'fours from end to end', shapes: { x: [11, 24] }, options: { alpha: 0.9 } },
      { why: 'fours from end to end of a range', shapes: { x: [11, 12] }, options: { alpha: 0.9 }, slices: ['x'] },
    ],
  ],
];

const threadCounts = [1, 2, 3, 8];

for (const relaxed of [false, true]) {
  describe(relaxed ? 'relaxed' : 'plain', async () => {
    const opened = await Promise.all(threadCounts.map((threads) => wasmBackend({ relaxed, threads })));
    afterAll(async () => {
      for (const backend of opened) await backend.dispose();
    });

    for (const [spec, cases] of more)
      for (const [index, testCase] of [...spec.cases, ...cases].entries())
        test(`${spec.operator.name} ${index + 1}: ${caseTitle(testCase)}`, async () => {
          const hashes = new Map<string, Set<string>>();
          for (const backend of opened)
            for (const { what, error, bound, values } of await conform(backend, spec, testCase)) {
              expect(error, `error of ${what}`).toBeLessThanOrEqual(bound);
              const hash = createHash('sha256').update(
                new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
              );
              hashes.set(what, (hashes.get(what) ?? new Set()).add(hash.digest('hex')));
            }
          expect([...hashes.keys()]).toEqual(['y', 'dx']);
          for (const [what, found] of hashes)
            expect(found.size, `${what} on ${threadCounts.join(', ')} threads`).toBe(1);
        });
  });
}
