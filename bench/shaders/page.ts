// The shader benchmark in a page (npm run bench -- shaders --serve): measures on the browser's adapter, shows the report that Node writes, and gives
// it and its JSON as files. What is measured may be named in the address: ?nets=nn4.small2&batch=1&runs=5&operators=relu,prelu&tune=1
import { openBackend } from '../../src/backends/open.ts';
import type { WebGpuBackend } from '../../src/backends/webgpu/webgpu-backend.ts';
import { withData } from '../../src/cli/report/html.ts';
import { BrowserHost } from '../../src/io/browser-host.ts';
import type { NetworkName } from '../../src/networks/network.ts';
import { networks } from '../../src/networks/networks.ts';
import { ceilingsOf } from '../ceilings/device.ts';
import { type Kept, reportOf } from './report.ts';
import { measure, type Workload } from './workload.ts';

/** The workload that an address asks for. @throws for a network that is none. */
export function workloadOf(query: string, tell: (line: string) => void): Workload {
  const asked = new URLSearchParams(query);
  const nets = (asked.get('nets') ?? 'nn4.small2').split(',').filter(Boolean) as NetworkName[];
  for (const name of nets) if (!Object.hasOwn(networks, name)) throw new Error(`nets: must be networks, got ${name}.`);
  const count = (name: string, usual: number) => Math.max(1, Number(asked.get(name) ?? usual) || usual);
  return {
    nets,
    batch: count('batch', 1),
    runs: count('runs', 5),
    forward: asked.has('forward'),
    operators: asked.get('operators')?.split(','),
    tune: asked.has('tune'),
    tell,
  };
}

/** What a run found, and the same as a page of its own. */
export async function measureShaders(work: Workload, commit: string): Promise<{ kept: Kept; html: string }> {
  const { backend, why } = await openBackend(new BrowserHost(), { backend: 'webgpu' });
  try {
    work.tell('ceilings');
    const ceilings = await ceilingsOf((backend as WebGpuBackend).device);
    const { times, plans } = await measure(backend, work, true);
    const kept = {
      kind: 'shaders',
      machine: `${navigator.hardwareConcurrency} threads`,
      device: `${why}, batch ${work.batch}`,
      commit,
      when: new Date().toISOString(),
      node: navigator.userAgent,
      ceilings,
      plans,
      times,
    };
    return { kept, html: withData(reportOf(kept), JSON.stringify(kept)) };
  } finally {
    await backend.dispose();
  }
}

/** Puts the button, the words and, in the end, the report into `into`. */
export function show(into: HTMLElement, { query = location.search, commit = 'unknown' } = {}): void {
  into.innerHTML = `<h1>How fast this browser's GPU computes faces</h1>
<p>Every shader over the layers of real networks, against ceilings measured here. Nothing leaves this page.</p>
<button id="run">Measure</button> <span id="files"></span><p role="status" id="status"></p><iframe id="report" title="Report" hidden style="width:100%;height:80vh;border:0"></iframe>`;
  const at = <E extends HTMLElement>(id: string) => into.querySelector(`#${id}`) as E;
  const tell = (line: string) => {
    at('status').textContent = line;
  };
  const link = (name: string, type: string, text: string) => {
    const anchor = Object.assign(document.createElement('a'), { download: name, textContent: name });
    anchor.href = URL.createObjectURL(new Blob([text], { type }));
    at('files').append(' ', anchor);
    return anchor.href;
  };
  const button = at<HTMLButtonElement>('run');
  button.onclick = async () => {
    button.disabled = true;
    try {
      const { kept, html } = await measureShaders(workloadOf(query, tell), commit);
      const frame = at<HTMLIFrameElement>('report');
      frame.src = link('shaders.html', 'text/html', html);
      frame.hidden = false;
      link('shaders.json', 'application/json', JSON.stringify(kept));
      tell('Done.');
    } catch (error) {
      tell(`It failed: ${(error as Error).message}`);
    } finally {
      button.disabled = false;
    }
  };
}
