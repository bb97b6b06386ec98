// A small network and small people for tests of training: fast enough for software adapters.
import type { Preprocessing } from '../src/faces/preprocessing.ts';
import { Philox } from '../src/graph/philox.ts';
import { convUnit, plainNames, type Style } from '../src/networks/blocks.ts';
import { initialise, parametersOf } from '../src/networks/initialise.ts';
import { type BuildOptions, defineNetwork, type Network } from '../src/networks/network.ts';
import { globalAveragePool } from '../src/ops/globalAveragePool.ts';
import { linear } from '../src/ops/linear.ts';
import { maxPool } from '../src/ops/maxPool.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { type Dataset, memoryDataset } from '../src/train/dataset.ts';
import type { TrainingModel, TrainStep } from '../src/train/trainer.ts';

const SIDE = 24;

/** Three convolutions with batch norm, 24 x 24 -> 16 numbers; 5,000 parameters. */
export const tinyNet: Network = defineNetwork({
  name: 'nn4.small2',
  source: 'a network for tests',
  input: { width: SIDE, height: SIDE },
  sizes: 'any',
  dimensions: 16,
  pixels: { scale: 1 / 64, shift: [-2, -2, -2] },
  features(x, options: BuildOptions = {}) {
    const style: Style = { names: plainNames, bias: false, norm: 'batch', options };
    let y = convUnit(x, 'conv1', 8, { kernel: 3, stride: 2, padding: 1 }, style);
    y = convUnit(y, 'conv2', 12, { kernel: 3, padding: 1 }, style);
    y = maxPool(y, { size: 3, stride: 2, padding: 1 });
    y = convUnit(y, 'conv3', 24, { kernel: 3, padding: 1 }, style);
    return linear(globalAveragePool(y), x.graph.parameter('embedding/weight', [24, options.dimensions ?? 16]), {
      bias: x.graph.parameter('embedding/bias', [options.dimensions ?? 16]),
    });
  },
});

export const tinyPreprocessing: Preprocessing = {
  width: SIDE,
  height: SIDE,
  colour: 'rgb',
  scale: [1 / 64, 1 / 64, 1 / 64],
  shift: [-2, -2, -2],
  template: {
    name: 'test',
    width: SIDE,
    height: SIDE,
    points: [
      [7, 8],
      [16, 8],
    ],
  },
};

/** A fresh model on a backend, with seeded weights. */
export function tinyModel(backend: Backend, seed = 1): TrainingModel {
  const store = new Store(backend);
  const parameters = parametersOf(tinyNet);
  const values = initialise(parameters, seed);
  for (const { name, shape } of parameters) store.set(name, values.get(name) as Float32Array, shape);
  return { network: tinyNet, variant: {}, preprocessing: tinyPreprocessing, backend, store };
}

/** `people` textures, each seen `images` times with noise and light of its own. */
export function tinyPeople(people: number, images: number, seed = 7): Dataset {
  const items = [];
  for (let person = 0; person < people; person++) {
    const own = new Philox(seed, 1000 + person);
    const texture = Float64Array.from({ length: 6 * 6 * 3 }, () => 40 + 170 * own.uniform());
    for (let image = 0; image < images; image++) {
      const noise = new Philox(seed, 100_000 + person * 1000 + image);
      const light = 0.8 + 0.4 * noise.uniform();
      const data = Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => {
        const [x, y, channel] = [Math.floor(i / 3) % SIDE, Math.floor(i / 3 / SIDE), i % 3];
        const value = texture[(Math.floor(y / 4) * 6 + Math.floor(x / 4)) * 3 + channel] as number;
        return Math.max(0, Math.min(255, Math.round(value * light + 30 * (noise.uniform() - 0.5))));
      });
      items.push({ pixels: { data, width: SIDE, height: SIDE }, label: person });
    }
  }
  return memoryDataset(items);
}

/** A step at which nothing is wrong. */
export const healthyStep: TrainStep = {
  step: 1,
  phase: 0,
  loss: 0.2,
  triplets: 9,
  activeTriplets: 9,
  activeFraction: 1,
  pairs: 9,
  strangers: 9,
  meanPositive: 0.3,
  meanNegative: 0.5,
  gradientNorm: 1,
  learningRate: 0.1,
  milliseconds: 1,
};
