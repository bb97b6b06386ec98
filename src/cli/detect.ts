import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FaceNetError } from '../errors.ts';
import { type FaceQuality, faceQuality } from '../faces/quality.ts';
import { replaceFile } from '../io/node/atomic-file.ts';
import { ImageReader } from '../io/node/image-files.ts';
import type { DetectedFace, FaceNetGPU, Pixels } from '../node.ts';
import { fileName, png } from './align.ts';
import type { Context, PhotoOptions } from './context.ts';
import { canAlign } from './detection.ts';
import { exitCodes } from './exit-code.ts';
import { named } from './face-reader.ts';
import { findPhotos, type Photo } from './photos.ts';
import { withFaces } from './report/drawing.ts';
import { visible, withErrorObject } from './terminal.ts';

export interface DetectOptions extends PhotoOptions {
  /** Folder for the faces as the model sees them. */
  readonly crops?: string;
  /** Folder for the photos with boxes and points. */
  readonly draw?: string;
}

/** A face as it is printed: coordinates in hundredths of a pixel. */
interface PrintedFace {
  readonly box: DetectedFace['box'];
  readonly score: number;
  readonly landmarks: DetectedFace['landmarks'];
  /** Missing where the points are no upright face's. */
  readonly quality?: FaceQuality;
  /** Missing where the face lies outside the photo. */
  readonly crop?: string;
}

interface PrintedPhoto {
  readonly index: number;
  readonly image: string;
  readonly width: number;
  readonly height: number;
  readonly faces: readonly PrintedFace[];
  readonly drawn?: string;
}

/** `facenet detect`: boxes and five points of the faces in photos. What it prints as JSON is a list for --landmarks. A photo without faces is an answer. */
export async function detect(context: Context, names: readonly string[], options: DetectOptions): Promise<number> {
  const { terminal, signal, stdin } = context;
  const { crops, draw, skipBad = false, decoder } = options;
  const photos = await findPhotos(names, stdin, signal);
  for (const folder of [crops, draw]) if (folder !== undefined) await mkdir(folder, { recursive: true });
  const detection = context.detection(options);
  const done: PrintedPhoto[] = [];
  const skipped: { index: number; image: string; error: FaceNetError }[] = [];
  const used = { crops: new Set<string>(), draw: new Set<string>() };
  const reader = new ImageReader();
  let faces = 0;
  const work = async (net: FaceNetGPU | undefined): Promise<void> => {
    const { network } = await detection.detector(net);
    const counter = terminal.counter('photos', photos.length);
    const start = performance.now();
    try {
      for (const [index, photo] of photos.entries()) {
        try {
          const pixels = await reader.read(photo.bytes ?? photo.name, {
            source: photo.name,
            ...(decoder && { decoder }),
          });
          const found = await detection.facesOf(photo.name, pixels, net);
          const printed: PrintedFace[] = [];
          for (const [face, one] of found.entries())
            printed.push(await printedFace(one, { photo, pixels, face, net, folder: crops, used: used.crops }));
          const answer: PrintedPhoto = {
            index,
            image: photo.name,
            width: pixels.width,
            height: pixels.height,
            faces: printed,
            ...(draw !== undefined && { drawn: await drawn(photo, pixels, found, draw, used.draw) }),
          };
          faces += printed.length;
          if (terminal.format === 'jsonl') terminal.line(answer);
          else if (terminal.format === 'text') terminal.text(textOf(answer));
          else done.push(answer);
        } catch (error) {
          if (!(error instanceof FaceNetError && (error.code === 'image' || error.code === 'input'))) throw error;
          const failure = { index, image: photo.name, error: named(error, { index, image: photo.name }) };
          if (!skipBad) throw failure.error;
          skipped.push(failure);
          if (terminal.format === 'jsonl') terminal.line(withErrorObject(failure));
          else terminal.warn(`left out: ${failure.error.message}`);
        }
        counter.update(index + 1);
      }
    } finally {
      counter.stop();
    }
    if (terminal.format === 'json')
      terminal.document({
        schema: 'facenet/detect@1',
        detector: network,
        photos: done,
        skipped: skipped.map(withErrorObject),
      });
    const milliseconds = performance.now() - start;
    const { why } = await detection.detector(net);
    const read = photos.length - skipped.length;
    terminal.note(
      `${faces} ${faces === 1 ? 'face' : 'faces'} in ${read} ${read === 1 ? 'photo' : 'photos'}, ${(milliseconds / photos.length).toFixed(0)} ms each, by ${network} on ${why}`,
    );
  };
  try {
    // Crops are cut to the template of the model that would embed them.
    if (crops === undefined) await work(undefined);
    else await context.withModel(work);
  } finally {
    await detection.close();
  }
  return skipped.length > 0 ? exitCodes.skipped : exitCodes.done;
}

const hundredths = (value: number): number => Math.round(value * 100) / 100;

async function printedFace(
  { box, score, landmarks }: DetectedFace,
  about: {
    readonly photo: Photo;
    readonly pixels: Pixels;
    readonly face: number;
    readonly net: FaceNetGPU | undefined;
    readonly folder: string | undefined;
    readonly used: Set<string>;
  },
): Promise<PrintedFace> {
  const { photo, pixels, face, net, folder, used } = about;
  let crop: string | undefined;
  if (net && folder !== undefined && canAlign({ landmarks }, pixels, net.model.input.template)) {
    crop = join(folder, fileName({ image: photo.name, face }, used));
    await replaceFile(crop, png(await net.align({ image: pixels, landmarks, box })));
  }
  const quality = qualityOf(pixels, landmarks);
  const { x, y, width, height } = box;
  return {
    box: { x: hundredths(x), y: hundredths(y), width: hundredths(width), height: hundredths(height) },
    score: Number(score.toFixed(4)),
    landmarks: landmarks.map(([left, top]) => [hundredths(left), hundredths(top)] as const),
    ...(quality && { quality }),
    ...(crop !== undefined && { crop }),
  };
}

function qualityOf(pixels: Pixels, landmarks: DetectedFace['landmarks']): FaceQuality | undefined {
  try {
    return faceQuality(pixels, landmarks);
  } catch (error) {
    if (error instanceof FaceNetError && error.code === 'input') return undefined;
    throw error;
  }
}

async function drawn(
  photo: Photo,
  pixels: Pixels,
  faces: readonly DetectedFace[],
  folder: string,
  used: Set<string>,
): Promise<string> {
  const file = join(folder, fileName({ image: photo.name }, used));
  await replaceFile(file, png(withFaces(pixels, faces)));
  return file;
}

/** A line a photo and a line a face: box, score, distance of the eyes. */
function textOf({ image, faces }: PrintedPhoto): string {
  const whole = (value: number) => String(Math.round(value)).padStart(5);
  return [
    `${visible(image)}: ${faces.length} ${faces.length === 1 ? 'face' : 'faces'}`,
    ...faces.map(
      ({ box, score, quality }, face) =>
        `  ${String(face).padStart(2)}  x ${whole(box.x)}  y ${whole(box.y)}  ${whole(box.width)} x ${whole(box.height)}  score ${score.toFixed(3)}  ${quality ? `eyes ${quality.eyeDistance.toFixed(0)} px apart` : 'points not upright'}`,
    ),
  ].join('\n');
}
