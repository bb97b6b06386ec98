/**
 * What an object that is no longer used leaves for the next one: only as long as the garbage collector lets it, so that nothing is kept
 * which memory is needed for.
 */
export class Spares {
  readonly #left: WeakRef<object>[] = [];

  leave(spare: object): void {
    this.#left.push(new WeakRef(spare));
  }

  /** The last one left that is still there; it belongs to the caller. */
  take(): object | undefined {
    let spare: object | undefined;
    while (!spare && this.#left.length > 0) spare = this.#left.pop()?.deref();
    return spare;
  }
}
