import { FaceNetError } from '../errors.ts';
import { Philox } from '../graph/philox.ts';

/** Streams of the seed that training draws from: one a purpose, so that none depends on how much another drew. */
export const streams = {
  people: 0x5a01,
  shuffle: 0x5a02,
  augment: 0x5a03,
  head: 0x5a04,
  groups: 0x5a05,
  offline: 0x5a06,
  heldOut: 0x5a07,
} as const;

/** What is drawn for one batch. */
export interface SamplerOptions {
  /** 'people': P people x up to K images, filled up with images of others. 'shuffled': every image once an epoch. */
  readonly sampler: 'people' | 'shuffled';
  readonly people: number;
  readonly perPerson: number;
  /** Images of other people, drawn at random (Schroff et al. 2015, section 3.2: "plus randomly sampled negatives"). */
  readonly extraNegatives: number;
}

/** Who is in a set of images, prepared for drawing. */
export interface Identities {
  /** Image indices of each label that has two or more, in order of first appearance. */
  readonly paired: readonly (readonly number[])[];
  readonly images: number;
  readonly identities: number;
  /** People with a single image: never anchor or positive, but negatives. */
  readonly singles: number;
}

export function identitiesOf(labels: Int32Array): Identities {
  const byLabel = new Map<number, number[]>();
  labels.forEach((label, index) => {
    const list = byLabel.get(label);
    if (list) list.push(index);
    else byLabel.set(label, [index]);
  });
  const all = [...byLabel.values()];
  return {
    paired: all.filter((list) => list.length > 1),
    images: labels.length,
    identities: all.length,
    singles: all.filter((list) => list.length === 1).length,
  };
}

/** Images of one batch: always the same number, P * K + extraNegatives. */
export const batchSizeOf = ({ people, perPerson, extraNegatives }: SamplerOptions): number =>
  people * perPerson + extraNegatives;

/** @throws 'input' naming what was asked and what is there, before the first step. */
export function checkSampler(identities: Identities, options: SamplerOptions): void {
  const { sampler, people, perPerson, extraNegatives } = options;
  for (const [name, value, least] of [
    ['people', people, 1],
    ['perPerson', perPerson, sampler === 'people' ? 2 : 1],
    ['extraNegatives', extraNegatives, 0],
  ] as const) {
    if (!(Number.isInteger(value) && value >= least))
      throw new FaceNetError('input', `train: ${name} must be a whole number from ${least}, got ${value}.`);
  }
  const wanted = batchSizeOf(options);
  const { paired, images, identities: count, singles } = identities;
  if (images === 0) throw new FaceNetError('input', 'train: the data must hold images, got none.');
  if (sampler === 'people' && paired.length < people) {
    throw new FaceNetError(
      'input',
      `train: ${people} x ${perPerson} = ${people * perPerson} images of ${people} people with two or more asked, got ${paired.length} such people (${count} people, ${images} images, ${singles} with a single image). Lower people.`,
    );
  }
  if (sampler === 'people' && count < 2) throw new FaceNetError('input', 'train: triplets need two people, got one.');
  if (images < wanted)
    throw new FaceNetError(
      'input',
      `train: a batch of ${wanted} different images asked, got ${images} images of ${count} people. Lower people or perPerson.`,
    );
}

/**
 * Image indices of the batch of `step` (from 0): a function of its arguments alone, so that a run resumes at any step. Every batch
 * has the same size and no image twice. A person gives up to perPerson images; places left over are filled with random images of others.
 */
export function drawBatch(identities: Identities, options: SamplerOptions, seed: number, step: number): number[] {
  const { people, perPerson } = options;
  return options.sampler === 'people'
    ? drawPeople(identities, { people, perPerson, size: batchSizeOf(options) }, generator(seed, streams.people, step))
    : drawShuffled(identities, options, seed, step);
}

/** `size` different images: up to perPerson of each of `people` random people with two or more, then random ones. */
export function drawPeople(
  { paired, images }: Identities,
  { people, perPerson, size }: { readonly people: number; readonly perPerson: number; readonly size: number },
  random: Philox,
): number[] {
  const drawn: number[] = [];
  for (const person of sample(paired.length, people, random)) {
    const list = paired[person] as readonly number[];
    for (const image of sample(list.length, Math.min(perPerson, list.length), random))
      drawn.push(list[image] as number);
  }
  const taken = new Set(drawn);
  while (drawn.length < size) {
    const image = random.below(images);
    if (taken.has(image)) continue;
    taken.add(image);
    drawn.push(image);
  }
  return drawn;
}

function drawShuffled({ images }: Identities, options: SamplerOptions, seed: number, step: number): number[] {
  const size = batchSizeOf(options);
  const perEpoch = Math.floor(images / size);
  const order = sample(images, images, generator(seed, streams.shuffle, Math.floor(step / perEpoch)));
  const start = (step % perEpoch) * size;
  return order.slice(start, start + size);
}

/** A generator of its own for each (seed, stream, step): streams are 32 bits, so the step is mixed in below the purpose. */
export function generator(seed: number, stream: number, step: number): Philox {
  return new Philox(seed, (Math.imul(stream, 0x10001) ^ Math.imul(step + 1, 0x9e3779b1)) >>> 0);
}

/** The list in random order. */
export const shuffled = (list: readonly number[], random: Philox): number[] =>
  sample(list.length, list.length, random).map((at) => list[at] as number);

/** `count` different numbers below n in random order: the head of a Fisher-Yates shuffle. */
function sample(n: number, count: number, random: Philox): number[] {
  const moved = new Map<number, number>();
  const drawn: number[] = [];
  for (let i = 0; i < count; i++) {
    const at = i + random.below(n - i);
    drawn.push(moved.get(at) ?? at);
    moved.set(at, moved.get(i) ?? i);
  }
  return drawn;
}
