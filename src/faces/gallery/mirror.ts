import { FaceNetError } from '../../errors.ts';
import { checkUnitVectors } from '../distance.ts';
import { checkedMeta, checkLabel, type Entry } from './entry.ts';
import type { GalleryStore } from './store.ts';
import { type TemplateKind, TemplateTable } from './template-table.ts';

/**
 * A store's entries in memory, and the order of calls: one after the other, each on a table that agrees with the store. After a call
 * of the store that failed, or when the store says that others changed it, the table is read again before the next call. Without a store
 * the table is all there is.
 */
export class StoreMirror {
  readonly table: TemplateTable;
  readonly #store: GalleryStore | undefined;
  /** Told of every change, with the first row whose vector may be another (Infinity: labels only). */
  readonly #changed: (row: number) => void;
  #unwatch: (() => void) | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #stale = true;
  #closed = false;

  constructor(store: GalleryStore | undefined, dimensions: number, kind: TemplateKind, changed: (row: number) => void) {
    this.table = new TemplateTable(dimensions, kind);
    this.#store = store;
    this.#changed = changed;
  }

  get searches(): boolean {
    return this.#store?.nearest !== undefined;
  }

  async open(fingerprint: string): Promise<void> {
    await this.#ask('open', (store) => store.open(fingerprint, this.table.dimensions));
    this.#unwatch = this.#store?.watch?.(() => {
      this.#stale = true;
    });
    await this.reload();
  }

  /** Runs when all calls before have settled. A call that fails does not stop the next. Throws 'disposed' after close(). */
  inOrder<Result>(run: () => Promise<Result>): Promise<Result> {
    if (this.#closed) {
      return Promise.reject(
        new FaceNetError('disposed', 'gallery: must be open, got a call after close(). Open it again.'),
      );
    }
    return this.#queue(async () => {
      if (this.#stale) await this.reload();
      return run();
    });
  }

  /** After the calls in hand: ends watching, wipes the table, closes the store. Twice is allowed. */
  async close(): Promise<void> {
    if (this.#closed) {
      await this.#last;
      return;
    }
    this.#closed = true;
    await this.#queue(async () => {
      this.#unwatch?.();
      this.table.clear();
      this.#changed(0);
      await this.#ask('close', (store) => store.close());
    });
  }

  async put(entries: readonly Entry[]): Promise<void> {
    await this.#change('put', (store) => store.put(entries));
    this.#changed(this.table.put(entries));
  }

  async remove(rows: readonly number[]): Promise<void> {
    await this.#change('remove', (store) => store.remove(rows.map((row) => this.table.id(row))));
    this.#changed(this.table.remove(rows));
  }

  async compact(): Promise<void> {
    await this.#ask('compact', async (store) => store.compact?.());
  }

  /**
   * Holds these entries and no others. All are checked before anything changes. With a store the table then follows it, and its order
   * counts. Throws 'store' with the place of a damaged entry.
   */
  async replaceAll(entries: readonly Omit<Entry, 'vector'>[], vectors: Float32Array | Int8Array): Promise<void> {
    const texts = entries.map((entry, i) => this.#checkedTexts(entry, i));
    const kept = new Set(texts.map(({ id }) => id));
    if (kept.size < texts.length) {
      throw new FaceNetError(
        'store',
        `gallery: every entry must have an id of its own, got ${kept.size} ids for ${texts.length} entries. Restore the gallery from a copy.`,
      );
    }
    const table = this.#store ? new TemplateTable(this.table.dimensions, this.table.kind) : this.table;
    try {
      table.replaceAll(texts, vectors);
    } catch (cause) {
      throw damaged(cause, (cause as FaceNetError).index ?? 0);
    }
    this.#changed(0);
    if (!this.#store) return;
    const gone = this.rows()
      .map((row) => this.table.id(row))
      .filter((id) => !kept.has(id));
    const all = texts.map((_, row) => table.entry(row));
    table.clear();
    await this.#change('put', (store) => store.put(all));
    await this.#change('remove', (store) => store.remove(gone));
    await this.reload();
  }

  /** Rows that the store's own search finds. */
  async nearest(query: Float32Array, limit: number): Promise<number[]> {
    let rows: number[] = [];
    await this.#ask('nearest', async (store) => {
      const found = (await store.nearest?.(query.slice(), limit)) ?? [];
      rows = found.flatMap(({ id }) => this.table.rowOf(id) ?? []);
    });
    return rows;
  }

  /** All row numbers. */
  rows(): number[] {
    return Array.from({ length: this.table.size }, (_, row) => row);
  }

  async reload(): Promise<void> {
    this.#stale = false;
    if (!this.#store) return;
    try {
      const entries: Entry[] = [];
      await this.#ask('read', async (store) => {
        for await (const entry of store.entries()) entries.push(entry);
      });
      const checked = entries.map((entry, i) => this.#checked(entry, i));
      this.table.clear();
      this.table.put(checked);
      this.#changed(0);
    } catch (error) {
      this.#stale = true;
      throw error;
    }
  }

  /** An entry from outside, copied. Throws 'store' with its place; the text never names the person. */
  #checked(entry: Entry, index: number): Entry {
    const texts = this.#checkedTexts(entry, index);
    try {
      checkUnitVectors({ data: entry.vector, count: 1, dimensions: this.table.dimensions }, 'template');
    } catch (cause) {
      throw damaged(cause, index);
    }
    return { ...texts, vector: this.table.kept(entry.vector) };
  }

  /** The same for all but the vector. */
  #checkedTexts({ id, label, meta }: Omit<Entry, 'vector'>, index: number): Omit<Entry, 'vector'> {
    try {
      checkLabel(label);
      if (typeof id !== 'string' || id === '')
        throw new FaceNetError(
          'input',
          `id: must be a text that is not empty, got ${typeof id}. Keep what put() was given.`,
        );
      const copied = checkedMeta(meta);
      return copied ? { id, label, meta: copied } : { id, label };
    } catch (cause) {
      throw damaged(cause, index);
    }
  }

  #queue<Result>(run: () => Promise<Result>): Promise<Result> {
    const result = this.#last.then(run);
    this.#last = result.then(
      () => {},
      () => {},
    );
    return result;
  }

  async #change(what: string, call: (store: GalleryStore) => Promise<void>): Promise<void> {
    try {
      await this.#ask(what, call);
    } catch (error) {
      this.#stale = true;
      throw error;
    }
  }

  async #ask(what: string, call: (store: GalleryStore) => Promise<void>): Promise<void> {
    try {
      if (this.#store) await call(this.#store);
    } catch (cause) {
      if (cause instanceof FaceNetError) throw cause;
      throw new FaceNetError(
        'store',
        `gallery store: ${what} must succeed, got a failure of the store. See the cause; what was acknowledged before is kept.`,
        { cause },
      );
    }
  }
}

function damaged(cause: unknown, index: number): FaceNetError {
  return new FaceNetError(
    'store',
    `gallery: every entry must be whole, got a damaged one at place ${index}. Restore the gallery from a copy.`,
    { cause, index },
  );
}
