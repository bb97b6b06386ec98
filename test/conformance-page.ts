// test/conformance-report.ts in a page: what test/conformance.mjs runs in Chromium, and what its --serve shows to anybody.
import type * as Library from '../src/index.ts';
import { type LfwSample, type Part, type RuntimeReport, report } from './conformance-report.ts';

/** Runs every backend that this browser has, or some, and all parts, or some: the others are as in `before`. */
export async function run(
  backends?: readonly string[],
  tell = console.log,
  { parts, before, operators }: { parts?: readonly Part[]; before?: RuntimeReport; operators?: readonly string[] } = {},
): Promise<RuntimeReport> {
  const library = '/dist/facenet-gpu.js';
  const { FaceNetGPU, FaceDetector } = (await import(/* @vite-ignore */ library)) as typeof Library;
  // Only where test/conformance.mjs found the images.
  const lfw = await fetch('/lfw.json');
  const threads = globalThis.crossOriginIsolated ? ['plain x2', 'relaxed x2'] : [];
  const gpu = (await navigator.gpu?.requestAdapter().catch(() => null)) ? ['webgpu'] : [];
  return report({
    runtime: navigator.userAgent,
    backends: backends ?? ['plain', 'relaxed', ...threads, ...gpu],
    create: (options) => FaceNetGPU.create(options),
    openDetector: (options) => FaceDetector.create(options),
    detector: '/dist/models/tiny-face.safetensors',
    ...(lfw.ok && { lfw: (await lfw.json()) as LfwSample }),
    ...(parts && { parts }),
    before,
    operators,
    photos: '/node_modules/@vladmandic/face-api/demo/',
    tell,
    // Set by test/conformance.mjs.
    keep: (found) => (globalThis as { keepReport?: (text: string) => void }).keepReport?.(JSON.stringify(found)),
  });
}
