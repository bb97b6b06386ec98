import { FaceNetError } from '../errors.ts';
import { checkUnitVectors, type VectorSet } from './distance.ts';
import { difference } from './fingerprint.ts';
import { checkedMeta, checkLabel, type Entry } from './gallery/entry.ts';
import { StoreMirror } from './gallery/mirror.ts';
import {
  distanceToPerson,
  exactDistances,
  firstTemplates,
  type GalleryPolicy,
  nearestPeople,
  peopleByMeanDistance,
  personVectors,
  type Ranked,
  votedPeople,
} from './gallery/policy.ts';
import { type FloatVectors, hostSearch, type VectorSearch } from './gallery/search.ts';
import type { GalleryStore } from './gallery/store.ts';
import type { TemplateKind, TemplateTable } from './gallery/template-table.ts';
import { decide, type OperatingPoint, type Verification } from './operating-point.ts';

/** Vectors of one model. `fingerprint` names model and preprocessing. */
export interface FingerprintedVectors extends FloatVectors {
  readonly fingerprint: string;
}

export interface Match {
  readonly label: string;
  readonly distance: number;
  readonly accepted: boolean;
}

/** Who somebody is; `label` is null when nobody of the gallery is near enough. */
export interface Identification {
  readonly label: string | null;
  readonly matches: Match[];
  readonly point: OperatingPoint;
}

/** What a gallery file holds. */
export interface GalleryContent {
  readonly fingerprint: string;
  readonly dimensions: number;
  readonly entries: readonly { readonly id: string; readonly label: string; readonly meta?: Record<string, string> }[];
  /** count x dimensions numbers, in the order of the entries; bytes for int8 templates. */
  readonly vectors: Float32Array | Int8Array;
}

/** How a file is locked: a passphrase, or a key of 32 bytes. */
export interface Lock {
  readonly passphrase?: string;
  readonly key?: Uint8Array;
}

/** Turns a gallery into bytes and back; src/io/gallery-file.ts is one. */
export interface GalleryCodec {
  write(content: GalleryContent, lock: Lock): Promise<Uint8Array>;
  read(bytes: Uint8Array, lock: Lock): Promise<GalleryContent>;
}

export interface GalleryOptions {
  /** Model and preprocessing that all templates are made with. */
  readonly fingerprint: string;
  /** What versions of this library before called the same model: files and embeddings with one of these are taken as its own. */
  readonly former?: readonly string[];
  readonly dimensions: number;
  /** Where entries are kept; in memory alone by default. */
  readonly store?: GalleryStore;
  /** 'nearest' by default. */
  readonly policy?: GalleryPolicy;
  /** For 'knn': templates that vote; 5 by default. */
  readonly k?: number;
  /** 'float32' by default; 'int8' takes a quarter of the memory: see int8Loss() for what it costs. */
  readonly templates?: TemplateKind;
  /** Where searching is done; on the host by default. */
  readonly search?: VectorSearch;
  /** For save(), load() and exportPerson(). */
  readonly codec?: GalleryCodec;
  /** Makes the id of a new entry; 96 random bits by default. */
  readonly newId?: () => string;
}

/**
 * People and their templates: enrol, find, rename, remove. Open set: somebody who is near to nobody is unknown. Calls may be made
 * without waiting for one another; they are carried out in order. No label, no template and no meta data ever stands in an error text.
 */
export class FaceGallery {
  readonly fingerprint: string;
  readonly dimensions: number;
  readonly policy: GalleryPolicy;
  readonly k: number;
  readonly templates: TemplateKind;
  readonly #former: readonly string[];
  readonly #mirror: StoreMirror;
  readonly #search: VectorSearch;
  readonly #codec: GalleryCodec | undefined;
  readonly #newId: () => string;
  /** First row that the search has not seen. */
  #firstChanged = 0;
  /** What is searched instead of the rows for 'mean' and 'median'. */
  #people: { vectors: VectorSet; labels: string[] } | null = null;

  private constructor(options: GalleryOptions) {
    const { fingerprint, dimensions, policy = 'nearest', k = 5, templates = 'float32' } = options;
    if (typeof fingerprint !== 'string' || fingerprint === '')
      throw refusal('fingerprint', 'must be a text', String(fingerprint), 'Pass that of the model');
    if (!Number.isInteger(dimensions) || dimensions < 1)
      throw refusal('dimensions', 'must be a whole number from 1', dimensions, 'Pass that of the model');
    if (!['nearest', 'knn', 'mean', 'median', 'mean-distance'].includes(policy))
      throw refusal('policy', 'must be nearest, knn, mean, median or mean-distance', policy, 'Choose one of these');
    if (!Number.isInteger(k) || k < 1) throw refusal('k', 'must be a whole number from 1', k, '5 is usual');
    if (templates !== 'float32' && templates !== 'int8')
      throw refusal('templates', 'must be float32 or int8', templates, 'Choose one of these');
    this.fingerprint = fingerprint;
    this.#former = options.former ?? [];
    this.dimensions = dimensions;
    this.policy = policy;
    this.k = k;
    this.templates = templates;
    this.#mirror = new StoreMirror(options.store, dimensions, templates, (row) => {
      this.#firstChanged = Math.min(this.#firstChanged, row);
      this.#people = null;
    });
    this.#search = options.search ?? hostSearch();
    this.#codec = options.codec;
    this.#newId = options.newId ?? randomId;
  }

  /** Opens a gallery on a store. Throws 'mismatch' when the store holds another model's templates, 'store' when it fails. */
  static async open(options: GalleryOptions): Promise<FaceGallery> {
    const gallery = new FaceGallery(options);
    await gallery.#mirror.open(gallery.fingerprint);
    return gallery;
  }

  /** Templates, as of the last call that has settled. */
  get size(): number {
    return this.#table.size;
  }

  get people(): number {
    return this.#table.people;
  }

  /** All entries, or those of one person, in order of insertion: copies, of the moment of the first read. */
  async *entries(label?: string): AsyncIterable<Entry> {
    const entries = await this.#mirror.inOrder(async () => {
      const rows = label === undefined ? this.#mirror.rows() : this.#table.rowsOf(label);
      return rows.map((row) => this.#table.entry(row));
    });
    yield* entries;
  }

  /** The people, in order of insertion. */
  labels(): Promise<string[]> {
    return this.#mirror.inOrder(async () => [...this.#table.labels()]);
  }

  /**
   * Adds templates of one person and gives their ids. A template that the person has already, number for number, is not added again: its
   * id is given. Throws 'input' for a bad label, meta or vector (nothing is added then), 'mismatch' for vectors of another model.
   */
  async enroll(label: string, faces: FingerprintedVectors, meta?: Record<string, string>): Promise<string[]> {
    checkLabel(label);
    const copied = checkedMeta(meta);
    this.#checkVectors(faces);
    if (faces.count === 0) throw refusal('faces', 'must hold at least one face', 0, 'Embed a face first');
    const vectors = faces.data.slice();
    return this.#mirror.inOrder(async () => {
      const added: Entry[] = [];
      const ids: string[] = [];
      for (let row = 0; row < faces.count; row++) {
        const vector = this.#table.kept(vectors.subarray(row * this.dimensions, (row + 1) * this.dimensions));
        const known = this.#table.find(label, vector);
        const twin =
          known === undefined
            ? added.find((entry) => entry.vector.every((value, i) => value === vector[i]))
            : undefined;
        const id = known !== undefined ? this.#table.id(known) : (twin?.id ?? this.#freshId(added));
        ids.push(id);
        if (known === undefined && !twin) added.push({ id, label, vector, ...(copied && { meta: copied }) });
      }
      if (added.length > 0) await this.#mirror.put(added);
      return ids;
    });
  }

  /** Removes an entry by its id or a person by the label; both must fit when both are given. Gives how many templates went. */
  async remove(match: { id?: string; label?: string }): Promise<number> {
    if (match.id === undefined && match.label === undefined)
      throw refusal('remove', 'needs an id or a label', 'neither', 'Say whom to remove');
    return this.#mirror.inOrder(async () => {
      const rows = this.#rowsMatching(match);
      if (rows.length === 0) return 0;
      await this.#mirror.remove(rows);
      return rows.length;
    });
  }

  /** Removes a person and has the store wipe what is left in its files. Gives how many templates went. */
  async erase(label: string): Promise<number> {
    const gone = await this.remove({ label });
    await this.#mirror.inOrder(() => this.#mirror.compact());
    return gone;
  }

  /**
   * Gives a person another label. If somebody bears it already the two become one; templates both had stay once. Gives how many
   * templates were renamed (0: nobody bears `from`).
   */
  async rename(from: string, to: string): Promise<number> {
    checkLabel(to);
    return this.#mirror.inOrder(async () => {
      const rows = [...this.#table.rowsOf(from)];
      if (rows.length === 0 || from === to) return rows.length;
      const doubled = rows.filter((row) => this.#table.find(to, this.#table.vector(row)) !== undefined);
      const moved = rows.filter((row) => !doubled.includes(row));
      await this.#mirror.put(moved.map((row) => ({ ...this.#table.entry(row), label: to })));
      if (doubled.length > 0) await this.#mirror.remove(doubled);
      return rows.length;
    });
  }

  /**
   * The `limit` nearest people (5 by default) for each query, and whether they lie within the point's threshold. Exact; equal distances
   * in order of insertion. An empty gallery knows nobody.
   */
  async identify(
    queries: FingerprintedVectors,
    point: OperatingPoint,
    options: { limit?: number } = {},
  ): Promise<Identification[]> {
    const { limit = 5 } = options;
    this.#checkVectors(queries);
    if (!Number.isInteger(limit) || limit < 1)
      throw refusal('limit', 'must be a whole number from 1', limit, '5 is usual');
    const data = queries.data.slice();
    return this.#mirror.inOrder(async () => {
      const results: Identification[] = [];
      const searches = await this.#searches({ data, count: queries.count, dimensions: this.dimensions }, limit);
      for (let i = 0; i < queries.count; i++) {
        const query = data.subarray(i * this.dimensions, (i + 1) * this.dimensions);
        const ranked = await this.#rank(query, limit, searches(i));
        const matches = ranked.map(
          ({ label, distance }): Match => ({ label, distance, accepted: distance <= point.threshold }),
        );
        results.push({ label: matches.find(({ accepted }) => accepted)?.label ?? null, matches, point });
      }
      return results;
    });
  }

  /** Is this the person? By the gallery's policy ('knn' as 'nearest'). Throws 'input' when nobody bears the label. */
  async verify(label: string, query: FingerprintedVectors, point: OperatingPoint): Promise<Verification> {
    this.#checkVectors(query);
    if (query.count !== 1) throw refusal('verify', 'needs one face', query.count, 'Verify faces one by one');
    const vector = query.data.slice();
    return this.#mirror.inOrder(async () => {
      if (this.#table.rowsOf(label).length === 0)
        throw refusal('verify', 'needs a person of the gallery', 'a label that nobody bears', 'Enrol the person first');
      return decide(distanceToPerson(vector, this.#table, label, this.policy), point);
    });
  }

  /** The gallery as a file, locked when a passphrase or key is given. */
  async save(lock: Lock = {}): Promise<Uint8Array> {
    const codec = this.#needCodec();
    return this.#mirror.inOrder(() => codec.write(this.#content(), lock));
  }

  /** One person's entries as a file of their own. Throws 'input' when nobody bears the label. */
  async exportPerson(label: string, lock: Lock = {}): Promise<Uint8Array> {
    const codec = this.#needCodec();
    return this.#mirror.inOrder(async () => {
      const rows = this.#table.rowsOf(label);
      if (rows.length === 0)
        throw refusal('export', 'needs a person of the gallery', 'a label that nobody bears', 'Check the label');
      return codec.write(this.#content(rows), lock);
    });
  }

  /**
   * Replaces all entries by those of a file. Everything is checked first: on an error the gallery is as it was. Throws 'mismatch' for
   * another model's file, 'store' for a damaged one or a wrong passphrase.
   */
  async load(bytes: Uint8Array, lock: Lock = {}): Promise<void> {
    const codec = this.#needCodec();
    return this.#mirror.inOrder(async () => {
      const { fingerprint, dimensions, entries, vectors } = await codec.read(bytes, lock);
      this.#checkModel(fingerprint, dimensions, 'gallery file');
      if (vectors.length !== entries.length * dimensions) {
        throw new FaceNetError(
          'store',
          `gallery file: must hold ${entries.length} x ${dimensions} numbers, got ${vectors.length}. The file is damaged.`,
        );
      }
      await this.#mirror.replaceAll(entries, vectors);
    });
  }

  /** Closes the store and wipes the templates from memory. Twice is allowed; other calls then throw 'disposed'. */
  async close(): Promise<void> {
    await this.#mirror.close();
    await this.#search.close?.();
  }

  get #table(): TemplateTable {
    return this.#mirror.table;
  }

  async #rank(query: Float32Array, limit: number, search: VectorSearch): Promise<Ranked[]> {
    const table = this.#table;
    if (table.size === 0) return [];
    switch (this.policy) {
      case 'mean-distance':
        return peopleByMeanDistance(query, table, limit);
      case 'mean':
      case 'median': {
        const { vectors, labels } = this.#peopleVectors(this.policy);
        const found = exactDistances(query, vectors, await search.nearest(query, Math.min(limit, vectors.count)));
        return Array.from(found.rows, (row, i) => ({ label: labels[row]!, distance: found.distances[i]! }));
      }
      case 'knn':
        return votedPeople(query, table, search, this.k, limit);
      default:
        return nearestPeople(query, table, search, limit);
    }
  }

  /** The search for each query. One that can take many at once is asked for all of them here. */
  async #searches(queries: FloatVectors, limit: number): Promise<(query: number) => VectorSearch> {
    const search = await this.#loadedSearch();
    if (queries.count < 2 || !search.nearestOfMany) return () => search;
    const byPerson = this.policy === 'mean' || this.policy === 'median';
    const rows = byPerson ? this.#table.people : this.#table.size;
    const k = Math.min(byPerson ? limit : this.policy === 'knn' ? this.k : firstTemplates(limit), rows);
    const found = await search.nearestOfMany(queries, k);
    return (i) => ({
      load() {},
      nearest: (query, wanted) => (wanted === k ? found[i]! : search.nearest(query, wanted)),
    });
  }

  /** The store's own search for templates, or ours with what has changed since. */
  async #loadedSearch(): Promise<VectorSearch> {
    if (this.policy === 'mean-distance' || this.#table.size === 0) return hostSearch();
    if (this.policy === 'mean' || this.policy === 'median') {
      const isNew = this.#people === null;
      const { vectors } = this.#peopleVectors(this.policy);
      if (isNew) await this.#search.load(vectors, 0);
      return this.#search;
    }
    if (this.#mirror.searches) return this.#storeSearch();
    if (this.#firstChanged < Number.POSITIVE_INFINITY) {
      await this.#search.load(this.#table.searched(), this.#firstChanged);
      this.#firstChanged = Number.POSITIVE_INFINITY;
    }
    return this.#search;
  }

  #storeSearch(): VectorSearch {
    return {
      load() {},
      nearest: async (query, k) => {
        const rows = await this.#mirror.nearest(query, k);
        return { rows: Uint32Array.from(rows), distances: new Float64Array(rows.length) };
      },
    };
  }

  #peopleVectors(policy: 'mean' | 'median'): { vectors: VectorSet; labels: string[] } {
    this.#people ??= personVectors(this.#table, policy);
    return this.#people;
  }

  #content(rows?: readonly number[]): GalleryContent {
    const { fingerprint, dimensions } = this;
    const entries = (rows ?? this.#mirror.rows()).map((row) => this.#table.texts(row));
    return { fingerprint, dimensions, entries, vectors: this.#table.numbers(rows) };
  }

  #checkVectors(vectors: FingerprintedVectors): void {
    this.#checkModel(vectors.fingerprint, vectors.dimensions, 'faces');
    checkUnitVectors(vectors, 'faces');
  }

  #checkModel(fingerprint: string, dimensions: number, subject: string): void {
    if (fingerprint !== this.fingerprint && !this.#former.includes(fingerprint)) {
      throw new FaceNetError(
        'mismatch',
        `${subject}: model must be the gallery's: ${difference(this.fingerprint, fingerprint)}. Embed with the gallery's model, or enrol everybody again.`,
      );
    }
    if (dimensions !== this.dimensions) {
      throw new FaceNetError(
        'mismatch',
        `${subject}: dimensions must be the gallery's, ${this.dimensions}, got ${dimensions}. Embed with the gallery's model, or enrol everybody again.`,
      );
    }
  }

  #rowsMatching({ id, label }: { id?: string; label?: string }): readonly number[] {
    if (id === undefined) return [...this.#table.rowsOf(label!)];
    const row = this.#table.rowOf(id);
    return row === undefined || (label !== undefined && this.#table.label(row) !== label) ? [] : [row];
  }

  #freshId(added: readonly Entry[]): string {
    for (let attempt = 0; attempt < 100; attempt++) {
      const id = this.#newId();
      if (
        typeof id === 'string' &&
        id !== '' &&
        this.#table.rowOf(id) === undefined &&
        !added.some((entry) => entry.id === id)
      )
        return id;
    }
    throw refusal('newId', 'must give a new text each time', 'the same one 100 times', 'Leave it out');
  }

  #needCodec(): GalleryCodec {
    if (!this.#codec) throw refusal('gallery', 'needs a codec for files', 'none', 'Pass one to FaceGallery.open()');
    return this.#codec;
  }
}

function refusal(subject: string, rule: string, got: string | number, remedy: string): FaceNetError {
  return new FaceNetError('input', `${subject}: ${rule}, got ${got}. ${remedy}.`);
}

function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
