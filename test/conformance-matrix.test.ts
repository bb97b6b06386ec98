// area: unit
//
// The committed matrix (conformance.json, docs/conformance.md): nothing empty without its reason, bits equal where that is promised, embeddings and
// decisions within their bounds everywhere. `npm run conformance` makes it anew.
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { specs } from './conformance.ts';
import { PARTS, type RuntimeReport } from './conformance-report.ts';
import { cases } from './networks-cases.ts';

const root = new URL('../', import.meta.url);
const { runtimes } = JSON.parse(readFileSync(new URL('conformance.json', root), 'utf8')) as {
  runtimes: (RuntimeReport & { missing?: string })[];
};
const page = readFileSync(new URL('docs/conformance.md', root), 'utf8');
const columns = runtimes.flatMap(({ runtime, backends = [] }) =>
  backends.map((report) => ({ title: `${runtime} ${report.backend}`, ...report })),
);
const plain = columns.filter(({ backend }) => backend.startsWith('plain'));

test('every runtime is there, with what it was asked for', () => {
  expect(runtimes.flatMap(({ runtime, missing }) => (missing === undefined ? [] : [`${runtime}: ${missing}`]))).toEqual(
    [],
  );
  const wasm = ['plain', 'plain x2', 'relaxed', 'relaxed x2'];
  expect(
    Object.fromEntries(runtimes.map(({ runtime, backends }) => [runtime, backends.map((b) => b.backend)])),
  ).toEqual({
    'Node, wasm': wasm,
    'Node, lavapipe': ['webgpu'],
    'Node, SwiftShader': ['webgpu'],
    'Chromium, wasm': wasm,
    'Chromium, SwiftShader': ['webgpu'],
    'Deno, wasm': wasm,
    'Deno, lavapipe': ['webgpu'],
  });
});

test('the matrix has every operator but the updates of the store, which ten training steps hold', () => {
  const operators = readdirSync(new URL('src/ops/', root)).map((name) => name.replace(/\.ts$/, ''));
  const rows = operators.filter((name) => page.includes(`\n| ${name} (`));
  expect(operators.filter((name) => !rows.includes(name)).sort()).toEqual([
    'adagradUpdate',
    'adamUpdate',
    'emaUpdate',
    'sgdUpdate',
  ]);
});

describe.each(columns.map((column) => [column.title, column] as const))('%s', (_, column) => {
  test('every operator within its bound, on all its cases', () => {
    expect(Object.keys(column.operators).sort()).toEqual(specs.map(({ operator }) => operator.name).sort());
    for (const { operator, cases: own } of specs) {
      const found = column.operators[operator.name]!;
      expect(found.cases + found.skipped, operator.name).toBe(own.length);
      expect(found.failures, operator.name).toEqual([]);
      expect(found.share, operator.name).toBeLessThanOrEqual(1);
    }
  });

  test('networks and faces within 1e-4 of float64, and the decisions of plain wasm', () => {
    expect(Object.keys(column.networks)).toEqual(cases.map(({ label }) => label));
    expect(Object.keys(column.faces)).toHaveLength(21);
    for (const away of [...Object.values(column.networks), ...Object.values(column.faces)])
      expect(away).toBeLessThanOrEqual(1e-4);
    expect(column.decisions).toEqual(plain[0]!.decisions);
    expect(column.detection).toMatchObject({ found: 20, expected: 20 });
    expect(column.detection?.worst).toBeLessThan(0.05);
  });

  test('nothing failed, and no part is missing', () => {
    expect(column.failures).toEqual([]);
    expect(Object.keys(column.ran).sort()).toEqual(Object.keys(PARTS).sort());
  });

  test('300 pairs of LFW: the decisions of plain wasm', () => {
    expect(column.pairs?.decisions).toMatch(/^[01]{300}$/);
    expect(column.pairs?.decisions).toBe(plain[0]!.pairs?.decisions);
  });

  test('ten training steps: the triplets of plain wasm, losses within 1e-4', () => {
    expect(column.triplets).toEqual(plain[0]!.triplets);
    expect(Math.min(...column.triplets)).toBeGreaterThan(0);
    expect(column.losses).toHaveLength(10);
    for (const [step, loss] of column.losses.entries())
      expect(Math.abs(loss - plain[0]!.losses[step]!), `step ${step + 1}`).toBeLessThan(1e-4);
  });
});

test('plain wasm: the same bits in three runtimes, with one and two threads', () => {
  expect(plain).toHaveLength(6);
  const bits = plain.map(({ operators, networkBits, faceBits, trainingBits, pairs }) => ({
    operators: Object.fromEntries(Object.entries(operators).map(([name, { bits: own }]) => [name, own])),
    networkBits,
    faceBits,
    trainingBits,
    pairs: pairs?.bits,
  }));
  expect(bits[0]!.pairs).toMatch(/^[0-9a-f]{16}$/);
  for (const other of bits) expect(other).toEqual(bits[0]);
});
