// What a page decodes JPEG and PNG to: byte for byte what the decoder 'exact' gives in Node. A page has no other decoder for them.
// area: browser
import { BrowserHost } from '../src/io/browser-host.ts';
import type { ExpectedPixels } from './decoders.node.ts';
import { Checks, type PageReport } from './page-report.ts';

/** Runs in the page; see test/browser.mjs. */
export async function run(): Promise<PageReport> {
  const checks = new Checks();
  const pictures = (await (await fetch('/expected.json')).json()) as ExpectedPixels[];
  // This bundle lies beside nothing; the package's files are in dist/.
  const { fetch: original } = globalThis;
  globalThis.fetch = (input, options) =>
    original(String(input).replace(/\/src\/io\/(jpeg-turbo\.wasm)$/, '/dist/$1'), options);
  const host = new BrowserHost();
  await checks.check(
    'six photos, two PNGs and sixteen turned pictures',
    () => pictures.length === 24 || pictures.length,
  );
  for (const { name, address, base64, ...expected } of pictures) {
    const bytes = base64 ? Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)) : undefined;
    await checks.check(`${name}: the bytes of Node`, async () => {
      const { data, width, height } = await host.readImage(bytes ? new Blob([bytes]) : (address as string));
      const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', Uint8Array.from(data)));
      const found = {
        width,
        height,
        channels: data.length / (width * height),
        sha256: [...hash].map((byte) => byte.toString(16).padStart(2, '0')).join(''),
      };
      return JSON.stringify(found) === JSON.stringify(expected) || JSON.stringify(found);
    });
  }
  globalThis.fetch = original;
  return checks.report;
}
