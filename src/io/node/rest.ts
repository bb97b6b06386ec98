// Dawn's bindings look for finished work in every turn of the event loop, so that a program which waits for it keeps one processor busy. An
// adapter in software computes on that processor: on two of them a network took nearly twice the time (docs/performance.md).

/** Longest sleep of a turn, in milliseconds: what others on the event loop may be late by. */
const LONGEST = 1;
/** Part of the time waited so far that a turn may sleep: results come that much late at most. */
const SHARE = 1 / 16;

/**
 * Makes the function that is called before a wait: from then until what it returns is called, turns of the event loop sleep a little, shorter ones
 * at first. A turn in which others (another of these among them) had more to do than the sleep is long does not sleep.
 */
export function resting(): () => () => void {
  const word = new Int32Array(new SharedArrayBuffer(4));
  let waiting = 0;
  let since = 0;
  let turning = false;
  const turn = (before: number): void => {
    if (waiting === 0) {
      turning = false;
      return;
    }
    const now = performance.now();
    const rest = Math.min(LONGEST, (now - since) * SHARE);
    if (now - before < rest) Atomics.wait(word, 0, 0, rest);
    setImmediate(turn, performance.now());
  };
  return () => {
    waiting++;
    since = performance.now();
    if (!turning) {
      turning = true;
      setImmediate(turn, since);
    }
    let over = false;
    return () => {
      if (!over) waiting--;
      over = true;
    };
  };
}
