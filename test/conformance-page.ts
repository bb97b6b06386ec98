// test/conformance-report.ts in a page: what test/conformance.mjs runs in Chromium, and what its --serve shows to anybody.
import type { FaceNetGPU as Class } from '../src/index.ts';
import { type RuntimeReport, report } from './conformance-report.ts';

/** Runs every backend that this browser has. */
export async function run(backends?: readonly string[], tell = console.log): Promise<RuntimeReport> {
  const library = '/dist/facenet-gpu.js';
  const { FaceNetGPU } = (await import(/* @vite-ignore */ library)) as { FaceNetGPU: typeof Class };
  const threads = globalThis.crossOriginIsolated ? ['plain x2', 'relaxed x2'] : [];
  const gpu = (await navigator.gpu?.requestAdapter().catch(() => null)) ? ['webgpu'] : [];
  return report({
    runtime: navigator.userAgent,
    backends: backends ?? ['plain', 'relaxed', ...threads, ...gpu],
    create: (options) => FaceNetGPU.create(options),
    photos: '/node_modules/@vladmandic/face-api/demo/',
    tell,
    // Set by test/conformance.mjs.
    keep: (found) => (globalThis as { keepReport?: (text: string) => void }).keepReport?.(JSON.stringify(found)),
  });
}
