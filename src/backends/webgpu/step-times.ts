import type { StepTimes } from '../../plan/runner.ts';

// Values of GPUBufferUsage and GPUMapMode, which are no globals in Node.
const MAP_READ = 0x1;
const COPY_SRC = 0x4;
const COPY_DST = 0x8;
const QUERY_RESOLVE = 0x200;
const MAP_MODE_READ = 0x1;

/**
 * Milliseconds of each of `count` dispatches, one pass each: by timestamp queries where the device has them, else by the clock, one submit each.
 * @param record puts dispatch `index` into a pass
 * @param orLost waits for what the device does, but not beyond its loss
 */
export function timeDispatches(
  device: GPUDevice,
  count: number,
  record: (pass: GPUComputePassEncoder, index: number) => void,
  orLost: <T>(done: Promise<T>) => Promise<T>,
): Promise<StepTimes> {
  const time = device.features.has('timestamp-query') ? byTimestamps : byClock;
  return time(device, count, record, orLost);
}

async function byTimestamps(...[device, count, record, orLost]: Parameters<typeof timeDispatches>): Promise<StepTimes> {
  const querySet = device.createQuerySet({ type: 'timestamp', count: count * 2 });
  const resolved = device.createBuffer({ size: count * 16, usage: QUERY_RESOLVE | COPY_SRC });
  const staging = device.createBuffer({ size: count * 16, usage: MAP_READ | COPY_DST });
  try {
    const encoder = device.createCommandEncoder();
    for (let index = 0; index < count; index++) {
      const pass = encoder.beginComputePass({
        timestampWrites: { querySet, beginningOfPassWriteIndex: index * 2, endOfPassWriteIndex: index * 2 + 1 },
      });
      record(pass, index);
      pass.end();
    }
    encoder.resolveQuerySet(querySet, 0, count * 2, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, count * 16);
    device.queue.submit([encoder.finish()]);
    await orLost(staging.mapAsync(MAP_MODE_READ));
    const times = new BigUint64Array(staging.getMappedRange());
    const milliseconds = Array.from(
      { length: count },
      (_, i) => Number((times[2 * i + 1] as bigint) - (times[2 * i] as bigint)) / 1e6,
    );
    return { milliseconds, timing: 'timestamp' };
  } finally {
    querySet.destroy();
    resolved.destroy();
    staging.destroy();
  }
}

async function byClock(...[device, count, record, orLost]: Parameters<typeof timeDispatches>): Promise<StepTimes> {
  const milliseconds: number[] = [];
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    record(pass, index);
    pass.end();
    device.queue.submit([encoder.finish()]);
    await orLost(device.queue.onSubmittedWorkDone());
    milliseconds.push(performance.now() - start);
  }
  return { milliseconds, timing: 'wall' };
}
