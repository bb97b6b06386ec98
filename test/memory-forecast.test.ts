// area: networks
// on: none lavapipe swiftshader
//
// The forecast of a plan's memory is what the device is then asked for, to the byte: store, tensors, arguments of kernels, readback.
import { afterAll, expect, test } from 'vitest';
import { LiveDevice } from '../src/backends/webgpu/live-device.ts';
import { WebGpuBackend } from '../src/backends/webgpu/webgpu-backend.ts';
import { gradients } from '../src/graph/gradients.ts';
import { Graph, type Value } from '../src/graph/graph.ts';
import { BATCH, resolve, size } from '../src/graph/shape.ts';
import { dlibResnet } from '../src/networks/dlib-resnet.ts';
import { parametersIn } from '../src/networks/initialise.ts';
import type { Network, Variant } from '../src/networks/network.ts';
import { nn4Small2 } from '../src/networks/nn4-small2.ts';
import { add } from '../src/ops/add.ts';
import { sgdUpdate } from '../src/ops/sgdUpdate.ts';
import { forecasting } from '../src/plan/forecast.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { openDevice, wasmBackend } from './backends.ts';
import { tinyNet } from './training-net.ts';

/** A backend, new for each case, since each keeps what it reads back through; and the bytes that are taken on its device. */
interface Opened {
  readonly backend: Backend;
  readonly taken: () => number;
}

const opened = await openDevice();
/** Bytes of all buffers that the device has made and not destroyed. */
let live = 0;
if (opened) {
  const { device } = opened;
  const createBuffer = device.createBuffer.bind(device);
  device.createBuffer = (descriptor) => {
    const buffer = createBuffer(descriptor);
    const destroy = buffer.destroy.bind(buffer);
    let there = true;
    live += descriptor.size;
    buffer.destroy = () => {
      if (there) live -= descriptor.size;
      there = false;
      return destroy();
    };
    return buffer;
  };
}
const open = async (): Promise<Opened> => {
  if (opened) {
    const { device, adapter } = opened;
    const { isFallbackAdapter: software } = adapter.info;
    return {
      backend: new WebGpuBackend({ on: new LiveDevice(device, adapter.info, software), owned: false }),
      taken: () => live,
    };
  }
  const backend = await wasmBackend({ threads: 2 });
  return { backend, taken: () => backend.counters().bytes };
};
afterAll(() => opened?.device.destroy());

const SIDE = 112;

interface Made {
  readonly plan: Plan;
  readonly store: Store;
}

/** The embedding of a network, or a step: gradients of all weights, which a plain update takes off. */
async function make(
  on: Backend,
  network: Network,
  variant: Variant,
  training: boolean,
  batchSize: number,
): Promise<Made> {
  const graph = new Graph();
  const x = graph.input('x', [BATCH, SIDE, SIDE, 3]);
  const y = network.build(x, { ...variant, mode: training ? 'training' : 'inference' });
  const store = new Store(on);
  for (const { name, shape } of parametersIn(graph)) store.define(name, shape);
  if (training) {
    const learnt = graph.parameters;
    const found = gradients(y, learnt, graph.input('dy', y.shape), add);
    const settings = graph.constant(Float32Array.of(0.1, 0, 0, 0, 0, 0, 0, 0), [8]);
    learnt.forEach((parameter, index) => {
      const gradient = found[index];
      if (gradient) graph.assign(parameter, sgdUpdate(parameter, { gradient, settings }));
    });
  }
  return { plan: await Plan.create(graph, { y }, on, store, { batchSize }), store };
}

const zeros = ({ inputs, batchSize }: Plan, shapes: Record<string, Value['shape']>) =>
  Object.fromEntries(
    inputs.map((name) => [name, new Float32Array(size(resolve(shapes[name] as number[], batchSize)))]),
  );

const cases: [string, Network, Variant, boolean, number][] = [
  ['a small network', tinyNet, {}, false, 1],
  ['a small network, 5 faces', tinyNet, {}, false, 5],
  ['a small network in training, 4 faces', tinyNet, {}, true, 4],
  ['nn4.small2, narrow', nn4Small2, { width: 0.125 }, false, 2],
  ['dlib-resnet, narrow', dlibResnet, { width: 0.125 }, false, 3],
];

test.each(cases)(
  '%s',
  async (_, network, variant, training, batch) => {
    const { backend, taken } = await open();
    // On WebGPU what stands for absent inputs.
    const before = taken();
    const dry = forecasting(backend);
    const planned = await make(dry.backend, network, variant, training, batch);
    await dry.backend.run([], planned.plan.reads());
    expect(taken()).toBe(before);

    const { plan, store } = await make(backend, network, variant, training, batch);
    const inputs = zeros(plan, { x: [BATCH, SIDE, SIDE, 3], dy: [BATCH, network.dimensions] });
    await plan.run(inputs);
    expect(taken() - before).toBe(dry.bytes());
    expect(dry.bytes()).toBeGreaterThan(plan.bytes);
    // Running again, and with fewer faces, takes nothing more.
    await plan.run(inputs);
    expect(taken() - before).toBe(dry.bytes());

    plan.dispose();
    store.dispose();
    planned.plan.dispose();
    planned.store.dispose();
    // What results are read through is kept until the end.
    if (!opened) expect(taken()).toBe(before);
    await backend.dispose();
    expect(live).toBe(0);
  },
  120_000,
);
