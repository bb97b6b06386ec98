// What the page of a browser test offers: the runtime that the other browser tests rely on.
// area: browser

/** Runs in the page; see test/browser.mjs. */
export async function run(): Promise<{ passed: number; failed: number; skipped: number; failures: string[] }> {
  const failures: string[] = [];
  let passed = 0;
  const check = (name: string, holds: boolean) => (holds ? passed++ : failures.push(name));

  check('the page is cross-origin isolated', crossOriginIsolated);
  check(
    'import.meta.url is the address of the source',
    new URL(import.meta.url).pathname === '/test/runtime.browser.ts',
  );

  const adapter = await navigator.gpu?.requestAdapter();
  check('WebGPU has an adapter', adapter !== null && adapter !== undefined);
  check('the adapter is SwiftShader', adapter?.info.architecture === 'swiftshader');

  for (const name of ['facenet.wasm', 'facenet.relaxed.wasm', 'facenet.single.wasm', 'facenet.single.relaxed.wasm']) {
    const memory = new WebAssembly.Memory({ initial: 16, maximum: 65536, shared: !name.includes('.single.') });
    const imports = { env: { memory, abort: () => {} } };
    try {
      await WebAssembly.instantiateStreaming(fetch(`/dist/${name}`), imports);
      check(name, true);
    } catch (error) {
      check(`${name}: ${error}`, false);
    }
  }
  return { passed, failed: failures.length, skipped: 0, failures };
}
