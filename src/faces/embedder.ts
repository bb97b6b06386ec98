import { Graph, type Value } from '../graph/graph.ts';
import { BATCH } from '../graph/shape.ts';
import type { BuildOptions, Network } from '../networks/network.ts';
import { PLACEMENT_COLUMNS, warpAffine } from '../ops/warpAffine.ts';
import { Plan } from '../plan/plan.ts';
import type { Backend } from '../plan/runner.ts';
import type { Store } from '../plan/store.ts';
import { cutRegion, networkInput, type Placed, type Preprocessing, regionBytes } from './preprocessing.ts';

/** Packed regions of a batch, ready for the device. */
export interface Packed {
  readonly images: Uint8Array;
  readonly placements: Float32Array;
  readonly count: number;
}

/** Writes the regions of up to a batch of faces behind one another, and their placements. */
export function pack(faces: readonly Placed[], preprocessing: Preprocessing): Packed {
  const regions = faces.map(cutRegion);
  const starts: number[] = [];
  let end = 0;
  for (const { bytes } of regions) {
    starts.push(end);
    end += Math.ceil(bytes.length / 4) * 4;
  }
  const images = new Uint8Array(Math.max(4, end));
  const placements = new Float32Array(faces.length * PLACEMENT_COLUMNS);
  regions.forEach(({ bytes, placement }, index) => {
    const start = starts[index] as number;
    // The kernel keeps the order of the bytes; a network trained on BGR gets its bytes turned here.
    if (preprocessing.colour === 'bgr')
      for (let i = 0; i + 2 < bytes.length; i += placement[2])
        [bytes[i], bytes[i + 2]] = [bytes[i + 2] as number, bytes[i] as number];
    images.set(bytes, start);
    placements.set([start / 4, ...placement], index * PLACEMENT_COLUMNS);
  });
  return { images, placements, count: faces.length };
}

/** Photos in, unit vectors out: crop, scale and network as one plan. */
export class Embedder {
  readonly plan: Plan;
  readonly preprocessing: Preprocessing;

  #crops: Promise<Plan> | undefined;

  private constructor(plan: Plan, preprocessing: Preprocessing) {
    this.plan = plan;
    this.preprocessing = preprocessing;
  }

  static async create(
    network: Network,
    build: BuildOptions,
    preprocessing: Preprocessing,
    backend: Backend,
    store: Store,
    batchSize: number,
  ): Promise<Embedder> {
    const { graph, crops } = cropGraph(preprocessing, batchSize);
    const embeddings = network.build(networkInput(crops, preprocessing), { ...build, mode: 'inference' });
    const plan = await Plan.create(graph, { embeddings }, backend, store, { batchSize });
    return new Embedder(plan, preprocessing);
  }

  get batchSize(): number {
    return this.plan.batchSize;
  }

  /** Embeddings [count, dimensions] of up to batchSize faces. */
  async embed({ images, placements, count }: Packed): Promise<Float32Array> {
    const { embeddings } = await this.plan.run({ images, placements }, count, ['embeddings']);
    return embeddings as Float32Array;
  }

  /** What the network sees of one face, as RGB bytes. */
  async crop(face: Placed): Promise<{ data: Uint8Array; width: number; height: number }> {
    this.#crops ??= (async () => {
      const { graph, crops } = cropGraph(this.preprocessing, 1);
      return Plan.create(graph, { crops }, this.plan.backend, this.plan.store, { batchSize: 1 });
    })();
    const { images, placements } = pack([face], this.preprocessing);
    const { crops } = await (await this.#crops).run({ images, placements });
    const { width, height, scale, shift, colour } = this.preprocessing;
    const data = Uint8Array.from(crops as Float32Array, (value, index) => {
      const channel = index % 3;
      return Math.max(0, Math.min(255, Math.round((value - (shift[channel] as number)) / (scale[channel] as number))));
    });
    if (colour === 'bgr')
      for (let i = 0; i < data.length; i += 3) [data[i], data[i + 2]] = [data[i + 2] as number, data[i] as number];
    return { data, width, height };
  }

  async dispose(): Promise<void> {
    this.plan.dispose();
    // A plan that could not be made has nothing to free.
    (await this.#crops?.catch(() => undefined))?.dispose();
  }
}

function cropGraph(preprocessing: Preprocessing, batchSize: number): { graph: Graph; crops: Value } {
  const graph = new Graph();
  const images = graph.input('images', [regionBytes(preprocessing) * batchSize], 'u8');
  const placements = graph.input('placements', [BATCH, PLACEMENT_COLUMNS]);
  const { width, height, scale, shift } = preprocessing;
  return { graph, crops: graph.scope('crop', () => warpAffine(images, placements, { width, height, scale, shift })) };
}

/** Rows of batches, one after the other. */
export function concatenate(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
