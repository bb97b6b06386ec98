// The module 'facenet-gpu:shaders': the text of every WGSL file of this folder by stem, for esbuild and for vitest. A new file is
// in it because it lies here.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));
const NAME = 'facenet-gpu:shaders';

/** `release` drops comments and indentation but keeps lines, so that compiler messages stay true. */
function contents(release) {
  const entries = readdirSync(folder)
    .filter((name) => name.endsWith('.wgsl'))
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
      build.onResolve({ filter: /^facenet-gpu:shaders$/ }, () => ({ path: NAME, namespace: 'shaders' }));
      build.onLoad({ filter: /.*/, namespace: 'shaders' }, () => ({
        contents: contents(release),
        loader: 'js',
        watchDirs: [folder],
      }));
    },
  };
}

export function viteShaders() {
  return {
    name: 'facenet-gpu-shaders',
    resolveId: (id) => (id === NAME ? `\0${NAME}` : null),
    load: (id) => (id === `\0${NAME}` ? contents(false) : null),
  };
}
