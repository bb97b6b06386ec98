// The interpreter: runs the step records of a plan on every thread at once (SPMD), with a barrier after each step.
// JavaScript enters once a run, not once a step.
import { barrier, setThreads } from './barrier';
import { dispatch } from './dispatch.generated';

/** Bytes of one record: the kernel's number, then its arguments, four bytes each (asm/generate.mjs). */
const RECORD_BYTES: usize = 256;

// Control block, in shared memory; words that different threads write lie on lines of their own. The barrier's words start at 256.
const JOB: usize = 0; // number of the last job given; workers sleep on it
const RECORDS: usize = 64;
const COUNT: usize = 68;
const STOP: usize = 72;
const BARRIER: usize = 256;

/** Prepares this instance's barrier for `threads` threads; `spin` is the number of tries before a waiting thread sleeps. */
export function prepareThreads(control: usize, threads: u32, spin: u32): void {
  setThreads(control + BARRIER, threads, spin);
}

/** Runs `count` records as thread `thread` of `threads`. Every thread must be given the same records. */
export function runSteps(records: usize, count: u32, thread: u32, threads: u32): void {
  for (let i: u32 = 0; i < count; i++) {
    dispatch(records + <usize>i * RECORD_BYTES, thread, threads);
    if (threads > 1) barrier();
  }
}

/** Runs `count` records on all threads; called by thread 0. Returns when all have finished. */
export function runJob(control: usize, records: usize, count: u32, threads: u32): void {
  if (threads > 1) {
    store<u32>(control + RECORDS, <u32>records);
    store<u32>(control + COUNT, count);
    atomic.add<u32>(control + JOB, 1);
    atomic.notify(control + JOB, -1);
  }
  runSteps(records, count, 0, threads);
}

/** Makes every worker return from serve(). */
export function stopThreads(control: usize): void {
  atomic.store<u32>(control + STOP, 1);
  atomic.add<u32>(control + JOB, 1);
  atomic.notify(control + JOB, -1);
}

let served: u32 = 0;
let servedControl: usize = 0;
let servedThread: u32 = 0;
let servedThreads: u32 = 0;
let servedSpin: u32 = 0;

/** What threads 1 and up do for ever: wait for a job after `seen`, run it, wait again. Spins shortly, then sleeps. */
export function serve(control: usize, seen: u32, thread: u32, threads: u32, spin: u32): void {
  // Globals, since no local may have to survive wait32 (asm/barrier.ts).
  served = seen;
  servedControl = control;
  servedThread = thread;
  servedThreads = threads;
  servedSpin = spin;
  while (true) {
    let tries: u32 = 0;
    while (tries < servedSpin && atomic.load<u32>(servedControl + JOB) == served) tries++;
    while (atomic.load<u32>(servedControl + JOB) == served) atomic.wait<i32>(servedControl + JOB, <i32>served, -1);
    served++;
    if (atomic.load<u32>(servedControl + STOP)) return;
    runSteps(load<u32>(servedControl + RECORDS), load<u32>(servedControl + COUNT), servedThread, servedThreads);
  }
}
