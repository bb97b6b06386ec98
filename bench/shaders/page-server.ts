// The page of the shader benchmark, for the browser of whoever opens it: bundled and served as the conformance page is.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = new URL('../../', import.meta.url);

/** Bundles and serves it on this machine. `commit` is shown in reports. */
export async function servePage(commit: string): Promise<{ readonly origin: string; close(): Promise<void> }> {
  const load = (file: string) => import(new URL(file, root).href);
  const [{ bundleSource }, { serve }] = await Promise.all([load('test/bundle.mjs'), load('test/browser.mjs')]);
  const output = fileURLToPath(new URL('.cache/programs/bench-shaders-page.js', root));
  await bundleSource({ entry: fileURLToPath(new URL('bench/shaders/page.ts', root)), output, platform: 'browser' });
  const body = `<!doctype html><html lang="en"><meta charset="utf-8"><title>FaceNetGPU shaders</title>
<script type="module">import { show } from '/entry.js'; show(document.body, { commit: ${JSON.stringify(commit)} });</script></html>`;
  return serve({
    '/': { type: 'text/html', body },
    '/favicon.ico': { type: 'image/png', body: '' },
    '/entry.js': { type: 'text/javascript', body: readFileSync(output) },
  });
}
