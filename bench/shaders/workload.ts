// What shader and kernel benchmarks run: every kernel of networks, forward and backward, and of the operators' test cases. The same in Node and in
// a page.
import { gradients } from '../../src/graph/gradients.ts';
import { Graph, type Value } from '../../src/graph/graph.ts';
import { BATCH } from '../../src/graph/shape.ts';
import { initialise, parametersOf } from '../../src/networks/initialise.ts';
import type { NetworkName } from '../../src/networks/network.ts';
import { networks } from '../../src/networks/networks.ts';
import { add } from '../../src/ops/add.ts';
import { forecasting } from '../../src/plan/forecast.ts';
import { Plan } from '../../src/plan/plan.ts';
import type { Backend } from '../../src/plan/runner.ts';
import { Store } from '../../src/plan/store.ts';
import { preferredBy, type TunedChoice, tune } from '../../src/plan/tuner.ts';
import { planCase, specs } from '../../test/conformance.ts';
import { type KernelTime, kernelTimes } from '../kernel-times.ts';
import { type Recording, recordingOf } from '../recording.ts';

export interface Workload {
  readonly nets: readonly NetworkName[];
  readonly batch: number;
  readonly runs: number;
  /** Leave out gradients. */
  readonly forward: boolean;
  /** Operators whose test cases are run; default: all. */
  readonly operators?: readonly string[] | undefined;
  /** Measure first which kernels are fastest, and run those. */
  readonly tune: boolean;
  /** What cannot be measured is told. */
  readonly tell: (line: string) => void;
}

/** One network's plan as a whole. */
export interface PlanFacts {
  readonly where: string;
  /** Bytes that store and plan hold on the device, and those that were forecast without allocating. */
  readonly bytes: number;
  readonly forecast: number;
  readonly recording?: Recording;
  readonly tuning?: readonly TunedChoice[];
}

export interface Measured {
  readonly times: KernelTime[];
  readonly plans: PlanFacts[];
}

/** Times of everything that the workload names. */
export async function measure(backend: Backend, work: Workload, withCases: boolean): Promise<Measured> {
  const times: KernelTime[] = [];
  const plans: PlanFacts[] = [];
  for (const name of work.nets)
    for (const backward of work.forward ? [false] : [false, true]) {
      work.tell(`${name}${backward ? ', training' : ''}`);
      const found = await networkTimes(backend, name, backward, work);
      times.push(...found.times);
      plans.push(found.facts);
    }
  if (withCases) times.push(...(await caseTimes(backend, new Set(times.map(({ kernel }) => kernel)), work)));
  return { times, plans };
}

/** Forward (as embedding runs it: folded and fused) or backward (gradients of all parameters) of a network. */
async function networkTimes(
  backend: Backend,
  name: NetworkName,
  backward: boolean,
  { batch, runs, tune: tuned }: Workload,
): Promise<{ times: KernelTime[]; facts: PlanFacts }> {
  const network = networks[name];
  const where = `${name}${backward ? ', training' : ''}`;
  const parameters = parametersOf(network);
  const { width, height } = network.input;
  const planOn = (on: Backend, store: Store) => {
    const graph = new Graph();
    const y = network.build(graph.input('x', [BATCH, height, width, 3]), { mode: backward ? 'training' : 'inference' });
    const outputs: Record<string, Value> = { y };
    if (backward) {
      const found = gradients(y, graph.parameters, graph.input('dy', y.shape), add);
      graph.parameters.forEach((parameter, index) => {
        const gradient = found[index];
        if (gradient) outputs[`gradient of ${parameter.name}`] = gradient;
      });
    }
    return Plan.create(graph, outputs, on, store, { batchSize: batch });
  };
  // Kernels run on what lies in memory: noise, not zeros, whose products some processors take faster.
  const x = Float32Array.from({ length: height * width * 3 * batch }, (_, i) => ((i * 37) % 255) / 255 - 0.5);
  const dy = new Float32Array(batch * network.dimensions).fill(0.1);
  const run = (plan: Plan) => plan.run(backward ? { x, dy } : { x }, batch, ['y']);

  const before = backend.counters().bytes;
  const defaults = backend.families;
  const store = new Store(backend);
  const values = initialise(parameters, 1);
  for (const { name: parameter, shape } of parameters)
    store.set(parameter, values.get(parameter) as Float32Array, shape);
  let plan = await planOn(backend, store);
  try {
    await run(plan);
    let tuning: TunedChoice[] | undefined;
    if (tuned) {
      tuning = await tune(backend, plan, async () => {
        const made = await planOn(backend, store);
        await run(made);
        return { plan: made, dispose: () => made.dispose() };
      });
      plan.dispose();
      backend.families = defaults.preferring(preferredBy(tuning));
      plan = await planOn(backend, store);
      await run(plan);
    }
    const bytes = backend.counters().bytes - before;
    const dry = forecasting(backend);
    await planOn(dry.backend, store.like(dry.backend));
    const times = await kernelTimes(plan, where, batch, runs);
    const recording = await recordingOf(plan);
    const facts = { where, bytes, forecast: dry.bytes(), ...(recording && { recording }), ...(tuning && { tuning }) };
    return { times, facts };
  } finally {
    backend.families = defaults;
    plan.dispose();
    store.dispose();
  }
}

/** The largest case of each operator's tests: for entries that no network uses. */
async function caseTimes(
  backend: Backend,
  met: ReadonlySet<string>,
  { operators, runs, tell }: Workload,
): Promise<KernelTime[]> {
  const times: KernelTime[] = [];
  for (const spec of specs.filter(({ operator }) => operators?.includes(operator.name) ?? true)) {
    const elements = (shapes: Readonly<Record<string, readonly number[]>>) =>
      Object.values(shapes).reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
    const largest = [...spec.cases].sort((a, b) => elements(b.shapes) - elements(a.shapes))[0];
    if (!largest) continue;
    let planned: Awaited<ReturnType<typeof planCase>>;
    try {
      planned = await planCase(backend, spec, largest);
    } catch (error) {
      tell(`NOT MEASURED: ${spec.operator.name}: ${(error as Error).message}`);
      continue;
    }
    const { plan, store, given } = planned;
    try {
      await plan.run(given);
      const found = await kernelTimes(plan, `test case of ${spec.operator.name}`, 1, runs);
      times.push(...found.filter(({ kernel }) => !met.has(kernel)));
    } finally {
      plan.dispose();
      store.dispose();
    }
  }
  return times;
}
