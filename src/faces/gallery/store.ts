import { FaceNetError } from '../../errors.ts';
import type { Entry } from './entry.ts';

/**
 * Where a gallery's entries are kept: memory, a data base, a file. Calls come one after another. A call that fails must have
 * changed nothing or everything; the gallery reads all entries again after a failure.
 */
export interface GalleryStore {
  /** Opens for templates of one model. Must throw 'mismatch' when it holds those of another. */
  open(fingerprint: string, dimensions: number): Promise<void>;
  /** All entries in the order in which they were first put. */
  entries(): AsyncIterable<Entry>;
  /** Adds entries; one with a known id replaces the old one in its place. Acknowledged means kept. */
  put(entries: readonly Entry[]): Promise<void>;
  /** Removes entries; unknown ids are no error. */
  remove(ids: readonly string[]): Promise<void>;
  /** Optional search; without it the gallery searches for itself, exactly. Nearest first, squared distances. */
  nearest?(query: Float32Array, limit: number): Promise<{ id: string; label: string; distance: number }[]>;
  /** Optional: calls back when somebody else has changed the entries. Gives a function that ends it. */
  watch?(changed: () => void): () => void;
  /** Optional: rewrites files so that nothing of removed entries is left in them. */
  compact?(): Promise<void>;
  close(): Promise<void>;
}

/** A store in memory: an example of what a store must do. */
export class MemoryStore implements GalleryStore {
  readonly #entries = new Map<string, Entry>();
  #model: { fingerprint: string; dimensions: number } | null = null;

  async open(fingerprint: string, dimensions: number): Promise<void> {
    if (this.#model && (this.#model.fingerprint !== fingerprint || this.#model.dimensions !== dimensions)) {
      throw new FaceNetError(
        'mismatch',
        `gallery store: holds templates of ${this.#model.fingerprint} (${this.#model.dimensions} numbers), got ${fingerprint} (${dimensions}). Enrol everybody again with this model.`,
      );
    }
    this.#model = { fingerprint, dimensions };
  }

  async *entries(): AsyncIterable<Entry> {
    for (const entry of [...this.#entries.values()]) yield { ...entry, vector: entry.vector.slice() };
  }

  async put(entries: readonly Entry[]): Promise<void> {
    // A Map keeps the place of a key that is set again.
    for (const entry of entries) this.#entries.set(entry.id, { ...entry, vector: entry.vector.slice() });
  }

  async remove(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      this.#entries.get(id)?.vector.fill(0);
      this.#entries.delete(id);
    }
  }

  async close(): Promise<void> {}
}
