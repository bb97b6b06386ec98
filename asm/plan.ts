// The interpreter: runs the step records of a plan on every thread at once (SPMD), with a barrier after each step that what follows depends on.
// JavaScript enters once a run on each thread, not once a step.
import { barrier, setThreads } from './barrier';
import { dispatch } from './dispatch.generated';

/** Bytes of one record: the kernel's number, then its arguments, four bytes each (asm/generate.mjs). */
const RECORD_BYTES: usize = 256;
/** Word of a record that is 1 where what follows does not depend on the step (src/backends/wasm/kernels.ts). */
const GO_ON: usize = 252;

// Control block, written by the backend (src/backends/wasm/wasm-backend.ts). The job's number, on which idle threads sleep, has a cache
// line of its own; the barrier's words start at 256.
const JOB: usize = 0;
const RECORDS: usize = 64;
const COUNT: usize = 68;
const BARRIER: usize = 256;

// Globals, since no local may have to survive wait32 (asm/barrier.ts).
let control: usize = 0;
let self: u32 = 0;
let parties: u32 = 1;
let most: u32 = 0;
/** Number of the last job this thread has begun. */
let begun: u32 = 0;

/**
 * Makes this instance thread `thread` of `threads`. `spin` is the number of tries before a waiting thread sleeps. Called before the first
 * job, when the control block is zero.
 */
export function prepareThread(block: usize, thread: u32, threads: u32, spin: u32): void {
  control = block;
  self = thread;
  parties = threads;
  most = spin;
  begun = 0;
  setThreads(block + BARRIER, threads, spin);
}

/** Returns when there is a job that this thread has not begun. Spins shortly, then sleeps. */
export function awaitJob(): void {
  let tries: u32 = 0;
  while (tries < most && atomic.load<u32>(control + JOB) == begun) tries++;
  while (atomic.load<u32>(control + JOB) == begun) atomic.wait<i32>(control + JOB, <i32>begun, -1);
  begun++;
}

/** Runs this thread's share of the job in the control block. Returns when all threads have finished. */
export function runJob(): void {
  const records = load<u32>(control + RECORDS), count = load<u32>(control + COUNT);
  const thread = self, threads = parties;
  for (let i: u32 = 0; i < count; i++) {
    const record = <usize>records + <usize>i * RECORD_BYTES;
    dispatch(record, thread, threads);
    if (threads > 1 && (i + 1 == count || !load<u32>(record, GO_ON))) barrier();
  }
}
