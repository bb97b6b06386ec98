import { type IdentifiedPairs, identifiedPairs } from './bootstrap.ts';
import { bins } from './distance-bins.ts';
import { countBelow } from './rates.ts';

/** The most impostor pairs that are kept for intervals: 64 MiB. */
const largestTail = 4 * 2 ** 20;

/** All bins below this one are kept whole for the bootstrap: twice the pairs of the largest FAR, as far as memory allows. */
export function tailBin(upTo: Float64Array, fars: readonly number[], different: number): number {
  const wanted = Math.min(different, 2 * Math.max(0, ...fars) * different + 1000);
  let bin = countBelow(upTo, wanted);
  while (bin > 0 && upTo[Math.min(bin, bins)]! > largestTail) bin--;
  return Math.min(bin, bins);
}

/** The nearest impostor pairs with the people in them, put into their bins as they come. */
export class ImpostorTail {
  readonly limit: number;
  readonly #distance: Float64Array;
  readonly #a: Uint32Array;
  readonly #b: Uint32Array;
  readonly #upTo: Float64Array;
  readonly #next: Float64Array;

  constructor(limit: number, upTo: Float64Array) {
    this.limit = limit;
    this.#upTo = upTo;
    this.#next = upTo.slice(0, limit);
    const size = upTo[limit]!;
    this.#distance = new Float64Array(size);
    this.#a = new Uint32Array(size);
    this.#b = new Uint32Array(size);
  }

  add(bin: number, distance: number, a: number, b: number): void {
    if (bin >= this.limit) return;
    const at = this.#next[bin]!++;
    this.#distance[at] = distance;
    this.#a[at] = a;
    this.#b[at] = b;
  }

  sorted(): IdentifiedPairs {
    for (let bin = 0; bin < this.limit; bin++) {
      const [from, to] = [this.#upTo[bin]!, this.#upTo[bin + 1]!];
      if (to - from < 2) continue;
      const part = identifiedPairs(
        this.#distance.subarray(from, to),
        this.#a.subarray(from, to),
        this.#b.subarray(from, to),
      );
      this.#distance.set(part.distance, from);
      this.#a.set(part.a, from);
      this.#b.set(part.b, from);
    }
    return { distance: this.#distance, a: this.#a, b: this.#b };
  }
}
