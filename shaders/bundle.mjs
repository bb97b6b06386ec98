// The modules 'facenet-gpu:shaders' and 'facenet-gpu:late-shaders': the text of every WGSL file of this folder by stem, for esbuild
// and for vitest. A new file is in the first because it lies here; the second holds what a page that only embeds, on a GPU, never runs:
// training, and kernels for adapters in software.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));
const NAME = 'facenet-gpu:shaders';
const LATE_NAME = 'facenet-gpu:late-shaders';
const LATE = new Set(
  (
    'adagradUpdate adamUpdate augment batchNorm conv2d.subgroups conv2d.uniform conv2d.winograd cosineMargin distillation emaUpdate ' +
    'pairwiseDistance.subgroups sgdUpdate softmaxCrossEntropy sumOfSquares tripletLoss tripletSelection tripletSelection.subgroups'
  ).split(' '),
);

/** `release` drops comments and indentation but keeps lines, so that compiler messages stay true. */
function contents(release, late) {
  const entries = readdirSync(folder)
    .filter((name) => name.endsWith('.wgsl') && LATE.has(name.replace(/\.wgsl$/, '')) === late)
    .sort()
    .map((name) => {
      const text = readFileSync(join(folder, name), 'utf8');
      // The marks of loops to unroll are comments that the expander reads.
      const short = text.replace(/\/\/(?! unroll\s*$)[^\n]*/gm, '').replace(/^[ \t]+|[ \t]+$/gm, '');
      return [name.replace(/\.wgsl$/, ''), release ? short : text];
    });
  return `export const shaders = ${JSON.stringify(Object.fromEntries(entries))};`;
}

export function esbuildShaders({ release = false } = {}) {
  return {
    name: 'facenet-gpu-shaders',
    setup(build) {
      build.onResolve({ filter: /^facenet-gpu:(late-)?shaders$/ }, ({ path }) => ({ path, namespace: 'shaders' }));
      build.onLoad({ filter: /.*/, namespace: 'shaders' }, ({ path }) => ({
        contents: contents(release, path === LATE_NAME),
        loader: 'js',
        watchDirs: [folder],
      }));
    },
  };
}

export function viteShaders() {
  return {
    name: 'facenet-gpu-shaders',
    resolveId: (id) => (id === NAME || id === LATE_NAME ? `\0${id}` : null),
    load: (id) => (id === `\0${NAME}` || id === `\0${LATE_NAME}` ? contents(false, id === `\0${LATE_NAME}`) : null),
  };
}
