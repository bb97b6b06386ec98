import { spawn } from 'node:child_process';

/**
 * Runs a program that prints a number once each of its writes is finished, kills it `delay` milliseconds after the first, and returns the
 * numbers: writes that were acknowledged. Only a whole line is an acknowledgement.
 */
export async function killedWriter(program: string, args: readonly string[], delay: number): Promise<number[]> {
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const begun = new Promise<void>((resolve) => {
    child.stdout.on('data', (data: Buffer) => {
      text += data.toString('latin1');
      resolve();
    });
  });
  await Promise.race([begun, ended]);
  await new Promise((resolve) => setTimeout(resolve, delay));
  child.kill('SIGKILL');
  await ended;
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .trim()
    .split('\n')
    .filter(Boolean)
    .map(Number);
}
