/**
 * `tune: true` of create(): an embedder of the kernels that are fastest on this device (plan/tuner.ts), measured the first time and then
 * remembered, by adapter, driver and runtime, batch size, shapes and the variants there were. What was measured lies where model files are kept (the
 * Cache API of a page rather than IndexedDB: one place with the same interface as a folder of Node, that users already can replace or
 * switch off by `cache`), an entry a network and batch. One that is damaged, or of another machine, is measured anew and replaced.
 */
import type { Progress, Watch } from '../facenet-gpu.ts';
import type { Embedder } from '../faces/embedder.ts';
import type { ModelCache } from '../io/fetch-model.ts';
import { sha256 } from '../io/sha256.ts';
import { forecasting } from '../plan/forecast.ts';
import type { Plan } from '../plan/plan.ts';
import type { Backend } from '../plan/runner.ts';
import type { Step } from '../plan/step.ts';
import type { Store } from '../plan/store.ts';
import { choicesOf, preferredBy, type TunedChoice, tune } from '../plan/tuner.ts';

const SCHEMA = 'facenet/tuning@1';

/** Makes an embedder on a backend and a store: twice on the true one, once where nothing is allocated. */
type Make = (backend: Backend, store: Store) => Promise<Embedder>;

/** Tunes the embedders of one FaceNetGPU: a device that takes the place of a lost one gets the kernels found before. */
export class EmbedderTuner {
  readonly #cache: ModelCache | undefined;
  readonly #watch: Watch;
  readonly #measure: ((plan: Plan) => Promise<readonly number[]>) | undefined;
  #found: readonly TunedChoice[] | undefined;

  /** @param measure in place of the device's clock, for tests */
  constructor(
    cache: ModelCache | undefined,
    { signal, onProgress }: Watch = {},
    measure?: (plan: Plan) => Promise<readonly number[]>,
  ) {
    this.#cache = cache;
    this.#watch = { ...(signal && { signal }), ...(onProgress && { onProgress }) };
    this.#measure = measure;
  }

  /** What was measured, now or before; nothing until `embedder` has resolved. */
  get choices(): readonly TunedChoice[] {
    return this.#found ?? [];
  }

  /**
   * An embedder of the fastest kernels; the backend's tables prefer them from now on.
   * @param warm runs it once
   */
  async embedder(
    backend: Backend,
    store: Store,
    make: Make,
    warm: (made: Embedder) => Promise<void>,
  ): Promise<Embedder> {
    const { signal, onProgress } = this.#watch;
    const { steps, batchSize } = await planned(backend, store, make);
    const key = await keyOf(backend, batchSize, steps);
    this.#found ??= await this.#recall(key, steps);
    if (this.#found) {
      backend.families = backend.families.preferring(preferredBy(this.#found));
      const made = await make(backend, store);
      this.#report({ phase: 'compile', done: 1, total: 1 });
      return made;
    }
    const first = await make(backend, store);
    let found: TunedChoice[];
    try {
      await warm(first);
      this.#report({ phase: 'compile', done: 1, total: 1 });
      found = await tune(backend, first.plan, () => warmed(make, warm, backend, store), {
        ...(this.#measure && { measure: this.#measure }),
        signal,
        onProgress: onProgress && ((done, total) => this.#report({ phase: 'tune', done, total })),
      });
    } catch (error) {
      await first.dispose();
      throw error;
    }
    this.#found = found;
    await this.#keep(key, found);
    if (found.every(({ taken, variants }) => taken === variants[0])) return first;
    await first.dispose();
    backend.families = backend.families.preferring(preferredBy(found));
    return make(backend, store);
  }

  #report(progress: Progress): void {
    this.#watch.onProgress?.(progress);
  }

  /** What was measured before for exactly these choices. A cache that fails is none. */
  async #recall(key: string, steps: readonly Step[]): Promise<readonly TunedChoice[] | undefined> {
    const bytes = await this.#cache?.match(key).catch(() => undefined);
    return bytes && readTuning(bytes, key, steps);
  }

  async #keep(key: string, choices: readonly TunedChoice[]): Promise<void> {
    if (choices.length === 0) return;
    const bytes = new TextEncoder().encode(JSON.stringify({ schema: SCHEMA, key, choices }));
    await this.#cache?.put(key, bytes).catch(() => undefined);
  }
}

async function warmed(make: Make, warm: (made: Embedder) => Promise<void>, backend: Backend, store: Store) {
  const made = await make(backend, store);
  try {
    await warm(made);
    return made;
  } catch (error) {
    await made.dispose();
    throw error;
  }
}

/** Steps of the embedder by the default tables, without memory or pipelines. */
async function planned(
  backend: Backend,
  store: Store,
  make: Make,
): Promise<{ steps: readonly Step[]; batchSize: number }> {
  const dry = forecasting(backend).backend;
  const { plan, batchSize } = await make(dry, store.like(dry));
  return { steps: plan.steps, batchSize };
}

/** Names everything that times depend on. */
async function keyOf({ identity = '' }: Backend, batchSize: number, steps: readonly Step[]): Promise<string> {
  const choices = [...choicesOf(steps).values()].map(({ choice: { key, variants } }) => [key, variants]);
  const hash = await sha256(new TextEncoder().encode(JSON.stringify(choices)));
  return `${SCHEMA} ${identity} batch ${batchSize} ${hash}`;
}

/** What an entry says, if it is whole and of this key and these choices. */
export function readTuning(bytes: Uint8Array, key: string, steps: readonly Step[]): TunedChoice[] | undefined {
  const wanted = choicesOf(steps);
  try {
    const entry = JSON.parse(new TextDecoder().decode(bytes)) as {
      schema: string;
      key: string;
      choices: TunedChoice[];
    };
    const holds =
      entry.schema === SCHEMA &&
      entry.key === key &&
      entry.choices.length === wanted.size &&
      entry.choices.every((found) => {
        const variants = wanted.get(found.key)?.choice.variants;
        return variants?.includes(found.taken) && JSON.stringify(variants) === JSON.stringify(found.variants);
      });
    return holds ? entry.choices : undefined;
  } catch {
    return undefined;
  }
}
