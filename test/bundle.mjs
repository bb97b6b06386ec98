// Bundles one program of the repository (a test page, a check, a bench) from its TypeScript source.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, posix, relative, resolve, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * Gives bundled sources what vitest gives them: `import.meta.url` is the address of the source file, not of the bundle
 * (in a page: its path under the test server), and `import.meta.glob(pattern, { eager: true })` works, with the same
 * keys, for patterns with `*` in the file name only.
 */
function sources(platform) {
  return {
    name: 'sources',
    setup(build) {
      build.onLoad({ filter: /\.ts$/ }, ({ path }) => {
        if (path.includes(`${sep}node_modules${sep}`)) return undefined;
        let code = readFileSync(path, 'utf8');
        const imports = [];
        code = code.replaceAll(
          /import\.meta\.glob(?:<[^()]*>)?\(\s*(['"])([^'"]+)\1\s*(?:,\s*(\{[^}]*\})\s*)?,?\s*\)/g,
          (_, _quote, pattern, options = '') => {
            const { dir, matches } = glob(pattern, path);
            const eager = /eager:\s*true/.test(options);
            const wanted = /import:\s*['"](\w+)['"]/.exec(options)?.[1];
            const rows = matches.map((name) => {
              const key = JSON.stringify(posix.join(dir, name).replace(/^(?!\.)/, './'));
              if (!eager) return `${key}: () => import(${key})${wanted ? `.then((m) => m.${wanted})` : ''}`;
              const id = `$glob${imports.length}`;
              imports.push(`import * as ${id} from ${key};`);
              return `${key}: ${id}${wanted ? `.${wanted}` : ''}`;
            });
            return `({ ${rows.join(', ')} })`;
          },
        );
        const address =
          platform === 'node'
            ? JSON.stringify(pathToFileURL(path).href)
            : `new URL(${JSON.stringify(`/${relative(root, path).split(sep).join('/')}`)}, globalThis.location.origin).href`;
        code = code.replaceAll(/\bimport\.meta\.url\b/g, address);
        return { contents: imports.join(' ') + code, loader: 'ts', resolveDir: dirname(path) };
      });
    },
  };
}

function glob(pattern, from) {
  const dir = posix.dirname(pattern);
  if (dir.includes('*')) throw new Error(`import.meta.glob: * must be in the file name only, got ${pattern}`);
  const name = posix
    .basename(pattern)
    .replaceAll(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '[^/]*');
  const expression = new RegExp(`^${name}$`);
  const matches = readdirSync(resolve(dirname(from), dir))
    .filter((file) => expression.test(file))
    .sort();
  return { dir, matches };
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
    plugins: [sources(platform)],
    logLevel: 'warning',
  });
  if (result.warnings.length > 0) throw new Error(`${relative(root, entry)}: esbuild warned; warnings are errors here`);
}
