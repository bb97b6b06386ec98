// How things are timed beside each other: in rounds, since a machine is slower in some minutes than in others.

/** The middle one; of an even count the upper of two. `values` is not empty. */
export const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] as number;

/** What each program gave last, and its times in milliseconds. */
export interface Timed<T> {
  readonly times: readonly number[];
  readonly result: T;
}

/** Runs all programs once a round, every other round in the opposite order, after one round that warms up. */
export async function alternating<T>(
  programs: ReadonlyMap<string, () => Promise<T>>,
  rounds: number,
): Promise<ReadonlyMap<string, Timed<T>>> {
  const times = new Map<string, number[]>([...programs.keys()].map((name) => [name, []]));
  const results = new Map<string, T>();
  for (let round = -1; round < rounds; round++) {
    const order = [...programs];
    if (round % 2) order.reverse();
    for (const [name, run] of order) {
      const start = performance.now();
      results.set(name, await run());
      if (round >= 0) times.get(name)?.push(performance.now() - start);
    }
  }
  return new Map([...times].map(([name, list]) => [name, { times: list, result: results.get(name) as T }]));
}
