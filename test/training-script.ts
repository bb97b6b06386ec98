// Ten steps of a small network, the same in Node and in a page: what test/training.browser.ts compares.
import { sha256 } from '../src/io/sha256.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Trainer } from '../src/train/trainer.ts';
import { tinyModel, tinyPeople } from './training-net.ts';

/** What ten steps leave behind. */
export interface TenSteps {
  /** SHA-256 of every tensor, optimiser slots included, in order of their names. */
  readonly hash: string;
  readonly losses: readonly number[];
  /** All weights, one behind the other. */
  readonly weights: readonly number[];
}

export async function tenSteps(backend: Backend): Promise<TenSteps> {
  const model = tinyModel(backend);
  const trainer = new Trainer(model, tinyPeople(10, 5), {
    steps: 10,
    people: 6,
    perPerson: 3,
    extraNegatives: 2,
    learningRate: 0.05,
    seed: 11,
  });
  try {
    const losses: number[] = [];
    for await (const { loss } of trainer.run()) losses.push(loss);
    const tensors = [...(await trainer.state()).tensors].sort(([a], [b]) => (a < b ? -1 : 1));
    const values = tensors.map(([, { data }]) => data);
    const bytes = new Uint8Array(values.reduce((sum, { byteLength }) => sum + byteLength, 0));
    let at = 0;
    for (const { buffer, byteOffset, byteLength } of values) {
      bytes.set(new Uint8Array(buffer, byteOffset, byteLength), at);
      at += byteLength;
    }
    const weights = tensors.flatMap(([name, { data }]) => (name.startsWith('optimizer/') ? [] : [...data]));
    return { hash: await sha256(bytes), losses, weights };
  } finally {
    trainer.dispose();
    model.store.dispose();
  }
}
