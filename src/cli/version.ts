import { readFileSync } from 'node:fs';

/** The package's version: from its package.json, one folder above dist/ or two above src/cli/. */
export function packageVersion(): string {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as Record<
        string,
        string
      >;
      if (name === 'facenet-gpu' && version !== undefined) return version;
    } catch {
      // Not there; the other place is tried.
    }
  }
  return 'unknown';
}
