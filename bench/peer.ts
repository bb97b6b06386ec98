// bench/peer-network.ts in Node.
//
//   node build.mjs run bench/peer.ts; node build.mjs run bench/peer-contestants.ts FOLDER     for the harness's option --add FOLDER/ours.json
import { readFile } from 'node:fs/promises';
import { createNodeHost } from '../src/io/node/host.ts';
import { contestant, type PeerOptions } from './peer-network.ts';

export default (opts?: PeerOptions) =>
  contestant(createNodeHost(), async (path) => new Uint8Array(await readFile(path)), opts);
