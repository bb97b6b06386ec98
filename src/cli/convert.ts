/**
 * `facenet convert IN OUT`: weights of others to one model file of ours. The formats are read by src/io; here their tensors are held against
 * the network's own list, and the card is completed by what the user knows and the file does not say.
 */
import { stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { FaceNetError } from '../errors.ts';
import { type AlignmentTemplateName, alignmentTemplate } from '../faces/alignment-templates.ts';
import { type ForeignWeights, openFaceName, readForeignWeights } from '../io/convert.ts';
import { DLIB_RESNET_SHA256 } from '../io/face-api.ts';
import {
  halfWeights,
  type ModelFile,
  type ModelMetadata,
  matchTensors,
  type PixelRule,
  requireFinite,
  writeModelFile,
} from '../io/model-file.ts';
import { convertMtcnn } from '../io/mtcnn.ts';
import { replaceFile } from '../io/node/atomic-file.ts';
import { readForeignFiles } from '../io/node/foreign-files.ts';
import { isNpy } from '../io/npy.ts';
import { isPyTorch, readPyTorch } from '../io/pytorch.ts';
import { quoteName, readSafetensors, type Tensor } from '../io/safetensors.ts';
import { sha256 } from '../io/sha256.ts';
import { initialise, type ParameterInfo, parametersOf } from '../networks/initialise.ts';
import { mtcnnParameters } from '../networks/mtcnn.ts';
import type { Network, NetworkName, Variant } from '../networks/network.ts';
import { networks } from '../networks/networks.ts';
import type { Context } from './context.ts';
import { dlibOperatingPoints } from './dlib-operating-points.ts';
import { exitCodes } from './exit-code.ts';
import { visible } from './terminal.ts';
import { packageVersion } from './version.ts';

/** What the user knows about the weights; all but the first two rows change the card. */
export interface ConvertCommandOptions {
  readonly network?: NetworkName | 'mtcnn';
  readonly allowMissing?: boolean;
  readonly seed: number;
  readonly half?: boolean;
  readonly force?: boolean;
  readonly perImage?: boolean;
  readonly mean?: readonly [number, number, number];
  readonly scale?: number;
  readonly colour?: 'rgb' | 'bgr';
  readonly size?: number;
  readonly template?: AlignmentTemplateName;
  readonly margin?: number;
  readonly pools?: 'definition' | 'unpadded' | 'released';
  readonly licence?: string;
  readonly trainedOn?: string;
}

/** Largest PyTorch file that is opened to see whether it is a detector's; MTCNN's have 2 MB. */
const DETECTOR_BYTES = 16 << 20;

/** Everything is checked before the first byte is written, and the file is written whole or not at all. */
export async function convert(
  context: Context,
  from: string,
  to: string,
  options: ConvertCommandOptions,
): Promise<number> {
  const { terminal } = context;
  const library = `facenet-gpu ${packageVersion()}`;
  await checkOutput(from, to, options.force ?? false);
  const weights = await readForeignFiles(from);
  const source = visible(from.replace(/[\\/]+$/, '').replace(/^.*[\\/]/, ''));
  if (options.network === 'mtcnn' || (options.network === undefined && isMtcnn(weights, source))) {
    const bytes = await convertMtcnn(weights instanceof Uint8Array ? weights : [...weights.values()], {
      shapes: mtcnnParameters(),
      source,
      library,
    });
    await replaceFile(to, bytes);
    const answer = { schema: 'facenet/convert@1', kind: 'detector', out: to, network: 'mtcnn', bytes: bytes.length };
    if (terminal.format === 'text') terminal.text(`${to}: the detector mtcnn, ${megabytes(bytes.length)}`);
    else terminal.line({ ...answer, sha256: await sha256(bytes) });
    return exitCodes.done;
  }
  const file = completed(
    await readForeignWeights(weights, readingOptions(weights, source, library, options)),
    source,
    options,
  );
  const bytes = writeModelFile(file);
  await replaceFile(to, bytes);
  const { metadata, tensors } = file;
  const { network, initialised } = metadata;
  if (terminal.format !== 'text') {
    terminal.line({
      schema: 'facenet/convert@1',
      kind: 'model',
      out: to,
      ...metadata,
      tensors: tensors.size,
      bytes: bytes.length,
      sha256: await sha256(bytes),
    });
    return exitCodes.done;
  }
  terminal.text(
    `${to}: ${network}, ${metadata.dimensions} numbers a face, ${tensors.size} tensors, ${megabytes(bytes.length)}`,
  );
  if (initialised) {
    const { tensors: names, seed } = initialised;
    terminal.warn(
      `${names.length} of ${tensors.size} tensors were missing and are random by seed ${seed}; train before use: ${names.join(', ')}`,
    );
  }
  if (metadata.operatingPoints.length === 0)
    terminal.note('facenet: no threshold yet: facenet calibrate fits one on your pairs (--write stores it)');
  return exitCodes.done;
}

async function checkOutput(from: string, to: string, force: boolean): Promise<void> {
  const folder = await stat(dirname(resolve(to))).catch(() => undefined);
  const there = await stat(to).catch(() => undefined);
  if (!to.endsWith('.safetensors') || !folder?.isDirectory() || there?.isDirectory())
    throw new FaceNetError(
      'input',
      `convert: OUT must be a file ending in .safetensors in a folder that exists, got ${to}.`,
    );
  if (there !== undefined && !force)
    throw new FaceNetError(
      'input',
      `convert: ${from} becomes a new file, got ${to}, which is there. Give --force to replace it.`,
    );
}

/** MTCNN in any of its forms: .npy (facenet), three .pt or .npy in a folder, or one file with facenet-pytorch's names. */
function isMtcnn(weights: ForeignWeights, source: string): boolean {
  if (!(weights instanceof Uint8Array)) return [...weights.keys()].every((name) => /\.(npy|pt|pth)$/i.test(name));
  if (isNpy(weights)) return true;
  if (weights[8] === 0x7b) return readSafetensors(weights, { source }).tensors.has('pnet.conv1.weight');
  // What is no PyTorch file, or a damaged one, is refused with its reason by the reading that follows.
  if (!isPyTorch(weights) || weights.length > DETECTOR_BYTES) return false;
  try {
    return readPyTorch(weights, source).has('pnet.conv1.weight');
  } catch {
    return false;
  }
}

function readingOptions(weights: ForeignWeights, source: string, library: string, options: ConvertCommandOptions) {
  const { network } = options;
  return {
    source,
    library,
    ...(network !== undefined && { network }),
    ...(!(weights instanceof Uint8Array) && { shapes: openFaceShapes([...weights.keys()]) }),
  };
}

/** Sizes of Keras-OpenFace's tensors in Torch's order, by file names without .csv: the files do not say them. */
function openFaceShapes(files: readonly string[]): Map<string, readonly number[]> {
  const ours = new Map(parametersOf(networks['nn4.small2']).map(({ name, shape }) => [name, shape]));
  const shapes = new Map<string, readonly number[]>();
  for (const file of files) {
    const name = file.replace(/\.csv$/, '');
    const shape = ours.get(openFaceName(name) ?? '');
    if (shape !== undefined) shapes.set(name, [...shape.slice(-2).reverse(), ...shape.slice(0, -2)]);
  }
  return shapes;
}

/**
 * The file with the user's words in its card, exactly the tensors of its network, and the missing ones filled in where that is allowed.
 * @throws FaceNetError 'model' listing every missing, surplus and misshapen tensor; 'input' for options that do not fit.
 */
function completed(file: ModelFile, source: string, options: ConvertCommandOptions): ModelFile {
  const name = options.network ?? file.metadata.network;
  if (!Object.hasOwn(networks, name) || name !== file.metadata.network) {
    throw new FaceNetError(
      'mismatch',
      `${source}: --network must be what the tensors are, ${file.metadata.network}, got ${name}. Leave it out.`,
    );
  }
  const network = networks[name as NetworkName];
  const metadata = cardOf(file.metadata, network, options);
  const { dimensions, variant, input } = metadata;
  const expected = parametersOf(network, { ...(variant as Variant), dimensions }, input);
  const missing = new Set(
    matchTensors(expected, file.tensors, {
      source,
      allowMissing: options.allowMissing ?? false,
      remedy: `Use the weights of ${network.name}; with --allow-missing what is missing becomes random, to be trained`,
    }),
  );
  requireWeights(expected, file, source);
  const random = initialise(
    expected.filter((parameter) => missing.has(parameter.name)),
    options.seed,
  );
  // In the network's order, whatever the source's was.
  const tensors = expected.map((parameter): [string, Tensor] => {
    const data = random.get(parameter.name);
    const tensor: Tensor = data
      ? { dtype: 'F32', shape: [...parameter.shape], data }
      : (file.tensors.get(parameter.name) as Tensor);
    return [parameter.name, checked(parameter, tensor, options.half ?? false)];
  });
  const initialised = missing.size > 0 ? { seed: options.seed, tensors: [...missing] } : file.metadata.initialised;
  return {
    metadata: { ...metadata, ...(initialised && { initialised }) },
    tensors: new Map(tensors),
    quantization: file.quantization,
  };
}

/** @throws FaceNetError 'model' listing every tensor of numbers that are no weights: labels, or bytes without scale and min. */
function requireWeights(
  expected: readonly ParameterInfo[],
  { tensors, quantization }: ModelFile,
  source: string,
): void {
  const others = expected.flatMap(({ name }) => {
    const dtype = tensors.get(name)?.dtype;
    const weights = dtype === undefined || dtype === 'F32' || dtype === 'F16' || quantization.has(name);
    return weights ? [] : [`${dtype} in ${quoteName(name)}`];
  });
  if (others.length > 0)
    throw new FaceNetError(
      'model',
      `${source}: weights are float32, float16 or float64, or bytes with scale and min, got ${others.join(', ')}. Save them as floats.`,
    );
}

function checked({ name }: ParameterInfo, tensor: Tensor, half: boolean): Tensor {
  if (tensor.dtype === 'F32') requireFinite(name, tensor.data);
  return half ? halfWeights(name, tensor) : tensor;
}

/** The card: what the file says, the network's own where it says nothing, and over both what the user says. */
function cardOf(found: ModelMetadata, network: Network, options: ConvertCommandOptions): ModelMetadata {
  const { size, template: named, margin, pools, licence, trainedOn, colour } = options;
  if (pools !== undefined && !/^nn[1-4]/.test(network.name))
    throw new FaceNetError(
      'input',
      `convert: --pools is for nn2 ... nn4 and OpenFace's networks, got ${network.name}.`,
    );
  const silent = found.template.name === 'none';
  const base: ModelMetadata = silent
    ? {
        ...found,
        dimensions: found.dimensions === 1 ? network.dimensions : found.dimensions,
        input: { ...network.input, colour: 'rgb' },
        pixels: pixelRule(network),
      }
    : found;
  const input = { ...base.input, ...(size !== undefined && { width: size, height: size }), ...(colour && { colour }) };
  const changed = [size, named, margin, pools, colour, options.perImage, options.mean, options.scale].some(
    (option) => option !== undefined,
  );
  return {
    ...base,
    input,
    pixels: pixelsOf(base.pixels, options),
    template: {
      ...(named || silent
        ? templateNamed(named ?? 'arcface', input.width)
        : {
            ...base.template,
            points: base.template.points.map(
              ([x, y]) => [x * (input.width / base.input.width), y * (input.height / base.input.height)] as const,
            ),
          }),
      ...(margin !== undefined && { margin }),
    },
    ...(pools && { variant: { ...base.variant, pools } }),
    ...(licence !== undefined && { licence }),
    ...(trainedOn !== undefined && { trainedOn }),
    // Thresholds hold for the pictures they were fitted on.
    operatingPoints: changed
      ? []
      : base.sourceSha256 === DLIB_RESNET_SHA256.weights && base.operatingPoints.length === 0
        ? dlibOperatingPoints()
        : base.operatingPoints,
  };
}

function templateNamed(name: AlignmentTemplateName, size: number): ModelMetadata['template'] {
  return { name, points: alignmentTemplate(name, size).points };
}

/** What the network expects by itself, as (byte - mean) * scale. */
function pixelRule({ pixels: { scale, shift } }: Network): PixelRule {
  const [first, second, third] = shift.map((value) => (value === 0 ? 0 : -value / scale)) as [number, number, number];
  return { scale, mean: [first, second, third] };
}

function pixelsOf(found: PixelRule, { perImage, mean, scale }: ConvertCommandOptions): PixelRule {
  if (perImage) return { standardisation: 'per-image' };
  if (mean === undefined && scale === undefined) return found;
  const rest = 'scale' in found ? found : { scale: 1, mean: [0, 0, 0] as const };
  return { scale: scale ?? rest.scale, mean: mean ?? rest.mean };
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
