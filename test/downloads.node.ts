// The server of test/downloads.browser.ts: a model file in every condition it can arrive in.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Where the server is, and what the whole file's SHA-256 is. */
export interface DownloadServer {
  readonly origin: string;
  readonly sha256: string;
}

export async function expected(): Promise<DownloadServer> {
  const model = readFileSync(new URL('../dist/models/dlib-resnet.safetensors', import.meta.url));
  const asked = new Map<string, number>();
  let gone = false;
  const server = createServer((request, response) => {
    const path = new URL(request.url as string, 'http://x').pathname;
    const times = (asked.get(path) ?? 0) + 1;
    asked.set(path, times);
    response.setHeader('Access-Control-Allow-Origin', '*');
    response.setHeader('Cache-Control', 'no-store');
    if (path === '/gone') gone = true;
    else if (gone) return void request.destroy();
    if (path === '/asked') return void response.end(JSON.stringify(Object.fromEntries(asked)));
    response.setHeader('Content-Type', 'application/octet-stream');
    if (path === '/page') {
      response.setHeader('Content-Type', 'text/html');
      return void response.end('<!doctype html><title>Log in</title><p>Please log in.');
    }
    if (path === '/missing') {
      response.statusCode = 404;
      return void response.end(model);
    }
    if (path === '/zeros') return void response.end(Buffer.alloc(model.length));
    if (path === '/gzip') {
      response.setHeader('Content-Encoding', 'gzip');
      return void response.end(model.subarray(0, 1000));
    }
    const part = { '/nothing': 0, '/half': 0.5, '/almost': 0.999, '/flaky': times === 1 ? 0.5 : 1 }[path] ?? 1;
    response.setHeader('Content-Length', model.length);
    if (part === 1) return void response.end(model);
    response.write(model.subarray(0, Math.max(1, Math.floor(part * model.length))), () => response.destroy());
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  server.unref();
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sha256: createHash('sha256').update(model).digest('hex'),
  };
}
