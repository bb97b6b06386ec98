// area: browser
// The page of `npm run bench -- shaders --serve`: a tiny selection is measured on the browser's adapter, and report and JSON can be had.
import { show, workloadOf } from '../bench/shaders/page.ts';
import type { Kept } from '../bench/shaders/report.ts';
import { Checks, type PageReport } from './page-report.ts';

/** Runs in the page; see test/browser.mjs. */
export async function run(): Promise<PageReport> {
  const checks = new Checks();
  show(document.body, { query: '?nets=&operators=relu,linear&runs=2', commit: 'abc1234' });
  const status = document.querySelector('#status') as HTMLElement;
  const button = document.querySelector('button') as HTMLButtonElement;
  button.click();
  const end = performance.now() + 120_000;
  while (!/^(Done|It failed)/.test(status.textContent ?? '') && performance.now() < end)
    await new Promise((next) => setTimeout(next, 50));
  await checks.check('it ends well', () => status.textContent === 'Done.' || status.textContent);
  const text = async (name: string) =>
    (await fetch((document.querySelector(`a[download="${name}"]`) as HTMLAnchorElement).href)).text();
  let kept: Kept | undefined;
  await checks.check('the JSON names device, commit and ceilings', async () => {
    kept = JSON.parse(await text('shaders.json')) as Kept;
    const { ceilings, device, commit, kind } = kept;
    const whole = kind === 'shaders' && /swiftshader/i.test(device) && commit === 'abc1234';
    return (
      (whole && (ceilings?.gflops ?? 0) > 0 && (ceilings?.gigabytes ?? 0) > 0) || JSON.stringify({ ...kept, times: 0 })
    );
  });
  await checks.check('every kernel of the two operators, each with a time, and no other', () => {
    const kernels = [...new Set(kept?.times.map(({ kernel }) => kernel.split('.')[0]))].sort().join();
    const timed = kept?.times.every(({ milliseconds, bytes }) => milliseconds >= 0 && bytes > 0);
    return (kernels === 'linear,relu' && timed) || `${kernels}, ${timed}`;
  });
  await checks.check('the report shows the roofline, the tables and the same data', async () => {
    const html = await text('shaders.html');
    const page = new DOMParser().parseFromString(html, 'text/html');
    const cells = [...page.querySelectorAll('td')].map(({ textContent }) => textContent);
    const same = page.querySelector('#data')?.textContent === JSON.stringify(kept).replaceAll('<', '\\u003c');
    return (
      (page.querySelector('svg') && cells.some((cell) => cell?.startsWith('linear.')) && same) || html.slice(0, 500)
    );
  });
  await checks.check('a network that is none is refused in words', () => {
    try {
      workloadOf('?nets=nn9', () => {});
    } catch (error) {
      return /must be networks, got nn9/.test((error as Error).message);
    }
    return 'no error';
  });
  return checks.report;
}
