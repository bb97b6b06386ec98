// A program that waits for a software device leaves its processor to the device: src/io/node/rest.ts.
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { resting } from '../src/io/node/rest.ts';

/** Milliseconds of each sleep that was asked for; none of them is slept. */
let sleeps: number[] = [];
const stops: (() => void)[] = [];
const begin = resting();

const rest = () => {
  const stop = begin();
  stops.push(stop);
  return stop;
};
const turn = () => new Promise((resolve) => setImmediate(resolve));
const busy = (milliseconds: number) => {
  const start = performance.now();
  while (performance.now() - start < milliseconds);
};

beforeEach(() => {
  sleeps = [];
  vi.spyOn(Atomics, 'wait').mockImplementation((...[, , , milliseconds]) => {
    sleeps.push(milliseconds as number);
    return 'timed-out';
  });
});
afterEach(async () => {
  for (const stop of stops.splice(0)) stop();
  await turn();
  vi.restoreAllMocks();
});

test('turns sleep a sixteenth of the time waited, a millisecond at most', async () => {
  const start = performance.now();
  rest();
  while (performance.now() - start < 40) await turn();
  const waited = performance.now() - start;
  expect(sleeps.length).toBeGreaterThan(10);
  expect(Math.max(...sleeps)).toBe(1);
  expect(sleeps[0]).toBeLessThanOrEqual(waited / 16);
  expect(sleeps, 'ever longer').toEqual([...sleeps].sort((a, b) => a - b));
});

test('until the last of those who wait has stopped; stopping twice is stopping once', async () => {
  const [first, second] = [rest(), rest()];
  first();
  first();
  await turn();
  const start = performance.now();
  while (sleeps.length === 0 && performance.now() - start < 5000) await turn();
  expect(sleeps.length, 'the second still waits').toBeGreaterThan(0);
  second();
  await turn();
  sleeps = [];
  for (let i = 0; i < 1000; i++) await turn();
  expect(sleeps, 'nobody waits').toEqual([]);
});

test('a turn in which others work longer than that does not sleep', async () => {
  rest();
  busy(20);
  for (let i = 0; i < 20; i++) {
    await turn();
    busy(2);
  }
  // Two of one turn may follow each other without the work between them.
  expect(sleeps.length).toBeLessThan(5);
});
