// Every network, from crops to embeddings, batch 1 and 8, on every backend of this machine: milliseconds and GFLOP/s (2 x multiply-adds / time,
// the least of some runs). With names only those. VK_ICD_FILENAMES chooses the adapter.
//
//   node build.mjs run bench/networks.ts [wasm-1|wasm-2|webgpu] [NETWORK ...]
//
// Peers: bench/peer.ts as a contestant of a harness that has NN2 and nn4.small2 for ONNX Runtime and TensorFlow.js; docs/networks.md has the figures.
import { surveyNetworks } from '../src/facenet-gpu/survey.ts';
import { createNodeHost } from '../src/io/node/host.ts';
import type { NetworkName } from '../src/networks/network.ts';

const BATCHES = [1, 8];
const kinds = { 'wasm-1': ['wasm', 1], 'wasm-2': ['wasm', 2], webgpu: ['webgpu', undefined] } as const;
const [first, ...rest] = process.argv.slice(2);
const chosen = first !== undefined && Object.hasOwn(kinds, first) ? (first as keyof typeof kinds) : undefined;
const only = (chosen ? rest : process.argv.slice(2)) as NetworkName[];
for (const kind of chosen ? [chosen] : (Object.keys(kinds) as (keyof typeof kinds)[])) {
  const [backend, threads] = kinds[kind];
  const { why } = await surveyNetworks(createNodeHost(), {
    backend,
    ...(threads !== undefined && { threads }),
    ...(only.length > 0 && { only }),
    batches: [],
    timed: BATCHES,
    onNetwork({ name, multiplyAdds, milliseconds = {}, trouble }) {
      const cells = BATCHES.flatMap((batch) => {
        const took = milliseconds[batch];
        if (took === undefined) return [`batch ${batch}: ${trouble ?? 'none'}`];
        return [
          `batch ${batch}: ${took.toFixed(1)} ms, ${((2 * multiplyAdds * batch) / took / 1e6).toFixed(1)} GFLOP/s`,
        ];
      });
      console.log(`${kind.padEnd(7)} ${name.padEnd(20)} ${cells.join('   ')}`);
    },
  });
  console.log(`${kind}: ${why}`);
}
