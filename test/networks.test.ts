// area: networks
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { activationMemory, blocks, cost, type Layer, layers } from '../src/graph/accounting.ts';
import { gradients } from '../src/graph/gradients.ts';
import { Graph } from '../src/graph/graph.ts';
import type { Operator } from '../src/graph/operator.ts';
import { Philox } from '../src/graph/philox.ts';
import { deserialise, serialise } from '../src/graph/serialise.ts';
import { BATCH, type Shape } from '../src/graph/shape.ts';
import { inceptionResnetV1, inceptionResnetV1Logits } from '../src/networks/inception-resnet-v1.ts';
import { initialise, normalQuantile, parametersOf, streamOf } from '../src/networks/initialise.ts';
import type { BatchStatistics, BuildOptions, Network, NetworkName } from '../src/networks/network.ts';
import { networks } from '../src/networks/networks.ts';
import { type Figure, published, readFigure } from '../src/networks/published.ts';
import { add } from '../src/ops/add.ts';
import { evaluate, pullBack } from './networks-oracle.ts';
import { uniform } from './numeric.ts';
import { ourName, readOpenFaceWeights } from './openface-weights.ts';
import { facenetPytorch } from './oracles/facenet-pytorch.ts';

const names = Object.keys(networks) as NetworkName[];
const SHARED = process.env.FACENET_SHARED ?? '../shared';

function built(name: NetworkName, options: BuildOptions = {}, size = networks[name].input) {
  const graph = new Graph();
  const y = networks[name].build(graph.input('x', [BATCH, size.height, size.width, 3]), options);
  return { graph, y, layers: layers(graph) };
}

/** Every operator that the networks' graphs use, gradients included: what `deserialise` may know. */
function operatorsOf(graph: Graph): Operator[] {
  return [...new Set(graph.values.flatMap((value) => value.operator ?? []))];
}

/** Biases of a block: parameters, and one addition for each of their outputs. */
function biases(graph: Graph, list: readonly Layer[]): { parameters: number; additions: number } {
  const sums = { parameters: 0, additions: 0 };
  for (const layer of list) {
    const value = graph.values.find((v) => v.kind === 'operation' && v.name === `${layer.name}/${layer.operator}`);
    const bias = value?.inputs.find((input) => input?.name.endsWith('/bias'));
    if (!bias) continue;
    sums.parameters += bias.shape[0] as number;
    sums.additions += layer.output.reduce((a, b) => a * b, 1);
  }
  return sums;
}

/** Whether a number between `low` and `high` is printed as `figure`. */
function expectBetween(low: number, high: number, figure: Figure | undefined, what: string) {
  if (figure === undefined) return;
  const { value, within } = readFigure(figure);
  expect(value, `${what}: ${low} to ${high}`).toBeGreaterThanOrEqual(low - within);
  expect(value, `${what}: ${low} to ${high}`).toBeLessThanOrEqual(high + within);
}

function expectFigure(value: number, figure: Figure | undefined, what: string) {
  if (figure === undefined) return;
  const { value: printed, within } = readFigure(figure);
  expect(Math.abs(value - printed), `${what}: ${value} against ${figure}`).toBeLessThanOrEqual(within);
}

describe('totals', () => {
  // Counts published by OpenFace (facenet.md D9); batch norm and biases included.
  it.each<[NetworkName, number]>([
    ['nn4.small2', 3_733_968],
    ['nn4.small1', 5_579_520],
    ['nn4', 6_959_088],
    ['nn2', 7_472_144],
  ])('%s has the parameters OpenFace counts', (name, parameters) => {
    expect(cost(built(name).layers).parameters).toBe(parameters);
  });

  // facenet.md D1 and D9, "recomputed".
  it.each<[NetworkName, string]>([
    ['nn4.small2', '206.9M'],
    ['nn4.small1', '239.4M'],
    ['nn4', '288.9M'],
    ['nn2', '1.597B'],
    ['nn1', '1.606B'],
    ['nn3', '0.815B'],
  ])('%s takes %s multiply-adds', (name, figure) => {
    expectFigure(cost(built(name, name === 'nn1' ? { batchNorm: false } : {}).layers).multiplyAdds, figure, name);
  });

  // OpenFace's released weights hold as many running means and variances (README of the partial weights).
  it('nn4.small2 has 9,312 running statistics beside its parameters', () => {
    expect(cost(built('nn4.small2').layers).statistics).toBe(9_312);
  });

  it('nn2 without batch norm has 7.456 M parameters, 7.448 M of them weights', () => {
    expectFigure(cost(built('nn2', { batchNorm: false }).layers).parameters, '7.456M', 'with biases');
    const weights = parametersOf(networks.nn2).filter(({ role }) => role === 'weight');
    expectFigure(
      weights.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
      '7.448M',
      'weights',
    );
  });

  it('nn1 has 140.007 M weights, 103 M of them in fc1', () => {
    const weights = parametersOf(networks.nn1).filter(({ role }) => role === 'weight');
    expectFigure(
      weights.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
      '140.007M',
      'weights',
    );
    expect(weights.find(({ name }) => name === 'fc1/weight')?.shape).toEqual([7 * 7 * 256, 8192]);
  });

  it.each<NetworkName>(['nns1', 'nns2'])('%s, a reconstruction, meets the published totals within 2 %', (name) => {
    const totals = cost(built(name).layers);
    const { parameters, multiplyAdds } = published[name];
    expect(Math.abs(totals.parameters / readFigure(parameters as string).value - 1)).toBeLessThan(0.02);
    expect(Math.abs(totals.multiplyAdds / readFigure(multiplyAdds as string).value - 1)).toBeLessThan(0.02);
    expect(networks[name].source).toMatch(/RECONSTRUCTION/);
  });

  it('nn4 lies within 2 % of the 285 M of Table 3, whose layers are unpublished', () => {
    expect(Math.abs(cost(built('nn4').layers).multiplyAdds / 285e6 - 1)).toBeLessThan(0.02);
  });

  // notes/learning.md, counted by PyTorch: S = half width, 64 x 64, no LRN, no bias before batch norm.
  it('nn4.small2 at half width and 64 x 64 has 0.96 M parameters and 25.4 M multiply-adds', () => {
    const totals = cost(built('nn4.small2', { width: 0.5, lrn: false, bias: false }, { width: 64, height: 64 }).layers);
    expectFigure(totals.parameters, '0.96M', 'parameters');
    expectFigure(totals.multiplyAdds, '25.4M', 'multiply-adds');
  });
});

describe('tables of the paper, row by row', () => {
  it.each<NetworkName>(['nn1', 'nn2'])('%s', (name) => {
    const { graph, layers: list } = built(name, { batchNorm: false });
    const groups = blocks(list);
    const rows = published[name].rows ?? [];
    expect(rows.length).toBeGreaterThan(15);
    for (const row of rows) {
      const block = groups.get(row.block) ?? [];
      expect(block.at(-1)?.output, `${name} ${row.row}`).toEqual(row.output);
      const { parameters, multiplyAdds } = cost(block);
      const extra = biases(graph, block);
      expectBetween(parameters - extra.parameters, parameters, row.parameters, `${name} ${row.row} parameters`);
      expectBetween(multiplyAdds, multiplyAdds + extra.additions, row.multiplyAdds, `${name} ${row.row} multiply-adds`);
    }
    expectFigure(cost(list).parameters, published[name].parameters, 'total parameters');
    expectFigure(cost(list).multiplyAdds, published[name].multiplyAdds, 'total multiply-adds');
    // Nothing between the rows costs anything.
    const named = new Set(rows.map((row) => row.block));
    expect(
      list.filter(
        (layer) => !named.has(layer.name.split('/')[0] as string) && layer.multiplyAdds + layer.parameters > 0,
      ),
    ).toEqual([]);
  });

  const specification = `${SHARED}/spec/facenet.md`;
  it.skipIf(!existsSync(specification))(
    `published.ts says what facenet.md says (skipped loudly without ${specification})`,
    () => {
      const text = readFileSync(specification, 'utf8');
      const table = (section: string) =>
        (text.split(`### ${section}.`)[1] as string)
          .split('\n### ')[0]!
          .split('\n')
          .filter((line) => line.startsWith('|'))
          .slice(2)
          .map((line) =>
            line
              .split('|')
              .slice(1, -1)
              .map((cell) => cell.replaceAll('*', '').trim()),
          );
      for (const [section, name] of [
        ['D2', 'nn1'],
        ['D3', 'nn2'],
      ] as const) {
        const rows = table(section);
        const total = rows.find(([first]) => first === 'total') as string[];
        expect(total.slice(-2)).toEqual([published[name].parameters, published[name].multiplyAdds]);
        for (const row of published[name].rows ?? []) {
          const cells = rows.find(([first]) => first === row.row) as string[];
          expect(cells, row.row).toBeDefined();
          const output = (cells[section === 'D2' ? 2 : 1] as string).split(/[^\d]+/).map(Number);
          expect(
            output.reduce((a, b) => a * b, 1),
            row.row,
          ).toBe(row.output.reduce((a, b) => a * b, 1));
          expect(
            [cells.at(-2) || undefined, cells.at(-1) || undefined].map((cell) => (cell === '0' ? undefined : cell)),
            row.row,
          ).toEqual([row.parameters, row.multiplyAdds]);
        }
      }
      for (const cells of table('D1')) {
        const name = (cells[0] as string).split(' ')[0]!.toLowerCase() as NetworkName;
        const { width, height } = networks[name].input;
        // '140x116' is rows x columns; the row of NN3 has a size of its own, that of NN4 is '96x96'.
        expect(cells[1], name).toContain(`${height}x${width}`);
        const rate = published[name].validationRate;
        expect(cells[4]).toBe(`${rate?.percent.toFixed(1)} % +- ${rate?.standardError.toFixed(1)}`);
      }
    },
  );
});

describe('weights of others', () => {
  const manifest = createRequire(import.meta.url).resolve(
    '@vladmandic/face-api/model/face_recognition_model-weights_manifest.json',
  );

  it('dlib-resnet has the names and shapes of the manifest, in its order', () => {
    const weights = (
      JSON.parse(readFileSync(manifest, 'utf8')) as [{ weights: { name: string; shape: number[] }[] }]
    )[0].weights;
    const ours = parametersOf(networks['dlib-resnet']).map(({ name, shape }) => ({ name, shape }));
    expect(ours).toEqual(weights.map(({ name, shape }) => ({ name, shape })));
  });

  it('dlib-resnet gives the 128 values of face-api.js for one chip (test/record-face-api.mjs), in float64', () => {
    const [{ weights }] = JSON.parse(readFileSync(manifest, 'utf8')) as [
      { weights: { name: string; shape: number[]; quantization?: { scale: number; min: number } }[] },
    ];
    const bytes = readFileSync(manifest.replace('-weights_manifest.json', '.bin'));
    const given: Record<string, Float64Array> = {};
    let offset = 0;
    for (const { name, shape, quantization } of weights) {
      const count = shape.reduce((a, b) => a * b, 1);
      const stored = bytes.subarray(offset, offset + (quantization ? count : 4 * count));
      given[name] = quantization
        ? Float64Array.from(stored, (byte) => Math.fround(byte * quantization.scale + quantization.min))
        : Float64Array.from({ length: count }, (_, k) => stored.readFloatLE(4 * k));
      offset += stored.length;
    }
    expect(offset).toBe(bytes.length);
    const { pixels } = networks['dlib-resnet'];
    let state = 1;
    given.x = Float64Array.from({ length: 150 * 150 * 3 }, (_, i) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const [x, y, channel] = [Math.floor(i / 3) % 150, Math.floor(i / 450), i % 3] as [number, number, number];
      return (((x * (channel + 1) + y * (3 - channel)) % 224) + (state >>> 27)) * pixels.scale + pixels.shift[channel]!;
    });
    const graph = new Graph();
    const y = networks['dlib-resnet'].features(graph.input('x', [BATCH, 150, 150, 3]));
    const ours = evaluate(graph, [y], given, 1).get(y) as Float64Array;
    const recorded = (
      JSON.parse(readFileSync(new URL('cases/dlib-resnet.json', import.meta.url), 'utf8')) as { descriptor: number[] }
    ).descriptor;
    // Theirs is float32: 29 layers of sums of up to 2,304 terms. Values are about 0.1.
    expect(recorded).toHaveLength(128);
    recorded.forEach((value, index) => {
      expect(Math.abs(value - ours[index]!)).toBeLessThan(2e-6);
    });
  });

  it('inception-resnet-v1 has the names and shapes of facenet-pytorch', () => {
    const graph = new Graph();
    const features = inceptionResnetV1.features(graph.input('x', [BATCH, 160, 160, 3]));
    inceptionResnetV1Logits(features, 8631);
    const ours = new Map(graph.parameters.map(({ name, shape }) => [name, torchShape(shape)]));
    const theirs = new Map(facenetPytorch(512, 8631));
    expect([...ours.keys()].sort()).toEqual([...theirs.keys()].sort());
    for (const [name, shape] of theirs) expect(ours.get(name), name).toEqual(shape);
    const list = layers(graph);
    // 27.9 M: facenet-pytorch's model for VGGFace2 with its classifier.
    expectFigure(cost(list).parameters, '27.9M', 'parameters');
    expect(cost(list).parameters).toBe(23_482_624 + 512 * 8631 + 8631);
  });

  it('inception-resnet-v1 with 128 dimensions differs in its last layer alone', () => {
    const wide = parametersOf(inceptionResnetV1);
    const narrow = parametersOf(inceptionResnetV1, { dimensions: 128 });
    const different = narrow
      .filter(({ shape }, index) => String(shape) !== String(wide[index]?.shape))
      .map(({ name }) => name);
    expect(different).toEqual(
      ['last_linear.weight', 'last_bn.weight', 'last_bn.bias', 'last_bn.running_mean', 'last_bn.running_var'].filter(
        (name) => different.includes(name),
      ),
    );
    expect(narrow.find(({ name }) => name === 'last_linear.weight')?.shape).toEqual([1792, 128]);
  });

  const partial = `${SHARED}/data/weights/openface-nn4.small2.v1-partial.safetensors`;
  it.skipIf(!existsSync(partial))(
    `nn4.small2 has a place for every tensor of OpenFace's weights (skipped loudly without ${partial})`,
    () => {
      const { shapes, missing } = readOpenFaceWeights(partial);
      expect(missing).toHaveLength(5);
      const ours = new Map(parametersOf(networks['nn4.small2']).map(({ name, shape }) => [name, torchShape(shape)]));
      const seen = new Set<string>();
      for (const [theirs, shape] of shapes) {
        expect(ours.get(ourName(theirs)), `${theirs} -> ${ourName(theirs)}`).toEqual(shape);
        seen.add(ourName(theirs));
      }
      expect([...ours.keys()].filter((name) => !seen.has(name))).toEqual([]);
    },
  );
});

describe('every network', () => {
  it.each(names)('%s builds for inference: [N, dimensions], statistics read, not counted as learnt', (name) => {
    const { graph, y, layers: list } = built(name);
    expect(y.shape).toEqual([BATCH, networks[name].dimensions]);
    expect(list.at(-1)?.operator).toBe('l2Normalize');
    expect(list.some((layer) => layer.operator === 'batchNorm' && layer.entry !== 'forward')).toBe(false);
    const sizes = graph.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    const totals = cost(list);
    expect(totals.parameters + totals.statistics).toBe(sizes);
  });

  it.each(names)('%s builds for training, differentiates to every learnt parameter, and survives JSON', (name) => {
    const graph = new Graph();
    const { width, height } = networks[name].input;
    const statistics: BatchStatistics[] = [];
    const y = networks[name].build(graph.input('x', [BATCH, height, width, 3]), {
      mode: 'training',
      width: 0.25,
      dimensions: 64,
      onStatistics: (s) => statistics.push(s),
    });
    const info = parametersOf(networks[name], { width: 0.25, dimensions: 64 });
    expect(statistics.length).toBe(info.filter(({ role }) => role === 'mean').length);
    for (const { mean, variance, batch, perImage } of statistics) {
      expect(batch.shape).toEqual([2, mean.shape[0]]);
      expect(variance.shape).toEqual(mean.shape);
      expect(perImage).toBeGreaterThanOrEqual(1);
    }
    const learnt = info.filter((parameter) => parameter.learnt);
    const wrt = learnt.map((parameter) => graph.parameter(parameter.name, parameter.shape));
    gradients(y, wrt, graph.input('seed', y.shape), add).forEach((gradient, index) => {
      expect(gradient?.shape, learnt[index]?.name).toEqual(learnt[index]?.shape);
    });
    for (const [index, { mean }] of statistics.entries()) graph.assign(mean, wrtConstant(graph, mean.shape, index));
    roundTrip(graph);
  });

  it.each(names)('%s with frozen batch norm trains with running statistics', (name) => {
    const { layers: list } = built(name, { mode: 'training', frozenBatchNorm: true, width: 0.25 });
    expect(list.filter((layer) => layer.operator === 'batchNorm' && layer.entry !== 'forward')).toEqual([]);
  });

  it.each(names)('%s takes its options: dimensions, width', (name) => {
    const { y, layers: list, graph } = built(name, { dimensions: 33, width: 0.3 });
    expect(y.shape).toEqual([BATCH, 33]);
    for (const { name: label, shape } of graph.parameters) {
      if (!/^(embedding|fc7128|fc$|last_)/.test(label)) expect((shape.at(-1) as number) % 8, label).toBe(0);
    }
    expect(cost(list).multiplyAdds).toBeLessThan(cost(built(name).layers).multiplyAdds / 2);
  });

  it.each(names)('%s refuses what does not fit, naming itself', (name) => {
    const network = networks[name];
    const build = (shape: Shape, options: BuildOptions = {}) => network.build(new Graph().input('x', shape), options);
    for (const [shape, options] of [
      [[BATCH, 96, 96, 4], {}],
      [[BATCH, 96, 96], {}],
      [[BATCH, 112, 112, 3], { dimensions: 0 }],
      [[BATCH, 112, 112, 3], { dimensions: 1.5 }],
      [[BATCH, 112, 112, 3], { width: 0 }],
      [[BATCH, 112, 112, 3], { width: Number.NaN }],
      [[BATCH, 112, 112, 3], { groups: 0 }],
      [[BATCH, 112, 112, 3], { poolEpsilon: -1 }],
    ] as [Shape, BuildOptions][]) {
      expect(() => build(shape, options)).toThrow(
        expect.objectContaining({ code: 'input', message: expect.stringContaining(name) as string }),
      );
    }
  });
});

describe('what parameter shapes do not show', () => {
  // Sizes and constants read from the sources named in each network's file.
  const maps = (name: NetworkName, wanted: readonly string[]) => {
    const { layers: list } = built(name);
    return wanted.map((block) => list.filter((layer) => layer.name === block).at(-1)?.output);
  };

  it('inception-resnet-v1: maps of 17, 8 and 3 pixels, batch norm epsilon 1e-3, residual scales 0.17, 0.10, 0.20 and 1', () => {
    expect(
      maps('inception-resnet-v1', [
        'conv2d_1a',
        'conv2d_2a',
        'conv2d_2b',
        'maxpool_3a',
        'conv2d_3b',
        'conv2d_4a',
        'conv2d_4b',
        'mixed_6a',
        'mixed_7a',
      ]),
    ).toEqual([
      [79, 79, 32],
      [77, 77, 32],
      [77, 77, 64],
      [38, 38, 64],
      [38, 38, 80],
      [36, 36, 192],
      [17, 17, 256],
      [8, 8, 896],
      [3, 3, 1792],
    ]);
    const { graph } = built('inception-resnet-v1');
    const norms = graph.values.filter((value) => value.operator?.name === 'batchNorm');
    const scales = norms.filter((value) => value.name.includes('.conv2d/'));
    expect(scales.map((value) => Math.round((value.inputs[3]?.data?.[0] as number) * 1000) / 1000)).toEqual([
      ...Array<number>(5).fill(0.17),
      ...Array<number>(10).fill(0.1),
      ...Array<number>(5).fill(0.2),
    ]);
    for (const value of norms) expect(value.attributes.epsilon, value.name).toBe(scales.includes(value) ? 0 : 1e-3);
    // Every convolution of a branch is followed by ReLU, a residual sum too, but for the last block's.
    const count = (operator: string) => graph.values.filter((value) => value.operator?.name === operator).length;
    expect(count('add')).toBe(21);
    expect(count('relu')).toBe(norms.length - scales.length - 1 + 20);
    expect(graph.values.find((value) => value.operator?.name === 'globalAveragePool')?.inputs[0]?.operator?.name).toBe(
      'add',
    );
  });

  it('dlib-resnet: maps of 35, 17, 8, 4 and 2 pixels, the convolutions filled up where the average pool is larger', () => {
    expect(
      maps('dlib-resnet', [
        'conv32_down',
        'pool',
        'conv32_3',
        'conv64_3',
        'conv128_2',
        'conv256_2',
        'conv256_down_out',
      ]),
    ).toEqual([
      [72, 72, 32],
      [35, 35, 32],
      [35, 35, 32],
      [17, 17, 64],
      [8, 8, 128],
      [4, 4, 256],
      [2, 2, 256],
    ]);
    const { graph } = built('dlib-resnet');
    const pads = graph.values.filter((value) => value.operator?.name === 'channelPad');
    expect(
      pads.map((value) => [value.inputs[0]?.operator?.name, value.inputs[0]?.shape.slice(1), value.shape.slice(1)]),
    ).toEqual([
      ['avgPool', [17, 17, 32], [17, 17, 64]],
      ['avgPool', [8, 8, 64], [8, 8, 128]],
      ['batchNorm', [3, 3, 256], [4, 4, 256]],
      ['avgPool', [4, 4, 128], [4, 4, 256]],
      ['batchNorm', [1, 1, 256], [2, 2, 256]],
    ]);
    // 14 blocks, each with a ReLU inside and one behind the sum, and the first convolution's.
    const count = (operator: string) => graph.values.filter((value) => value.operator?.name === operator).length;
    expect([count('conv2d'), count('add'), count('relu')]).toEqual([29, 14, 29]);
    for (const value of graph.values.filter((v) => v.operator?.name === 'batchNorm')) {
      expect(value.attributes.epsilon).toBe(0);
      expect([value.inputs[1]?.data?.every((v) => v === 0), value.inputs[2]?.data?.every((v) => v === 1)]).toEqual([
        true,
        true,
      ]);
    }
  });

  // facenet.md D3, column 'pool proj'; OpenFace's definitions have the same kinds.
  it.each<[NetworkName, string]>([
    ['nn2', 'max l2 max l2 l2 l2 l2 max l2 max'],
    ['nn3', 'max l2 max l2 l2 l2 l2 max l2 max'],
    ['nn4', 'max l2 max l2 l2 l2 l2 max l2 max'],
    ['nn4.small1', 'max l2 max l2 l2 max l2 max'],
    ['nn4.small2', 'max l2 max l2 max l2 max'],
  ])('%s pools %s in its blocks', (name, kinds) => {
    const pools = built(name).layers.filter((layer) => /^inception\d[a-e]\/pool$/.test(layer.name));
    expect(pools.map((layer) => layer.operator.replace('Pool', '')).join(' ')).toBe(kinds);
    // Strides of 2 where the map shrinks, which the table marks.
    expect(pools.map((layer) => layer.stride?.[0])).toEqual(pools.map((layer) => (/3c|4e/.test(layer.name) ? 2 : 1)));
    expect(pools.every((layer) => layer.kernel?.join() === '3,3')).toBe(true);
  });

  it.each<NetworkName>(['nn2', 'nn4.small2', 'nns1', 'nns2'])('%s: norm behind pool1, before pool2', (name) => {
    const order = built(name)
      .layers.map((layer) => layer.name)
      .filter((layer) => /^(pool1|norm1|norm2|pool2)$/.test(layer));
    expect(order).toEqual(['pool1', 'norm1', 'norm2', 'pool2']);
  });

  it('ReLU behind every convolution and batch norm, and none behind the embedding', () => {
    const { graph } = built('nn4.small2');
    for (const value of graph.values.filter((v) => v.operator?.name === 'batchNorm')) {
      expect(
        graph.values.filter((v) => v.inputs.includes(value)).map((v) => v.operator?.name),
        value.name,
      ).toEqual(['relu']);
    }
    for (const name of ['nn1', 'nns1', 'nns2'] as const) {
      for (const value of built(name).graph.values) {
        const activation = /^(conv|inception|hidden)/.test(value.name) ? 'relu' : 'none';
        if (/conv2d|linear/.test(value.operator?.name ?? ''))
          expect(value.attributes.activation, value.name).toBe(activation);
      }
    }
  });

  it('OpenFace: batch norm epsilon 1e-5, LRN 5 / 1e-4 / 0.75 / 1, normalisation epsilon 1e-10', () => {
    const { graph } = built('nn4.small2');
    for (const value of graph.values) {
      if (value.operator?.name === 'batchNorm') expect(value.attributes.epsilon).toBe(1e-5);
      if (value.operator?.name === 'lrn')
        expect(value.attributes).toMatchObject({ size: 5, alpha: 1e-4, beta: 0.75, k: 1 });
      if (value.operator?.name === 'l2Normalize') expect(value.attributes.epsilon).toBe(1e-10);
      if (value.operator?.name === 'l2Pool') expect(value.attributes.epsilon).toBe(0);
    }
  });
});

describe('variants', () => {
  it.each<[NetworkName, BuildOptions]>([
    ['dlib-resnet', {}],
    ['inception-resnet-v1', {}],
    ['nn4.small2', { pools: 'released' }],
    ['nn4.small2', { pools: 'unpadded' }],
  ])('%s %s refuses pictures its unpadded windows do not fit', (name, options) => {
    expect(() => built(name, options, { width: 20, height: 20 })).toThrow(expect.objectContaining({ code: 'input' }));
  });

  it.each<NetworkName>(['nn1', 'nn2', 'nn3', 'nn4', 'nns1', 'nns2', 'nn4.small1', 'nn4.small2'])(
    '%s without LRN has none, and as many parameters',
    (name) => {
      const plain = built(name);
      const without = built(name, { lrn: false });
      expect(plain.layers.filter((layer) => layer.operator === 'lrn')).toHaveLength(2);
      expect(without.layers.filter((layer) => layer.operator === 'lrn')).toHaveLength(0);
      expect(cost(without.layers)).toEqual(cost(plain.layers));
    },
  );

  // facenet.md D9: map sizes and zero pads of the released weights.
  it('nn4.small2 with the released pools: maps and frames of D9', () => {
    const { graph } = built('nn4.small2', { pools: 'released' });
    const pools = graph.values.filter((value) => /^inception\w+\/pool\/(maxPool|l2Pool)$/.test(value.name));
    expect(
      pools.map((value) => [value.name.split('/')[0], value.operator?.name, value.inputs[0]?.shape[1], value.shape[1]]),
    ).toEqual([
      ['inception3a', 'maxPool', 12, 5],
      ['inception3b', 'l2Pool', 12, 4],
      ['inception3c', 'maxPool', 12, 5],
      ['inception4a', 'l2Pool', 6, 2],
      ['inception4e', 'maxPool', 6, 2],
      ['inception5a', 'l2Pool', 3, 1],
      ['inception5b', 'maxPool', 3, 1],
    ]);
    const frames = graph.values.filter((value) => value.operator?.name === 'channelPad');
    expect(frames.map((value) => ['top', 'left', 'bottom', 'right'].map((side) => value.attributes[side]))).toEqual([
      [3, 3, 4, 4],
      [4, 4, 4, 4],
      [0, 0, 1, 1],
      [2, 2, 2, 2],
      [0, 0, 1, 1],
      [1, 1, 1, 1],
      [1, 1, 1, 1],
    ]);
    // Zeros come after the projection's ReLU: a frame before it would hold its bias.
    for (const frame of frames.filter((value) => !/3c|4e/.test(value.name)))
      expect(frame.inputs[0]?.operator?.name).toBe('relu');
  });

  it('nn4.small2 with the pools of the .def file to the letter: L2 pools of 10, 4 and 1, in a ring of zeros', () => {
    const { graph, layers: list } = built('nn4.small2', { pools: 'unpadded' });
    expect(graph.values.filter((value) => value.operator?.name === 'l2Pool').map((value) => value.shape[1])).toEqual([
      10, 4, 1,
    ]);
    expect(
      graph.values.filter((value) => value.operator?.name === 'channelPad').map((value) => value.shape[1]),
    ).toEqual([12, 6, 3]);
    expect(cost(list).parameters).toBe(3_733_968);
  });

  it('orders of the concat: OpenFace ends in the 1x1, the paper begins with it', () => {
    const parts = (name: NetworkName) =>
      built(name)
        .graph.values.find((value) => value.name === 'inception3a/concat/concat')
        ?.inputs.flatMap((input) => input?.name ?? []);
    expect(parts('nn4.small2')?.map((part) => part.split('/')[1])).toEqual(['3x3', '5x5', 'projection', '1x1']);
    expect(parts('nn2')?.map((part) => part.split('/')[1])).toEqual(['1x1', '3x3', '5x5', 'projection']);
  });

  it('nn1 normalises after pool1, but before pool2', () => {
    const order = built('nn1')
      .layers.map((layer) => layer.name)
      .filter((name) => /^(pool1|rnorm1|rnorm2|pool2)$/.test(name));
    expect(order).toEqual(['pool1', 'rnorm1', 'rnorm2', 'pool2']);
  });

  it('pictures of other sizes: nn4.small2 at 64, nn2 at 96, dlib-resnet at 112', () => {
    for (const [name, size] of [
      ['nn4.small2', 64],
      ['nn2', 96],
      ['dlib-resnet', 112],
      ['inception-resnet-v1', 96],
    ] as const) {
      const other = built(name, {}, { width: size, height: size + 13 });
      expect(other.y.shape).toEqual([BATCH, networks[name].dimensions]);
      expect(cost(other.layers).parameters).toBe(cost(built(name).layers).parameters);
    }
  });
});

describe('accounting', () => {
  it('activation memory of a chain: all of it, and the two largest neighbours', () => {
    const graph = new Graph();
    const network: Network = networks['nn4.small2'];
    const y = network.build(graph.input('x', [BATCH, 96, 96, 3]));
    const one = activationMemory(graph, [y], 1);
    const many = activationMemory(graph, [y], 32);
    expect(many).toEqual({ total: 32 * one.total, peak: 32 * one.peak });
    // conv1's 48 x 48 x 64 before and after batch norm is the widest place of the network; the branches of 3a hold less.
    expect(one.peak).toBe(2 * 48 * 48 * 64 * 4);
    expect(one.total).toBeGreaterThan(3 * 48 * 48 * 64 * 4);
  });

  it('layers carry kernel, stride and output', () => {
    const list = built('nn4.small2').layers;
    expect(list.find((layer) => layer.name === 'conv1')).toEqual({
      name: 'conv1',
      operator: 'conv2d',
      entry: 'forward',
      output: [48, 48, 64],
      kernel: [7, 7],
      stride: [2, 2],
      parameters: 7 * 7 * 3 * 64 + 64,
      statistics: 0,
      multiplyAdds: 48 * 48 * 64 * 147,
    });
    expect(list.find((layer) => layer.name === 'pool1')).toMatchObject({
      operator: 'maxPool',
      output: [24, 24, 64],
      kernel: [3, 3],
      stride: [2, 2],
    });
  });

  it('a parameter read twice is counted once', () => {
    const graph = new Graph();
    const network = networks['nn4.small2'];
    network.build(graph.input('a', [BATCH, 96, 96, 3]));
    network.build(graph.input('b', [BATCH, 96, 96, 3]));
    expect(cost(layers(graph))).toEqual({ ...cost(built('nn4.small2').layers), multiplyAdds: 2 * 206_919_680 });
  });
});

describe('initialisation', () => {
  const small = parametersOf(networks['nn4.small2'], { width: 0.5 });

  it('He deviation, mean 0, and fixed values for the others', () => {
    const values = initialise(small, 7);
    expect([...values.keys()]).toEqual(small.map(({ name }) => name));
    for (const { name, role, shape } of small) {
      const data = values.get(name) as Float32Array;
      if (role === 'weight') {
        const fanIn = shape.slice(0, -1).reduce((a, b) => a * b, 1);
        const mean = data.reduce((a, b) => a + b, 0) / data.length;
        const deviation = Math.sqrt(data.reduce((a, b) => a + (b - mean) ** 2, 0) / data.length);
        const expected = Math.sqrt(2 / fanIn);
        // Five standard errors of a mean and of a deviation.
        expect(Math.abs(mean), name).toBeLessThan((5 * expected) / Math.sqrt(data.length));
        expect(Math.abs(deviation / expected - 1), name).toBeLessThan(5 / Math.sqrt(2 * data.length));
      } else
        expect(
          data.every((value) => value === (role === 'gamma' || role === 'variance' ? 1 : 0)),
          name,
        ).toBe(true);
    }
  });

  it('depends on seed and name alone: repetition, a part, another seed', () => {
    const all = initialise(small, 7);
    const part = small.filter(({ name }) => name.includes('inception5'));
    for (const [name, data] of initialise(part, 7)) expect(data).toEqual(all.get(name));
    expect(initialise(part, 8).get('inception5a/3x3/weight')).not.toEqual(all.get('inception5a/3x3/weight'));
    expect(all.get('inception5a/3x3/weight')).not.toEqual(all.get('inception5b/3x3/weight'));
  });

  it.each([2 ** 40 + 3, 2 ** 32 + 2 ** 31 + 5, 0, 2 ** 53 - 1])(
    'draws the words of class Philox, four to a block, seed %s',
    (seed) => {
      const [first] = initialise([{ name: 'w', shape: [50, 99], role: 'weight', learnt: true }], seed).values();
      const generator = new Philox(seed, streamOf('w'));
      const expected = Float32Array.from(
        { length: 4950 },
        () => Math.sqrt(2 / 50) * normalQuantile(generator.uniform() + 2 ** -25),
      );
      expect(first).toEqual(expected);
    },
  );

  it('no two parameters of a network share a stream', () => {
    for (const name of names) {
      const weights = parametersOf(networks[name]).filter(({ role }) => role === 'weight');
      expect(new Set(weights.map((parameter) => streamOf(parameter.name))).size, name).toBe(weights.length);
    }
  });

  it('quantiles: the normal distribution, integrated, gives the probability back', () => {
    for (const p of [
      2 ** -25,
      2 ** -20,
      0.001,
      0.02,
      0.0749,
      0.0751,
      0.25,
      0.5,
      0.6,
      0.925,
      0.926,
      0.999,
      1 - 2 ** -24,
      1 - 2 ** -25,
    ]) {
      const tail = Math.min(p, 1 - p);
      const x = normalQuantile(p);
      expect(Math.sign(x)).toBe(Math.sign(p - 0.5));
      expect(Math.abs(upperTail(Math.abs(x)) / tail - 1), `p = ${p}`).toBeLessThan(1e-10);
    }
    expect(normalQuantile(0.25)).toBe(-normalQuantile(0.75));
  });

  it.each([-1, 1.5, Number.NaN, 2 ** 53])('refuses the seed %s', (seed) => {
    expect(() => initialise(small, seed)).toThrow(expect.objectContaining({ code: 'input' }));
  });
});

describe('serialised graphs', () => {
  const { graph } = built('nns2', { width: 0.25 });
  const good = () => JSON.parse(JSON.stringify(serialise(graph))) as Record<string, never>;
  const operators = operatorsOf(graph);

  it('keep -0, infinities and NaN in constants and attributes', () => {
    const other = new Graph();
    other.constant(Float32Array.of(-0, Number.POSITIVE_INFINITY, Number.NaN, 1e-45, 0.1), [5]);
    other.constant(Int32Array.of(-5, 2 ** 31 - 1), [2]);
    roundTrip(other);
  });

  type Json = { schema: string; values: Record<string, unknown>[]; assignments: unknown[] };
  it.each<[string, (json: Json) => unknown]>([
    ['no object', () => null],
    ['a list', () => []],
    ['another schema', (json) => ({ ...json, schema: 'facenet/graph@2' })],
    ['no values', ({ values: _, ...json }) => json],
    ['an unknown operator', (json) => edited(json, 'conv2d', { operator: 'constructor' })],
    ['an unknown entry', (json) => edited(json, 'conv2d', { entry: 'toString' })],
    ['a reader before its input', (json) => edited(json, 'conv2d', { inputs: [1000, 1, 2, null] })],
    ['a position that is no number', (json) => edited(json, 'conv2d', { inputs: ['0', 1, 2, null] })],
    ['too few inputs', (json) => edited(json, 'conv2d', { inputs: [0] })],
    ['attributes left out', (json) => edited(json, 'conv2d', { attributes: {} })],
    ['attributes of a wrong type', (json) => edited(json, 'conv2d', { attributes: { strideY: { a: 1 } } })],
    [
      'a negative stride',
      (json) =>
        edited(json, 'conv2d', {
          attributes: { strideY: -1, strideX: 1, padTop: 0, padLeft: 0, padBottom: 0, padRight: 0, activation: 'relu' },
        }),
    ],
    ['a wrong shape', (json) => edited(json, 'conv2d', { shape: [-1, 1, 1, 8] })],
    ['a fractional shape', (json) => edited(json, 'conv2d', { shape: [-1, 0.5, 1, 8] })],
    ['a wrong kind', (json) => edited(json, 'conv2d', { kind: 'kernel' })],
    ['a wrong type of element', (json) => edited(json, 'conv2d', { dtype: 'f64' })],
    ['a parameter named twice', (json) => ({ ...json, values: [...json.values, json.values[1]] })],
    ['an input named twice', (json) => ({ ...json, values: [...json.values, json.values[0]] })],
    [
      'a constant without its numbers',
      (json) => ({
        ...json,
        values: [...json.values, { kind: 'constant', name: 'c', shape: [3], dtype: 'f32', data: [1] }],
      }),
    ],
    ['an assignment to nowhere', (json) => ({ ...json, assignments: [[1, 100_000]] })],
    ['an assignment to an operation', (json) => ({ ...json, assignments: [[json.values.length - 1, 1]] })],
  ])('%s is refused by a typed error', (_, break_) => {
    expect(deserialise(good(), operators).values.length).toBe(graph.values.length);
    expect(() => deserialise(break_(good() as unknown as Json), operators)).toThrow(
      expect.objectContaining({ name: 'FaceNetError', code: 'input' }),
    );
  });

  function edited(json: Json, operator: string, change: Record<string, unknown>): Json {
    const index = json.values.findIndex((value) => value.operator === operator);
    return { ...json, values: json.values.map((value, i) => (i === index ? { ...value, ...change } : value)) };
  }
});

describe('the float64 oracle of whole networks', () => {
  it.each<[NetworkName, BuildOptions, number]>([
    ['nn1', {}, 36],
    ['nn4.small2', { mode: 'training', pools: 'unpadded' }, 96],
    ['nns2', { batchNorm: true, mode: 'training' }, 52],
    ['dlib-resnet', {}, 103],
    ['inception-resnet-v1', { frozenBatchNorm: true, mode: 'training' }, 76],
  ])('%s %s: gradients against central differences along seeded directions', (name, options, side) => {
    const graph = new Graph();
    const variant: BuildOptions = { width: 0.125, dimensions: 8, ...options };
    const y = networks[name].build(graph.input('x', [BATCH, side, side, 3]), variant);
    const values = initialise(parametersOf(networks[name], variant, { width: side, height: side }), 3);
    const random = uniform(1);
    const given: Record<string, Float64Array> = { x: Float64Array.from({ length: 2 * side * side * 3 }, random) };
    for (const [parameter, data] of values) given[parameter] = Float64Array.from(data, (v) => v + 0.1 * random());
    const dy = Float64Array.from({ length: 2 * 8 }, random);
    const inner = (inputs: Record<string, Float64Array>) =>
      (evaluate(graph, [y], inputs, 2).get(y) as Float64Array).reduce((sum, v, i) => sum + v * dy[i]!, 0);
    const pulled = pullBack(graph, y, dy, evaluate(graph, [y], given, 2), 2);
    const wrt = graph.values.filter((value) => value.kind === 'parameter' && pulled.has(value));
    expect(wrt.length).toBeGreaterThan(10);
    const direction = Object.fromEntries(
      wrt.map((value) => [value.name, Float64Array.from(given[value.name]!, random)]),
    );
    const h = 1e-8;
    const moved = (sign: number) =>
      inner({
        ...given,
        ...Object.fromEntries(wrt.map(({ name: n }) => [n, given[n]!.map((v, i) => v + sign * h * direction[n]![i]!)])),
      });
    const difference = (moved(1) - moved(-1)) / (2 * h);
    const product = wrt.reduce(
      (sum, value) => sum + pulled.get(value)!.reduce((s, v, i) => s + v * direction[value.name]![i]!, 0),
      0,
    );
    // Rounding of y over 2 h, and curvature times h squared; a ReLU that switches within h shifts it by its share of one element.
    expect(Math.abs(difference - product)).toBeLessThan(1e-4 * Math.max(1e-2, Math.abs(product)));
  });
});

function roundTrip(graph: Graph): void {
  const stored = serialise(graph);
  const again = deserialise(JSON.parse(JSON.stringify(stored)), operatorsOf(graph));
  expect(serialise(again)).toEqual(stored);
  expect(again.values.map((value) => value.operator)).toEqual(graph.values.map((value) => value.operator));
  graph.values.forEach((value, index) => {
    const { data } = again.values[index] as { data?: Float32Array | Int32Array };
    expect(data && new Uint8Array(data.buffer)).toEqual(value.data && new Uint8Array(value.data.buffer));
  });
}

const wrtConstant = (graph: Graph, shape: Shape, value: number) =>
  graph.constant(new Float32Array(shape[0] as number).fill(value), shape);

/** HWIO -> OIHW, [in, out] -> [out, in]. */
function torchShape(shape: Shape): number[] {
  if (shape.length === 4) return [shape[3], shape[2], shape[0], shape[1]] as number[];
  return [...shape].reverse();
}

/** Probability above x >= 0: continued fraction of Laplace for large x, Simpson's rule for small. Uses Math.exp; shares nothing with ours. */
function upperTail(x: number): number {
  const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  if (x > 2) {
    let fraction = x;
    for (let k = 200; k >= 1; k--) fraction = x + k / fraction;
    return density / fraction;
  }
  const steps = 2000;
  const h = x / steps;
  let sum = 1 + Math.exp((-x * x) / 2);
  for (let i = 1; i < steps; i++) sum += (i % 2 ? 4 : 2) * Math.exp(-((i * h) ** 2) / 2);
  return 0.5 - (sum * h) / 3 / Math.sqrt(2 * Math.PI);
}
