// bench/peer-network.ts in a page; bench/peer-contestants.ts bundles it beside the files that it loads.
import { BrowserHost } from '../src/io/browser-host.ts';
import { contestant, type PeerOptions } from './peer-network.ts';

export default (opts?: PeerOptions) => contestant(new BrowserHost(), bytesAt, opts);

async function bytesAt(address: string): Promise<Uint8Array> {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status}.`);
  return new Uint8Array(await answer.arrayBuffer());
}
