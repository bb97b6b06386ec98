import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { FaceNetError } from '../../errors.ts';
import { replaceFile } from '../../io/node/atomic-file.ts';
import { withData } from './html.ts';

/** @throws 'input' for a report that could not be written, before hours are spent on it. */
export async function checkReport(path: string): Promise<void> {
  const folder = await stat(dirname(path)).catch(() => undefined);
  const there = await stat(path).catch(() => undefined);
  if (!/\.html?$/i.test(path) || !folder?.isDirectory() || there?.isDirectory())
    throw new FaceNetError('input', `--report: a file ending in .html in a folder that exists, got ${path}.`);
}

/** Writes the page with its data inside, and the data beside it as .json. Each file is the old or the new one, whole. */
export async function writeReport(path: string, html: string, data: object): Promise<void> {
  const json = JSON.stringify(data);
  const encoder = new TextEncoder();
  await replaceFile(path, encoder.encode(withData(html, json)));
  await replaceFile(path.replace(/\.html?$/i, '.json'), encoder.encode(`${json}\n`));
}
