import type { DetectedFace, Pixels } from '../../node.ts';

const BOX = [64, 224, 64] as const;
const POINT = [255, 64, 64] as const;

/** The photo as RGB with boxes and points drawn on it, their lines as thick as the photo is large. */
export function withFaces({ data, width, height }: Pixels, faces: readonly DetectedFace[]): Pixels {
  const channels = data.length / (width * height);
  const drawn = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++)
    for (let c = 0; c < 3; c++) drawn[3 * i + c] = data[i * channels + c] as number;
  const thick = Math.max(1, Math.round(Math.max(width, height) / 500));
  const fill = (left: number, top: number, right: number, bottom: number, colour: readonly number[]) => {
    for (let y = Math.max(0, Math.round(top)); y < Math.min(height, Math.round(bottom)); y++)
      for (let x = Math.max(0, Math.round(left)); x < Math.min(width, Math.round(right)); x++)
        drawn.set(colour, (y * width + x) * 3);
  };
  for (const { box, landmarks } of faces) {
    const [right, bottom] = [box.x + box.width, box.y + box.height];
    fill(box.x, box.y, right, box.y + thick, BOX);
    fill(box.x, bottom - thick, right, bottom, BOX);
    fill(box.x, box.y, box.x + thick, bottom, BOX);
    fill(right - thick, box.y, right, bottom, BOX);
    for (const [x, y] of landmarks) fill(x - thick, y - thick, x + thick + 1, y + thick + 1, POINT);
  }
  return { data: drawn, width, height };
}
