// Our library as a contestant of a harness that times several libraries in one interleaved run: what is the same in Node and in a page. The
// harness hands over networks as a small graph description (convolutions with batch norm folded) and flat float32 weights; times run() from
// Float32Array to Float32Array. Programs: bench/peer.ts, bench/peer-page.ts, bench/peer-contestants.ts.
import type { BackendHost } from '../src/backends/host.ts';
import { openBackend } from '../src/backends/open.ts';
import { Graph, type Value } from '../src/graph/graph.ts';
import { BATCH } from '../src/graph/shape.ts';
import { avgPool } from '../src/ops/avgPool.ts';
import { concat } from '../src/ops/concat.ts';
import { conv2d } from '../src/ops/conv2d.ts';
import { l2Normalize } from '../src/ops/l2Normalize.ts';
import { l2Pool } from '../src/ops/l2Pool.ts';
import { linear } from '../src/ops/linear.ts';
import { lrn } from '../src/ops/lrn.ts';
import { maxPool } from '../src/ops/maxPool.ts';
import { pairwiseDistance } from '../src/ops/pairwiseDistance.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';

interface Node {
  readonly op: string;
  readonly name: string;
  readonly in: readonly string[];
  readonly out: string;
  readonly k: number;
  readonly s: number;
  readonly p: number;
  readonly cin: number;
  readonly cout: number;
  readonly relu: boolean;
  readonly size: number;
  readonly alpha: number;
  readonly beta: number;
  readonly bias: number;
}
interface Network {
  readonly input: { readonly shape: readonly number[] };
  readonly output: { readonly name: string };
  readonly nodes: readonly Node[];
  readonly batch?: number;
}

const layout = 'NHWC';

export interface PeerOptions {
  readonly backend?: 'wasm' | 'webgpu';
  readonly threads?: number;
  readonly relaxed?: boolean;
}

/** `read` gives the bytes of a file of the folder that load() names. */
export function contestant(host: BackendHost, read: (path: string) => Promise<Uint8Array>, opts: PeerOptions = {}) {
  let backend: Backend;
  let store: Store | undefined;
  let plan: Plan | undefined;
  let batch = 1;
  let loaded = '';
  return {
    name: `facenet-gpu ${opts.backend ?? 'wasm'} t${opts.threads ?? 1}`,
    layout,
    version: '0.1.0',
    info: {} as object,
    async init() {
      const opened = await openBackend(host, {
        backend: opts.backend ?? 'wasm',
        threads: opts.threads ?? 1,
        ...(opts.relaxed === undefined ? {} : { relaxed: opts.relaxed }),
      });
      backend = opened.backend;
      this.info = { why: opened.why };
    },
    async load(folder: string, size = 1): Promise<void> {
      loaded = folder;
      if (!backend) await this.init();
      plan?.dispose();
      store?.dispose();
      store = new Store(backend);
      const network = JSON.parse(new TextDecoder().decode(await read(`${folder}/graph.json`))) as Network;
      const index = JSON.parse(new TextDecoder().decode(await read(`${folder}/weights.json`))) as {
        tensors: Record<string, { shape: number[]; offset: number; bytes: number }>;
      };
      const bytes = await read(`${folder}/weights.bin`);
      batch = network.batch ?? size;
      const graph = new Graph();
      const [channels, height, width] = network.input.shape as [number, number?, number?];
      const values = new Map<string, Value>([
        ['x', graph.input('x', height === undefined ? [BATCH, channels] : [BATCH, height, width as number, channels])],
      ]);
      const weight = (
        name: string,
        turn: (data: Float32Array, shape: number[]) => { data: Float32Array; shape: number[] },
      ) => {
        const { shape, offset, bytes: length } = index.tensors[name] as (typeof index.tensors)[string];
        const data = new Float32Array(bytes.slice(offset, offset + length).buffer);
        const turned = turn(data, shape);
        (store as Store).set(name, turned.data, turned.shape);
        return graph.parameter(name, turned.shape);
      };
      const same = (data: Float32Array, shape: number[]) => ({ data, shape });
      for (const node of network.nodes) {
        const x = values.get(node.in[0] as string) as Value;
        const pool = { size: node.k, stride: node.s, padding: node.p };
        const apply = (): Value => {
          switch (node.op) {
            case 'conv':
              return conv2d(x, weight(`${node.name}.w`, hwio), {
                bias: weight(`${node.name}.b`, same),
                stride: node.s,
                padding: node.p,
                activation: node.relu ? 'relu' : 'none',
              });
            case 'maxpool':
              return maxPool(x, pool);
            case 'l2pool':
              return l2Pool(x, pool);
            case 'avgpool':
              return avgPool(x, pool);
            case 'lrn':
              return lrn(x, { size: node.size, alpha: node.alpha, beta: node.beta, k: node.bias });
            case 'concat':
              return concat(node.in.map((name) => values.get(name) as Value));
            case 'fc':
              return linear(x, weight(`${node.name}.w`, transposed), { bias: weight(`${node.name}.b`, same) });
            case 'l2norm':
              return l2Normalize(x);
            case 'matmul':
              return linear(x, weight(`${node.name}.w`, same));
            case 'pdist':
              return pairwiseDistance(x);
            default:
              throw new Error(`no operator ${node.op}`);
          }
        };
        values.set(node.out, graph.scope(node.name, apply));
      }
      plan = await Plan.create(graph, { y: values.get(network.output.name) as Value }, backend, store, {
        batchSize: batch,
      });
    },
    async run({ data, shape }: { data: Float32Array; shape: readonly number[] }): Promise<Float32Array> {
      // The harness says the batch with the first pictures, which are not timed.
      if (shape[0] !== batch) await this.load(loaded, shape[0]);
      return (await (plan as Plan).run({ x: data }, batch)).y as Float32Array;
    },
    async unload() {
      plan?.dispose();
      plan = undefined;
    },
  };
}

/** [out, in, height, width] -> [height, width, in, out]. */
function hwio(data: Float32Array, [outputs, inputs, height, width]: number[]): { data: Float32Array; shape: number[] } {
  const turned = new Float32Array(data.length);
  let from = 0;
  for (let o = 0; o < outputs!; o++)
    for (let i = 0; i < inputs!; i++)
      for (let y = 0; y < height!; y++)
        for (let x = 0; x < width!; x++)
          turned[((y * width! + x) * inputs! + i) * outputs! + o] = data[from++] as number;
  return { data: turned, shape: [height!, width!, inputs!, outputs!] };
}

/** [out, in] -> [in, out]. */
function transposed(data: Float32Array, [outputs, inputs]: number[]): { data: Float32Array; shape: number[] } {
  const turned = new Float32Array(data.length);
  for (let o = 0; o < outputs!; o++)
    for (let i = 0; i < inputs!; i++) turned[i * outputs! + o] = data[o * inputs! + i] as number;
  return { data: turned, shape: [inputs!, outputs!] };
}
