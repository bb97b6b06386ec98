/**
 * The child of the kill test of galleries: adds one template after another to a gallery file, as `facenet enroll` does, and prints how many
 * the file holds once the write is acknowledged. Arguments: file.
 */
import { writeSync } from 'node:fs';
import { openGallery, readGalleryPlace } from '../../src/cli/open-gallery.ts';
import { FaceGallery, type GalleryOptions } from '../../src/faces/gallery.ts';
import type { FaceNetGPU } from '../../src/node.ts';

const [path = ''] = process.argv.slice(2);
const model = { fingerprint: 'model/0', dimensions: 64 };
const net = {
  gallery: (options: Omit<GalleryOptions, 'fingerprint' | 'dimensions'>) => FaceGallery.open({ ...options, ...model }),
} as FaceNetGPU;

for (;;) {
  const { gallery, save } = await openGallery(net, await readGalleryPlace({ gallery: path }, false));
  const next = gallery.size;
  const data = new Float32Array(64);
  data[next % 64] = Math.fround(0.6);
  data[(next + 1 + Math.floor(next / 64)) % 64] = Math.fround(0.8);
  await gallery.enroll(`person ${next}`, { data, count: 1, ...model });
  await save();
  await gallery.close();
  writeSync(1, `${next + 1}\n`);
}
