/** What every network costs on this machine: what follows from its definition, the memory that its plan would take, and its time. */
import { type Opened, openBackend } from '../backends/open.ts';
import { FaceNetError } from '../errors.ts';
import type { CreateOptions, Host } from '../facenet-gpu.ts';
import { Embedder, pack } from '../faces/embedder.ts';
import { type Preprocessing, place } from '../faces/preprocessing.ts';
import { cost, layers } from '../graph/accounting.ts';
import { inferenceGraph, parametersOf } from '../networks/initialise.ts';
import type { Network, NetworkName } from '../networks/network.ts';
import { networks } from '../networks/networks.ts';
import { forecasting } from '../plan/forecast.ts';
import { fitsHalves, halvesShape } from '../plan/halves.ts';
import type { Backend } from '../plan/runner.ts';
import { HALF, Store } from '../plan/store.ts';

/** One network at its own size. */
export interface NetworkSurvey {
  readonly name: NetworkName;
  readonly parameters: number;
  /** Running means and variances beside them. */
  readonly statistics: number;
  /** Of one image. */
  readonly multiplyAdds: number;
  readonly input: Network['input'];
  readonly dimensions: number;
  /** Bytes of weights, activations and buffers on this backend by batch size, as planned; null where one tensor is too large for it. */
  readonly memory: Readonly<Record<number, number | null>>;
  /** From crops to embeddings of a batch, by its size: the least of some runs. Absent where it was not measured. */
  readonly milliseconds?: Readonly<Record<number, number>>;
  /** Why it could not be measured: not enough memory. */
  readonly trouble?: string;
}

/** How a survey is made. */
export interface SurveyOptions extends Pick<CreateOptions, 'backend' | 'threads' | 'precision' | 'signal'> {
  /** Batch sizes of the forecast. */
  readonly batches: readonly number[];
  /** Batch sizes at which each network is run; none: nothing is. */
  readonly timed: readonly number[];
  readonly only?: readonly NetworkName[];
  /** Called with each network when it is done. */
  readonly onNetwork?: (survey: NetworkSurvey) => void;
}

type Precision = 'f32' | 'f16';

/** Parameters beyond which a network's memory is given back at once. */
const LARGE = 2 ** 25;

/** Least time of measured runs, and most runs, of one network. */
const ENOUGH_MS = 300;
const MOST_RUNS = 20;

/** Surveys all networks on one backend; `why` says which. @throws 'device', 'aborted'. */
export async function surveyNetworks(
  host: Host,
  { batches, timed, only, onNetwork, signal, precision = 'f32', ...options }: SurveyOptions,
): Promise<{ readonly why: string; readonly networks: readonly NetworkSurvey[] }> {
  let opened = await openBackend(host, options);
  const { why } = opened;
  const found: NetworkSurvey[] = [];
  try {
    for (const name of only ?? (Object.keys(networks) as NetworkName[])) {
      if (signal?.aborted) throw new FaceNetError('aborted', 'info: the call was aborted.', { cause: signal.reason });
      const survey = await surveyOf(networks[name], opened, precision, batches, timed);
      found.push(survey);
      onNetwork?.(survey);
      // Linear memory never shrinks: after a large network the next gets one of its own.
      if (timed.length > 0 && survey.parameters > LARGE) {
        await opened.backend.dispose();
        opened = await openBackend(host, options);
      }
    }
  } finally {
    await opened.backend.dispose();
  }
  return { why, networks: found };
}

async function surveyOf(
  network: Network,
  { backend }: Opened,
  precision: Precision,
  batches: readonly number[],
  timed: readonly number[],
): Promise<NetworkSurvey> {
  const { name, input, dimensions } = network;
  const memory: Record<number, number | null> = {};
  for (const batch of batches) memory[batch] = await planned(network, backend, precision, batch);
  const measured = timed.length > 0 ? await milliseconds(network, backend, precision, timed) : {};
  return { name, ...cost(layers(inferenceGraph(network, {}, input))), input, dimensions, memory, ...measured };
}

/** Bytes of store and plan, without allocating them. */
async function planned(
  network: Network,
  backend: Backend,
  precision: Precision,
  batch: number,
): Promise<number | null> {
  const dry = forecasting(backend);
  try {
    const { plan } = await embedder(network, dry.backend, new Store(dry.backend), precision, batch);
    await dry.backend.run([], plan.reads());
    return dry.bytes();
  } catch (error) {
    if (error instanceof FaceNetError && error.code === 'memory') return null;
    throw error;
  }
}

function embedder(
  network: Network,
  backend: Backend,
  store: Store,
  precision: Precision,
  batch: number,
): Promise<Embedder> {
  for (const { name, shape } of parametersOf(network)) {
    if (precision === 'f16' && fitsHalves(shape)) store.define(`${name}${HALF}`, halvesShape(shape));
    else store.define(name, shape);
  }
  return Embedder.create(network, {}, crop(network), backend, store, batch);
}

/** Pixels as the network wants them; the crop is a whole picture of its size. */
function crop({ input, pixels: { scale, shift } }: Network): Preprocessing {
  const template = { name: 'whole', points: [], ...input };
  return { ...input, colour: 'rgb', scale: [scale, scale, scale], shift, template };
}

/** Zeros take the time of any other weights. */
async function milliseconds(
  network: Network,
  backend: Backend,
  precision: Precision,
  batches: readonly number[],
): Promise<Pick<NetworkSurvey, 'milliseconds' | 'trouble'>> {
  const found: Record<number, number> = {};
  try {
    for (const batch of batches) found[batch] = await leastTime(network, backend, precision, batch);
    return { milliseconds: found };
  } catch (error) {
    if (error instanceof FaceNetError && error.code === 'memory')
      return { milliseconds: found, trouble: error.message };
    throw error;
  }
}

async function leastTime(network: Network, backend: Backend, precision: Precision, batch: number): Promise<number> {
  const store = new Store(backend);
  let made: Embedder | undefined;
  try {
    made = await embedder(network, backend, store, precision, batch);
    const preprocessing = crop(network);
    const { width, height } = preprocessing;
    const picture = { data: new Uint8Array(width * height * 3).fill(99), width, height };
    const faces = Array.from({ length: batch }, () => place(picture, undefined, preprocessing));
    const packed = pack(faces, preprocessing);
    await made.embed(packed);
    let least = Number.POSITIVE_INFINITY;
    let spent = 0;
    for (let run = 0; run < MOST_RUNS && (run < 2 || spent < ENOUGH_MS); run++) {
      const start = performance.now();
      await made.embed(packed);
      const took = performance.now() - start;
      least = Math.min(least, took);
      spent += took;
    }
    return least;
  } finally {
    await made?.dispose();
    store.dispose();
  }
}
