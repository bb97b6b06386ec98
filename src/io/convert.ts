/**
 * Weights of others: names, layouts and the contract of the networks people have, whatever form they come in. Which network it is, is
 * recognised by the names in the file. Shapes are for the network to check (`matchTensors`): what is missing stays missing.
 *
 *     a file, or the files of a folder -> readForeignWeights -> tensors under our names, channels last, and a card
 *                                                            -> writeModelFile
 */
import { FaceNetError } from '../errors.ts';
import { describeDlibResNet, isDlibResNet, type ManifestWeights, readManifest } from './face-api.ts';
import { readKerasCsv } from './keras-csv.ts';
import { MODEL_FORMAT, type ModelFile, type ModelMetadata, readModelFile, writeModelFile } from './model-file.ts';
import { isNpy, readNpz } from './npy.ts';
import { isPyTorch, readPyTorch } from './pytorch.ts';
import { quoteName, readSafetensors, type Tensor, toFloat32 } from './safetensors.ts';
import { sha256 } from './sha256.ts';
import { channelsLast } from './strided.ts';
import { readTorch7, TorchTable, type TorchValue } from './torch7.ts';
import { isZip, openZip } from './zip.ts';

/** A foreign file, or the files of a folder by name. */
export type ForeignWeights = Uint8Array | ReadonlyMap<string, Uint8Array>;

/** Options of `readForeignWeights`. */
export interface ConvertOptions {
  /** What it is called in messages. */
  readonly source?: string;
  /** Name and version of the converting program. */
  readonly library: string;
  /** Shapes of the tensors of a folder of CSV files, by their names, in Torch's order. */
  readonly shapes?: ReadonlyMap<string, readonly number[]>;
  /** Network whose own names and layout the tensors have, where the names are none of those known here. */
  readonly network?: string;
}

type Contract = Omit<ModelMetadata, 'source' | 'sourceSha256' | 'library' | 'operatingPoints'>;

/** What all of OpenFace's networks share: OUTER_EYES_AND_NOSE at 96 x 96, RGB in [0, 1], pools as in the released weights. */
const openFace = (network: string): Contract => ({
  network,
  variant: { pools: 'released' },
  dimensions: 128,
  input: { width: 96, height: 96, colour: 'rgb' },
  pixels: { scale: 1 / 255, mean: [0, 0, 0] },
  template: {
    name: 'openface',
    points: [
      [18.639, 16.25],
      [75.73, 15.184],
      [47.515, 49.386],
    ],
  },
  licence: 'Apache-2.0, Carnegie Mellon University',
  trainedOn: 'CASIA-WebFace and FaceScrub, as OpenFace states',
});

/** facenet-pytorch's Inception-ResNet-v1: fixed standardisation, the box of MTCNN with a margin of 0 pixels of the 160. */
const facenetPyTorch: Contract = {
  network: 'inception-resnet-v1',
  dimensions: 512,
  input: { width: 160, height: 160, colour: 'rgb' },
  pixels: { scale: 1 / 128, mean: [127.5, 127.5, 127.5] },
  template: { name: 'mtcnn-box', points: [], margin: 0 },
  licence: 'MIT, facenet-pytorch and davidsandberg/facenet; the training images have terms of their own',
  trainedOn: 'VGGFace2 or CASIA-WebFace, as the name of the file says',
};

/** For tensors that name nothing: who converts them says the rest. */
const unknown = (network: string): Contract => ({
  network,
  dimensions: 1,
  input: { width: 1, height: 1, colour: 'rgb' },
  pixels: { scale: 1, mean: [0, 0, 0] },
  template: { name: 'none', points: [] },
  licence: 'not stated',
  trainedOn: 'not stated',
});

/** Tensors of a network and what is known about them. */
interface Recognised extends ManifestWeights {
  readonly contract: Contract;
}

/**
 * Reads weights of OpenFace (.t7, Keras-OpenFace's CSV folder, .npz or safetensors with its names), of facenet-pytorch's Inception-ResNet-v1
 * (.pt, .npz or safetensors with its names), of dlib's ResNet as face-api.js keeps it (manifest and .bin), of any network under our own
 * names (`options.network`), or a model file of ours. Card and tensors are as the file says; nothing is checked against a network yet.
 * @throws FaceNetError 'model' for damaged files, and for weights of a network that is not known here.
 */
export async function readForeignWeights(weights: ForeignWeights, options: ConvertOptions): Promise<ModelFile> {
  const { source = 'weights', library } = options;
  if (weights instanceof Uint8Array && isModelFile(weights, source)) return readModelFile(weights, source);
  const { tensors, quantization, contract } = recognise(weights, source, options);
  const hashes = await hashesOf(weights);
  const [only = '', ...others] = hashes;
  const known = contract.network === 'dlib-resnet' ? describeDlibResNet(hashes) : undefined;
  const metadata: ModelMetadata = {
    ...contract,
    dimensions: embeddingSize(tensors) ?? contract.dimensions,
    operatingPoints: [],
    source,
    // Of a folder: the hash of the hashes.
    sourceSha256: others.length === 0 ? only : await sha256(new TextEncoder().encode(hashes.join('\n'))),
    library,
    ...known,
  };
  return { metadata, tensors, quantization };
}

/** `readForeignWeights`, written as one model file. @throws as it, and as `writeModelFile`. */
export async function convertWeights(weights: ForeignWeights, options: ConvertOptions): Promise<Uint8Array> {
  return writeModelFile(await readForeignWeights(weights, options));
}

/** SHA-256 of a file, or of the files of a folder in the order of their names. */
function hashesOf(weights: ForeignWeights): Promise<string[]> {
  const parts =
    weights instanceof Uint8Array
      ? [weights]
      : [...weights].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, bytes]) => bytes);
  return Promise.all(parts.map(sha256));
}

function isModelFile(bytes: Uint8Array, source: string): boolean {
  return (
    bytes[8] === 0x7b &&
    (readSafetensors(bytes, { source }).metadata.get('format') ?? '').startsWith(MODEL_FORMAT.replace(/@.*/, '@'))
  );
}

/** Outputs of the last linear layer, where it is there. */
function embeddingSize(tensors: ReadonlyMap<string, Tensor>): number | undefined {
  return (
    tensors.get('embedding/weight') ??
    tensors.get('fc7128/weight') ??
    tensors.get('last_linear.weight') ??
    tensors.get('fc')
  )?.shape[1];
}

const plain = (tensors: Map<string, Tensor>, contract: Contract): Recognised => ({
  tensors,
  quantization: new Map(),
  contract,
});

function recognise(weights: ForeignWeights, source: string, { shapes, network }: ConvertOptions): Recognised {
  if (!(weights instanceof Uint8Array)) {
    const manifest = [...weights.keys()].find((name) => name.endsWith('.json'));
    if (manifest !== undefined) return fromManifest(weights, manifest, source);
    return byNames(readKerasCsv(weights, shapes, source), source, network);
  }
  if (isNpyArchive(weights, source)) return byNames(readNpz(weights, source), source, network);
  if (isPyTorch(weights)) return byNames(readPyTorch(weights, source), source, network);
  if (weights[8] === 0x7b) return byNames(readSafetensors(weights, { source }).tensors, source, network);
  // A .t7 begins with the kind of its first object, a table or a class, in four bytes.
  if ((weights[0] === 3 || weights[0] === 4) && weights[1] === 0 && weights[2] === 0 && weights[3] === 0) {
    const { network: name, pools, tensors } = fromTorchOpenFace(readTorch7(weights, source), source);
    return plain(tensors, { ...openFace(name), variant: { pools } });
  }
  const got = isNpy(weights) ? 'one array (.npy)' : 'another format';
  throw new FaceNetError(
    'model',
    `${source}: PyTorch, Torch 7, .npz, a manifest or safetensors, got ${got}. Name the file of the weights.`,
  );
}

/** A .npz, which is a zip as PyTorch's files are. */
function isNpyArchive(bytes: Uint8Array, source: string): boolean {
  return isZip(bytes) && openZip(bytes, source).names.some((name) => name.endsWith('.npy'));
}

function fromManifest(files: ReadonlyMap<string, Uint8Array>, name: string, source: string): Recognised {
  const found = readManifest(new TextDecoder().decode(files.get(name)), files, source);
  if (isDlibResNet(found.tensors)) return { ...found, contract: unknown('dlib-resnet') };
  const [first = ''] = found.tensors.keys();
  throw new FaceNetError(
    'model',
    `${source}: the manifest of face_recognition_model, got ${found.tensors.size} tensors, the first ${quoteName(first)}. Only this network of face-api.js is converted.`,
  );
}

function byNames(tensors: Map<string, Tensor>, source: string, network: string | undefined): Recognised {
  if (tensors.has('conv1_w') || tensors.has('inception_3a_3x3_conv1_w'))
    return plain(fromKerasOpenFace(tensors), openFace('nn4.small2'));
  if (tensors.has('conv2d_1a.conv.weight')) return plain(fromFacenetPyTorch(tensors), facenetPyTorch);
  if (network !== undefined) return plain(tensors, unknown(network));
  const [first = ''] = tensors.keys();
  throw new FaceNetError(
    'model',
    `${source}: weights of OpenFace (conv1_w ...) or facenet-pytorch (conv2d_1a.conv.weight ...), got ${tensors.size} tensors, the first ${quoteName(first)}. Name the network if the tensors have the names and layout of this library.`,
  );
}

/** Weights of facenet-pytorch under the same names, channels last; the classifier and all that are no floats (counters of batch norm) are left out. */
export function fromFacenetPyTorch(tensors: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const kept = [...tensors].filter(
    ([name, { dtype }]) => !name.startsWith('logits.') && (dtype === 'F32' || dtype === 'F16'),
  );
  return new Map(kept.map(([name, tensor]) => [name, channelsLast(tensor)]));
}

/** Our name of one of Keras-OpenFace's, or undefined: `inception_3a_5x5_conv2_w` is `inception3a/5x5/weight`. */
export function openFaceName(name: string): string | undefined {
  const [, layer = '', part = ''] = /^(.*)_([wbmv])$/.exec(name) ?? [];
  const [, stemKind, stemNumber] = /^(conv|bn)([123])$/.exec(layer) ?? [];
  const [, block, branch, blockKind, blockNumber = ''] =
    /^inception_([345][a-e])_(1x1|3x3|5x5|pool)_(conv|bn)([12]?)$/.exec(layer) ?? [];
  const kind = stemKind ?? blockKind;
  const leaf =
    layer === 'dense' || kind === 'conv'
      ? { w: 'weight', b: 'bias' }[part]
      : kind === 'bn'
        ? { w: 'gamma', b: 'beta', m: 'mean', v: 'variance' }[part]
        : undefined;
  if (leaf === undefined) return undefined;
  if (layer === 'dense') return `embedding/${leaf}`;
  if (stemNumber !== undefined)
    return `${['conv1', 'inception2/3x3reduce', 'inception2/3x3'][Number(stemNumber) - 1]}/${leaf}`;
  const numbered = branch === '3x3' || branch === '5x5';
  if (block === undefined || numbered !== (blockNumber !== '')) return undefined;
  const unit = numbered ? `${branch}${blockNumber === '1' ? 'reduce' : ''}` : branch === 'pool' ? 'projection' : '1x1';
  return `inception${block}/${unit}/${leaf}`;
}

/** Weights under Keras-OpenFace's names (Torch's layout) under ours, channels last; names that are not OpenFace's stay as they are. */
export function fromKerasOpenFace(tensors: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  return new Map([...tensors].map(([name, tensor]) => [openFaceName(name) ?? name, channelsLast(tensor)]));
}

/** Blocks of the OpenFace networks that were released. They are told apart by their number of convolutions: 37, 43, 55. */
const OPENFACE_BLOCKS: Readonly<Record<string, readonly string[]>> = {
  'nn4.small2': ['3a', '3b', '3c', '4a', '4e', '5a', '5b'],
  'nn4.small1': ['3a', '3b', '3c', '4a', '4b', '4e', '5a', '5b'],
  nn4: ['3a', '3b', '3c', '4a', '4b', '4c', '4d', '4e', '5a', '5b'],
};

/** Convolution units in the order in which the Torch modules stand: inside a block 3x3, 5x5, pool, 1x1. */
function openFaceUnits(blocks: readonly string[]): string[] {
  const inside = blocks.flatMap((block) => {
    const halving = block === '3c' || block === '4e';
    const units = [
      '3x3reduce',
      '3x3',
      ...(block < '5' ? ['5x5reduce', '5x5'] : []),
      ...(halving ? [] : ['projection', '1x1']),
    ];
    return units.map((unit) => `inception${block}/${unit}`);
  });
  return ['conv1', 'inception2/3x3reduce', 'inception2/3x3', ...inside];
}

/** Batch norm's epsilon in Torch, needed for files that keep 1 / sqrt(variance + epsilon). */
const TORCH_EPSILON = 1e-5;

/** One of OpenFace's networks, as read from Torch. */
export interface TorchOpenFace {
  readonly network: string;
  /** Pools inside the blocks, by the file's own modules where they say; else as in the released weights. */
  readonly pools: 'released' | 'definition' | 'unpadded';
  /** Under our names, channels last. */
  readonly tensors: Map<string, Tensor>;
}

/**
 * The weights of OpenFace's Torch networks (nn4.small2, nn4.small1, nn4) under our names, channels last: convolutions, batch norms and the
 * linear layer as they follow one another.
 * @throws FaceNetError 'model' for another number of layers, or a layer without its fields.
 */
export function fromTorchOpenFace(root: TorchValue, source = 't7'): TorchOpenFace {
  const refuse = (rule: string, got: string): FaceNetError =>
    new FaceNetError('model', `${source}: ${rule}, got ${got}. Only OpenFace's networks are converted from .t7.`);
  const layers = torchLayers(root);
  const of = (pattern: RegExp): TorchTable[] => layers.filter(({ type }) => pattern.test(type));
  const convolutions = of(/SpatialConvolution(MM|Local)?$/);
  const norms = of(/SpatialBatchNormalization$/);
  const linears = of(/\.Linear$/);
  const known = Object.entries(OPENFACE_BLOCKS).map(([network, blocks]) => ({ network, units: openFaceUnits(blocks) }));
  const found = known.find(({ units }) => units.length === convolutions.length);
  if (found === undefined || norms.length !== convolutions.length || linears.length !== 1) {
    throw refuse(
      `${known.map(({ units }) => units.length).join(', ')} convolutions, as many batch norms and one linear layer`,
      `${convolutions.length}, ${norms.length} and ${linears.length}`,
    );
  }
  const tensors = new Map<string, Tensor>();
  const field = (layer: TorchTable, name: string): Tensor => {
    const value = layer.fields.get(name);
    if (typeof value !== 'object' || value === null || value instanceof TorchTable)
      throw refuse(`${layer.type} has ${name}`, 'none');
    return value;
  };
  const numberOf = (layer: TorchTable, name: string): number => {
    const value = layer.fields.get(name);
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 1)
      throw refuse(`${layer.type} has ${name}`, String(value));
    return value;
  };
  found.units.forEach((unit, i) => {
    const convolution = convolutions[i] as TorchTable;
    const norm = norms[i] as TorchTable;
    const weight = field(convolution, 'weight');
    // Some kinds keep the kernel as a matrix [out, in x height x width].
    const shape = [
      numberOf(convolution, 'nOutputPlane'),
      numberOf(convolution, 'nInputPlane'),
      numberOf(convolution, 'kH'),
      numberOf(convolution, 'kW'),
    ];
    if (shape.reduce((a, b) => a * b, 1) !== weight.data.length)
      throw refuse(`a kernel of [${shape.join(', ')}]`, `[${weight.shape.join(', ')}] in ${unit}`);
    tensors.set(`${unit}/weight`, channelsLast({ ...weight, shape }));
    tensors.set(`${unit}/bias`, field(convolution, 'bias'));
    tensors.set(`${unit}/gamma`, field(norm, 'weight'));
    tensors.set(`${unit}/beta`, field(norm, 'bias'));
    tensors.set(`${unit}/mean`, field(norm, 'running_mean'));
    tensors.set(
      `${unit}/variance`,
      norm.fields.has('running_var') ? field(norm, 'running_var') : varianceOf(field(norm, 'running_std')),
    );
  });
  const linear = linears[0] as TorchTable;
  tensors.set('embedding/weight', channelsLast(field(linear, 'weight')));
  tensors.set('embedding/bias', field(linear, 'bias'));
  return { network: found.network, pools: poolsOf(layers), tensors };
}

/** By the first max pool inside a block (3a, which keeps the size in the definition) and the padding of the L2 pools' averages. */
function poolsOf(layers: readonly TorchTable[]): TorchOpenFace['pools'] {
  const block = layers.findIndex(({ type }) => /Inception|DepthConcat/.test(type));
  const inside = layers.slice(Math.max(0, block));
  const max = inside.find(({ type }) => /SpatialMaxPooling$/.test(type));
  if (max?.fields.get('dW') !== 1) return 'released';
  const average = inside.find(({ type }) => /SpatialAveragePooling$/.test(type));
  return average?.fields.get('padW') === 0 ? 'unpadded' : 'definition';
}

/** Torch before 2016 kept 1 / sqrt(variance + epsilon). */
function varianceOf(inverse: Tensor): Tensor {
  const values = toFloat32(inverse);
  return { dtype: 'F32', shape: inverse.shape, data: values.map((x) => 1 / (x * x) - TORCH_EPSILON) };
}

/** Objects of classes, each once, in the order of their containers; entries of tables in the order of their numbers. */
function torchLayers(root: TorchValue): TorchTable[] {
  const layers: TorchTable[] = [];
  const met = new Set<TorchTable>();
  const pending: TorchValue[] = [root];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (!(next instanceof TorchTable) || met.has(next)) continue;
    met.add(next);
    if (next.type !== 'table') layers.push(next);
    const entries = [...next.fields].filter(([, value]) => value instanceof TorchTable);
    entries.sort(([a], [b]) => Number(a) - Number(b) || 0);
    pending.push(...entries.map(([, value]) => value).reverse());
  }
  return layers;
}
