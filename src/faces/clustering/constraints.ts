import { FaceNetError } from '../../errors.ts';

/** What is known of the faces beside their distances. */
export interface ConstraintOptions {
  /** Lists of faces that never join: the faces of one photo, or two that the user says are different people. */
  readonly apart?: readonly (readonly number[])[];
  /** Pairs that are one person by the user's word. */
  readonly together?: readonly (readonly [number, number])[];
  /**
   * Group numbers of an earlier run (-1: none), one for each face of then; faces added since come after them. Those groups keep their
   * members and numbers and do not merge with each other, unless `together` or `apart` says so now.
   */
  readonly previous?: ArrayLike<number>;
}

/**
 * Faces contracted to units: a unit starts as one face, or as the faces that the user's word or an earlier run puts together. Units are
 * numbered by their first face. merge() joins them further while clustering goes on.
 */
export class Units {
  /** Unit of each face at the start. */
  readonly ofFace: Uint32Array;
  readonly count: number;
  /** Earlier group number of each unit, or -1. */
  readonly owner: Int32Array;
  readonly #apart: (Set<number> | undefined)[];
  readonly #parent: Uint32Array;
  /** False when no two units can conflict. */
  readonly constrained: boolean;

  constructor(faces: number, options: ConstraintOptions) {
    const { apart = [], together = [], previous } = options;
    const lists = apartLists(faces, apart);
    const roots = new FaceRoots(faces, lists);
    for (const [index, pair] of together.entries()) {
      const [a, b] = checkedPair(faces, pair, `together ${index}`);
      if (!roots.join(a, b)) {
        throw new FaceNetError(
          'input',
          `together ${index}: faces must not be named apart as well, got faces ${a} and ${b}. Take one of the two statements back.`,
          { index },
        );
      }
    }
    const owners = joinPrevious(faces, previous, roots);

    this.ofFace = new Uint32Array(faces);
    const unitOfRoot = new Map<number, number>();
    for (let face = 0; face < faces; face++) {
      const root = roots.find(face);
      let unit = unitOfRoot.get(root);
      if (unit === undefined) unitOfRoot.set(root, (unit = unitOfRoot.size));
      this.ofFace[face] = unit;
    }
    this.count = unitOfRoot.size;
    this.owner = new Int32Array(this.count).fill(-1);
    for (const [root, owner] of owners) this.owner[unitOfRoot.get(root)!] = owner;
    this.#apart = new Array<Set<number> | undefined>(this.count);
    for (const [root, unit] of unitOfRoot) this.#apart[unit] = roots.lists(root);
    this.#parent = Uint32Array.from({ length: this.count }, (_, i) => i);
    this.constrained = owners.size > 1 || this.#apart.some((set) => set !== undefined);
  }

  /** May these two never be one? Units must be roots. */
  conflict(a: number, b: number): boolean {
    if (!this.constrained) return false;
    if (this.owner[a]! >= 0 && this.owner[b]! >= 0 && this.owner[a] !== this.owner[b]) return true;
    return intersects(this.#apart[a], this.#apart[b]);
  }

  find(unit: number): number {
    let root = unit;
    while (this.#parent[root] !== root) root = this.#parent[root]!;
    for (let at = unit; this.#parent[at] !== root; ) {
      const next = this.#parent[at]!;
      this.#parent[at] = root;
      at = next;
    }
    return root;
  }

  /** Joins two units; the lower number stays. Gives it. */
  merge(a: number, b: number): number {
    const [low, high] = [Math.min(this.find(a), this.find(b)), Math.max(this.find(a), this.find(b))];
    if (low === high) return low;
    this.#parent[high] = low;
    if (this.owner[low]! < 0) this.owner[low] = this.owner[high]!;
    this.#apart[low] = union(this.#apart[low], this.#apart[high]);
    this.#apart[high] = undefined;
    return low;
  }
}

/** Union-find over faces, with the lists that each set must keep apart from. */
class FaceRoots {
  readonly #parent: Uint32Array;
  readonly #lists: (Set<number> | undefined)[];

  constructor(faces: number, lists: (Set<number> | undefined)[]) {
    this.#parent = Uint32Array.from({ length: faces }, (_, i) => i);
    this.#lists = lists;
  }

  find(face: number): number {
    while (this.#parent[face] !== face) face = this.#parent[face] = this.#parent[this.#parent[face]!]!;
    return face;
  }

  lists(root: number): Set<number> | undefined {
    return this.#lists[root];
  }

  /** False, and nothing done, when a list holds a face of each. */
  join(a: number, b: number): boolean {
    const [low, high] = [Math.min(this.find(a), this.find(b)), Math.max(this.find(a), this.find(b))];
    if (low === high) return true;
    if (intersects(this.#lists[low], this.#lists[high])) return false;
    this.#parent[high] = low;
    this.#lists[low] = union(this.#lists[low], this.#lists[high]);
    return true;
  }
}

/** For each face the numbers of the lists it is in. */
function apartLists(faces: number, apart: readonly (readonly number[])[]): (Set<number> | undefined)[] {
  const lists = new Array<Set<number> | undefined>(faces);
  apart.forEach((list, index) => {
    const members = new Set<number>();
    for (const face of list) {
      checkFace(faces, face, `apart ${index}`, index);
      members.add(face);
    }
    if (members.size < 2) return;
    for (const face of members) (lists[face] ??= new Set()).add(index);
  });
  return lists;
}

/** Puts the faces of each earlier group together again. A face that `apart` now forbids is released. Gives the group number of each root. */
function joinPrevious(faces: number, previous: ArrayLike<number> | undefined, roots: FaceRoots): Map<number, number> {
  const first = new Map<number, number>();
  if (!previous) return new Map();
  if (previous.length > faces) {
    throw new FaceNetError(
      'input',
      `previous: must hold at most one number for each of ${faces} faces, got ${previous.length}. New faces come after the old ones.`,
    );
  }
  for (let face = 0; face < previous.length; face++) {
    const group = previous[face]!;
    if (!Number.isInteger(group) || group < -1 || group > 0x7fffffff) {
      throw new FaceNetError(
        'input',
        `previous: must hold group numbers or -1, got ${group} at face ${face}. Pass \`groups\` of the earlier result.`,
        { index: face },
      );
    }
    if (group < 0) continue;
    const start = first.get(group);
    if (start === undefined) first.set(group, face);
    else roots.join(start, face);
  }
  const owners = new Map<number, number>();
  for (const [group, face] of first) {
    const root = roots.find(face);
    owners.set(root, Math.min(group, owners.get(root) ?? group));
  }
  return owners;
}

function intersects(a: Set<number> | undefined, b: Set<number> | undefined): boolean {
  if (!a || !b) return false;
  const [small, large] = a.size < b.size ? [a, b] : [b, a];
  for (const value of small) if (large.has(value)) return true;
  return false;
}

function union(a: Set<number> | undefined, b: Set<number> | undefined): Set<number> | undefined {
  if (!a || !b) return a ?? b;
  const [small, large] = a.size < b.size ? [a, b] : [b, a];
  for (const value of small) large.add(value);
  return large;
}

function checkedPair(faces: number, pair: readonly number[], subject: string): [number, number] {
  if (pair.length !== 2)
    throw new FaceNetError('input', `${subject}: must be a pair of faces, got ${pair.length} numbers. Give [a, b].`);
  for (const face of pair) checkFace(faces, face, subject);
  return [pair[0]!, pair[1]!];
}

function checkFace(faces: number, face: number, subject: string, index?: number): void {
  if (!Number.isInteger(face) || face < 0 || face >= faces) {
    throw new FaceNetError(
      'input',
      `${subject}: faces must be numbers from 0 to ${faces - 1}, got ${face}. Count faces from 0 in the order given.`,
      index === undefined ? {} : { index },
    );
  }
}
