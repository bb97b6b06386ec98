// Bundles one program of the repository (a test page, a check, a bench) from its TypeScript source.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, posix, relative, resolve, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { esbuildShaders } from '../shaders/bundle.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * Makes `import.meta.glob(pattern, { eager: true })` work in esbuild as it does in vitest, with the same keys, for
 * patterns with `*` in the file name only. For programs of the repository `import.meta.url` becomes the address of the
 * source file, as in vitest, instead of the bundle's: in Node a file URL, in a page (`addresses: 'browser'`) its path
 * under the test server. Without `addresses` it stays, as the package needs it.
 */
export function sourcePlugin(addresses) {
  return {
    name: 'sources',
    setup(build) {
      build.onLoad({ filter: /\.ts$/ }, ({ path }) => {
        if (path.includes(`${sep}node_modules${sep}`)) return undefined;
        const imports = [];
        let code = readFileSync(path, 'utf8').replaceAll(
          /import\.meta\.glob(?:<[^()]*>)?\(\s*(['"])([^'"]+)\1\s*(?:,\s*(\{[^}]*\})\s*)?,?\s*\)/g,
          (_, _quote, pattern, options = '') => {
            const eager = /eager:\s*true/.test(options);
            const wanted = /import:\s*['"](\w+)['"]/.exec(options)?.[1];
            const rows = glob(pattern, path).map((file) => {
              const key = JSON.stringify(file);
              if (!eager) return `${key}: () => import(${key})${wanted ? `.then((m) => m.${wanted})` : ''}`;
              const id = `$glob${imports.length}`;
              imports.push(`import * as ${id} from ${key};`);
              return `${key}: ${id}${wanted ? `.${wanted}` : ''}`;
            });
            return `({ ${rows.join(', ')} })`;
          },
        );
        if (addresses !== undefined) {
          const page = JSON.stringify(`/${relative(root, path).split(sep).join('/')}`);
          const address =
            addresses === 'node'
              ? JSON.stringify(pathToFileURL(path).href)
              : `new URL(${page}, globalThis.location.origin).href`;
          code = code.replaceAll(/\bimport\.meta\.url\b/g, address);
        }
        return { contents: imports.join(' ') + code, loader: 'ts', resolveDir: dirname(path) };
      });
    },
  };
}

/** Paths that a pattern such as '../src/ops/*.ts' matches, sorted, relative to the folder of `from`. */
function glob(pattern, from) {
  const dir = posix.dirname(pattern);
  if (dir.includes('*')) throw new Error(`import.meta.glob: * must be in the file name only, got ${pattern}`);
  const name = posix
    .basename(pattern)
    .replaceAll(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '[^/]*');
  const expression = new RegExp(`^${name}$`);
  return readdirSync(resolve(dirname(from), dir))
    .filter((file) => expression.test(file))
    .sort()
    .map((file) => posix.join(dir, file).replace(/^(?!\.)/, './'));
}

/** Writes `output`, one ES module; packages stay imports in Node and are bundled for a page. Throws on any error or warning. */
export async function bundleSource({ entry, output, platform }) {
  const { build } = await import('esbuild');
  const result = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile: output,
    bundle: true,
    format: 'esm',
    platform,
    target: platform === 'node' ? 'node20' : 'es2022',
    packages: platform === 'node' ? 'external' : 'bundle',
    external: platform === 'node' ? [] : ['webgpu', 'sharp', 'node:*'],
    loader: { '.wgsl': 'text' },
    sourcemap: 'inline',
    plugins: [esbuildShaders(), sourcePlugin(platform)],
    logLevel: 'warning',
  });
  if (result.warnings.length > 0) throw new Error(`${relative(root, entry)}: esbuild warned; warnings are errors here`);
}
