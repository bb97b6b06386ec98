// The page of mining.ts --chromium.
import { openBackend } from '../src/backends/open.ts';
import { BrowserHost } from '../src/io/browser-host.ts';
import type { SelectionRule } from '../src/ops/tripletSelection.ts';
import { miningTimes } from './mining-times.ts';

/** As the command's options; lines for people. */
export async function run(rule: SelectionRule, runs: number): Promise<string[]> {
  const opened = await openBackend(new BrowserHost(), { backend: 'webgpu' });
  try {
    return await miningTimes(opened, rule, runs);
  } finally {
    await opened.backend.dispose();
  }
}
