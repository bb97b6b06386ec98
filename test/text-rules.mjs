// Rules on the text of the repository that no linter knows. Prints each breach as file:line and exits 1.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** { pattern, where (path), message }. A pattern holds no literal that would match this file itself. */
export const rules = [
  {
    pattern: /\b(?:TO[D]O|FIX[M]E|X[X]X|HA[C]K)\b/,
    where: /\.(ts|mjs|wgsl)$/,
    message: 'unfinished work belongs in an issue; in a test, missing coverage may be named with test.todo',
  },
  { pattern: /\bts-no[c]heck\b/, where: /^(src|test|bench|demo)\/.*\.ts$/, message: 'every file is type-checked' },
  {
    pattern: /\.(?:only)\(/,
    where: /^test\/.*\.ts$/,
    message: 'a focused test hides all others',
  },
  {
    pattern: /(?:^|[\s'"(])\/(?:work|root|home|tmp)\/\w/,
    where: /\.(ts|mjs|json|md|wgsl|yml)$/,
    message: 'no path of one machine; the temporary folder is os.tmpdir()',
  },
  {
    pattern: /\bresolved": "/,
    where: /^package-lock\.json$/,
    message: 'the lockfile names no registry (omit-lockfile-registry-resolved in .npmrc)',
  },
  { pattern: /\$\{|\{\{/, where: /^shaders\/.*\.wgsl$/, message: 'a shader is a complete file without placeholders' },
  {
    pattern: /[ \t]+$/,
    where: /\.(ts|mjs|wgsl)$/,
    message: 'no blanks at the end of a line',
  },
];

/** Breaches of the rules in one file, as text. */
export function breaches(path, text) {
  const found = [];
  const applicable = rules.filter(({ where }) => where.test(path));
  if (applicable.length === 0) return found;
  text.split('\n').forEach((line, index) => {
    for (const { pattern, message } of applicable) {
      if (pattern.test(line)) found.push(`${path}:${index + 1}: ${message}`);
    }
  });
  return found;
}

/** Paths of the repository's own text files, relative to its root. */
function ownFiles() {
  const skipped = new Set(['node_modules', 'dist', '.git', '.cache']);
  const walk = (folder) =>
    readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (skipped.has(entry.name)) return [];
      return entry.isDirectory() ? walk(path) : [path];
    });
  return walk('').sort();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const found = ownFiles().flatMap((path) =>
    rules.some(({ where }) => where.test(path)) ? breaches(path, readFileSync(join(root, path), 'utf8')) : [],
  );
  for (const line of found) console.error(line);
  process.exitCode = found.length > 0 ? 1 : 0;
}
