// What a browser test reports (test/browser.mjs): checks by name, counted.

export interface PageReport {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly failures: string[];
}

/** Collects checks; a check that throws is a failure with the error's text. */
export class Checks {
  #passed = 0;
  readonly #failures: string[] = [];

  /** `holds` gives true, or what was found instead. */
  async check(name: string, holds: () => unknown): Promise<void> {
    const start = performance.now();
    let found: unknown;
    try {
      found = await holds();
    } catch (error) {
      found = `${(error as Error).name} ${(error as { code?: string }).code ?? ''}: ${(error as Error).message}`;
    }
    if (found === true) this.#passed++;
    else this.#failures.push(`${name}: got ${String(found)}`);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(found === true ? `ok ${name}, ${seconds} s` : `FAILED ${name}, ${seconds} s: ${String(found)}`);
  }

  get report(): PageReport {
    return { passed: this.#passed, failed: this.#failures.length, skipped: 0, failures: this.#failures };
  }
}

/** L2 distance; NaN where lengths differ, which fails every comparison. */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.NaN;
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += ((a[i] as number) - (b[i] as number)) ** 2;
  return Math.sqrt(sum);
}

/** True, or how many values differ. */
export function sameBits(a: ArrayLike<number>, b: ArrayLike<number>): true | string {
  if (a.length !== b.length) return `${a.length} values, not ${b.length}`;
  let different = 0;
  for (let i = 0; i < a.length; i++) if (!Object.is(a[i], b[i])) different++;
  return different === 0 || `${different} of ${a.length} values different`;
}

/** True where `action` rejects with this code, else what happened. */
export async function rejectsWith(code: string, action: () => Promise<unknown>): Promise<true | string> {
  try {
    await action();
  } catch (error) {
    const found = error as { code?: string; name: string; message: string };
    return (found.name === 'FaceNetError' && found.code === code) || `${found.name} ${found.code}: ${found.message}`;
  }
  return 'no error';
}
