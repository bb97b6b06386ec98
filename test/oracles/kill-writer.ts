/**
 * The child of the kill test: replaces one file for ever, each time with a higher number, a checksum and a random length, and prints the number once the
 * write is acknowledged. Arguments: file, number to start after.
 */
import { createHash, randomBytes } from 'node:crypto';
import { writeSync } from 'node:fs';
import { replaceFile } from '../../src/io/node/atomic-file.ts';

const [path = '', start = '0'] = process.argv.slice(2);
for (let number = Number(start) + 1; ; number++) {
  const content = randomBytes(1 + Math.floor(Math.random() * 300_000));
  const bytes = Buffer.concat([Buffer.alloc(32), content]);
  createHash('sha256').update(content).digest().copy(bytes);
  bytes.writeUInt32LE(number, 0);
  await replaceFile(path, bytes);
  writeSync(1, `${number}\n`);
}
