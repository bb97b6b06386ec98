// The barrier between steps, and inside kernels with phases. Every instance (thread) has its own globals; the control words are shared.
//
// Control words, each on a cache line of its own: +0 arrived, +64 generation, +128 sleepers.
//
// Both counters only grow (modulo 2^32), and each thread counts the barriers it has entered by itself: barrier number e is over when
// the generation has reached e, and the thread whose arrival is number e * threads ends it. A thread that took the generation it
// meets at its entry for the one before it would leave early whenever that reading was one behind; counted by itself it cannot.
//
// Around wait32 the code reads `words` and `entered` anew and keeps nothing in locals: the baseline compiler of V8 11.3 (Node 20)
// spills the address for that call as eight bytes into a slot of four, so that the local beside it becomes 0. A thread that compares
// with 0 leaves at any wake-up: too early when the notify of the barrier before reaches it late.
//
// Why no wake-up is lost: all operations below are sequentially consistent. A waiter adds itself to `sleepers` BEFORE wait32 compares
// the generation; the last thread bumps the generation BEFORE it reads `sleepers`. If the last thread reads 0, the waiter's
// addition comes later in the total order, so its wait32 sees the new generation and returns at once. If it reads more, it notifies;
// wait32 compares and enqueues as one step, so the waiter either saw the new generation or is in the queue.
//
// Why the number of tries adapts: a waiter that spins on the core which the thread it waits for needs delays everybody by its whole
// spin; with more threads than cores that happens at each barrier. So a barrier that ended in sleep shortens the next spin by a
// sixteenth. But sleep breeds sleep: who was woken comes late, and the others then sleep over waiting for it. Therefore every 16th barrier spins as
// long as it may, and one success brings the full length back. With too many threads that costs a sixteenth of the longest spin a barrier.

const ARRIVED: usize = 0;
const GENERATION: usize = 64;
const SLEEPERS: usize = 128;

let words: usize = 0;
let parties: u32 = 1;
let most: u32 = 0;
let allowance: u32 = 0;
/** Of this many barriers one spins for the full length. */
const RETRY: u32 = 16;
/** Barriers this thread has entered. */
let entered: u32 = 0;

/**
 * Tells this instance's barrier where the shared control words are (192 bytes, zero at first), how many threads meet there, and how
 * many tries a waiting thread makes before it sleeps. Called by each thread before its first barrier. None of them may be a page's own
 * thread, where wait32 traps.
 */
export function setThreads(control: usize, threads: u32, spin: u32): void {
  words = control;
  parties = threads;
  most = spin;
  allowance = spin;
  entered = 0;
}

/** Returns when all threads have called it; what they wrote before is then visible to all. With one thread it returns at once. */
export function barrier(): void {
  if (parties <= 1) return;
  const control = words;
  const epoch = entered + 1;
  entered = epoch;
  if (atomic.add<u32>(control + ARRIVED, 1) + 1 == epoch * parties) {
    atomic.store<u32>(control + GENERATION, epoch);
    if (atomic.load<u32>(control + SLEEPERS)) atomic.notify(control + GENERATION, -1);
    return;
  }
  // The generation cannot be past `epoch`: that would need this thread.
  const tries = epoch % RETRY ? allowance : most;
  for (let i: u32 = 0; i <= tries; i++) {
    if (atomic.load<u32>(control + GENERATION) == epoch) {
      if (i > allowance) allowance = most;
      return;
    }
  }
  allowance -= (allowance + 15) >> 4;
  atomic.add<u32>(control + SLEEPERS, 1);
  while (atomic.load<u32>(words + GENERATION) != entered) atomic.wait<i32>(words + GENERATION, <i32>(entered - 1), -1);
  atomic.sub<u32>(words + SLEEPERS, 1);
}
