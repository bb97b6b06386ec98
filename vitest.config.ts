import { defineConfig } from 'vitest/config';
import { viteShaders } from './shaders/bundle.mjs';
import { adapterEnvironment, adapterPresent } from './test/adapters.mjs';

// `npx vitest run test/x.test.ts` sees lavapipe where it is installed; test/run.mjs sets FACENET_ADAPTER
// and runs a file once for each adapter it asks for. Set here, before the worker processes start.
const adapter = process.env.FACENET_ADAPTER ?? (adapterPresent('lavapipe') ? 'lavapipe' : 'none');
Object.assign(process.env, adapterEnvironment(adapter));

export default defineConfig({
  plugins: [
    viteShaders(),
    {
      name: 'wgsl-text',
      enforce: 'pre',
      transform(code, id) {
        if (!id.split('?')[0]?.endsWith('.wgsl')) return null;
        return { code: `export default ${JSON.stringify(code)};`, map: null };
      },
    },
  ],
  test: {
    include: ['test/**/*.test.ts'],
    environment: 'node',
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
    passWithNoTests: false,
  },
});
