// The command `facenet`. Until the program has ended by itself the exit code is 70, so that a crash never reads as 1, 'different'.
import { writeSync } from 'node:fs';

process.exitCode = 70;
process.on('uncaughtException', (error: unknown) => {
  try {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    writeSync(2, `facenet: internal error, please report it.\n${text}\n`);
  } finally {
    process.exit(70);
  }
});
// Not a static import: what fails while it loads is caught as well.
import('./program.ts').then(async ({ run }) => {
  process.exitCode = await run(process.argv.slice(2));
});
