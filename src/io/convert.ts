/**
 * Weights of others to one model file of ours: names, layouts and the contract of the networks people have. Which network it is, is recognised by
 * the names in the file. Shapes are for the network to check (`matchTensors`): what is missing stays missing.
 */
import { FaceNetError } from '../errors.ts';
import { readKerasCsv } from './keras-csv.ts';
import { type ModelMetadata, writeModelFile } from './model-file.ts';
import { isPyTorch, readPyTorch } from './pytorch.ts';
import { quoteName, readSafetensors, type Tensor, toFloat32 } from './safetensors.ts';
import { sha256 } from './sha256.ts';
import { channelsLast } from './strided.ts';
import { readTorch7, TorchTable, type TorchValue } from './torch7.ts';

/** A foreign file, or the files of a folder by name. */
export type ForeignWeights = Uint8Array | ReadonlyMap<string, Uint8Array>;

/** Options of `convertWeights`. */
export interface ConvertOptions {
  /** What it is called in messages. */
  readonly source?: string;
  /** Name and version of the converting program. */
  readonly library: string;
  /** Shapes of the tensors of a folder of CSV files, by their names, in Torch's order. */
  readonly shapes?: ReadonlyMap<string, readonly number[]>;
}

type Contract = Omit<ModelMetadata, 'source' | 'sourceSha256' | 'library' | 'operatingPoints'>;

/** OpenFace's nn4.small2.v1: OUTER_EYES_AND_NOSE at 96 x 96, RGB in [0, 1], pools as in the released weights. */
const openFace: Contract = {
  network: 'nn4.small2',
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
};

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

/**
 * Converts OpenFace's nn4.small2 (.t7, Keras-OpenFace's CSV folder, or safetensors with its names) and facenet-pytorch's Inception-ResNet-v1
 * (.pt, or safetensors with its names). face-api.js's files: `readManifest` and `convertDlibResNet`.
 * @throws FaceNetError 'model' for damaged files, and for weights of a network that is not known here.
 */
export async function convertWeights(weights: ForeignWeights, options: ConvertOptions): Promise<Uint8Array> {
  const { source = 'weights', library, shapes } = options;
  const { tensors, contract } = recognise(weights, source, shapes);
  const parts =
    weights instanceof Uint8Array
      ? [weights]
      : [...weights].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, bytes]) => bytes);
  const hashes = await Promise.all(parts.map(sha256));
  const [only] = hashes;
  const metadata: ModelMetadata = {
    ...contract,
    dimensions: embeddingSize(tensors) ?? contract.dimensions,
    operatingPoints: [],
    source,
    // Of a folder: the hash of the hashes of its files, in the order of their names.
    sourceSha256:
      hashes.length === 1 && only !== undefined ? only : await sha256(new TextEncoder().encode(hashes.join('\n'))),
    library,
  };
  return writeModelFile({ metadata, tensors, quantization: new Map() });
}

/** Outputs of the last linear layer, where it is there. */
function embeddingSize(tensors: ReadonlyMap<string, Tensor>): number | undefined {
  return (tensors.get('embedding/weight') ?? tensors.get('last_linear.weight'))?.shape[1];
}

function recognise(
  weights: ForeignWeights,
  source: string,
  shapes?: ReadonlyMap<string, readonly number[]>,
): { tensors: Map<string, Tensor>; contract: Contract } {
  if (!(weights instanceof Uint8Array)) return byNames(readKerasCsv(weights, shapes, source), source);
  if (isPyTorch(weights)) return byNames(readPyTorch(weights, source), source);
  if (weights[8] === 0x7b) return byNames(readSafetensors(weights, { source }).tensors, source);
  // A .t7 begins with the kind of its first object, a table or a class, in four bytes.
  if ((weights[0] === 3 || weights[0] === 4) && weights[1] === 0 && weights[2] === 0 && weights[3] === 0) {
    return { tensors: fromTorchOpenFace(readTorch7(weights, source), source), contract: openFace };
  }
  throw new FaceNetError(
    'model',
    `${source}: PyTorch, Torch 7 or safetensors, got another format. Name the file of the weights.`,
  );
}

function byNames(
  tensors: ReadonlyMap<string, Tensor>,
  source: string,
): { tensors: Map<string, Tensor>; contract: Contract } {
  if (tensors.has('conv1_w') || tensors.has('inception_3a_3x3_conv1_w'))
    return { tensors: fromKerasOpenFace(tensors), contract: openFace };
  if (tensors.has('conv2d_1a.conv.weight')) return { tensors: fromFacenetPyTorch(tensors), contract: facenetPyTorch };
  const [first = ''] = tensors.keys();
  throw new FaceNetError(
    'model',
    `${source}: weights of OpenFace (conv1_w ...) or facenet-pytorch (conv2d_1a.conv.weight ...), got ${tensors.size} tensors, the first ${quoteName(first)}. Only these networks are converted.`,
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

/** Convolution units of nn4.small2 in the order in which its Torch modules stand: inside a block 3x3, 5x5, pool, 1x1. */
const OPENFACE_UNITS: readonly string[] = [
  'conv1',
  'inception2/3x3reduce',
  'inception2/3x3',
  ...['3a', '3b', '3c', '4a', '4e', '5a', '5b'].flatMap((block) => {
    const halving = block === '3c' || block === '4e';
    const units = [
      '3x3reduce',
      '3x3',
      ...(block < '5' ? ['5x5reduce', '5x5'] : []),
      ...(halving ? [] : ['projection', '1x1']),
    ];
    return units.map((unit) => `inception${block}/${unit}`);
  }),
];

/** Batch norm's epsilon in Torch, needed for files that keep 1 / sqrt(variance + epsilon). */
const TORCH_EPSILON = 1e-5;

/**
 * The weights of OpenFace's Torch network under our names, channels last: convolutions, batch norms and the linear layer as they follow one another.
 * @throws FaceNetError 'model' for another number of layers, or a layer without its fields.
 */
export function fromTorchOpenFace(root: TorchValue, source = 't7'): Map<string, Tensor> {
  const refuse = (rule: string, got: string): FaceNetError =>
    new FaceNetError('model', `${source}: ${rule}, got ${got}. Only OpenFace's nn4.small2 is converted from .t7.`);
  const layers = torchLayers(root);
  const of = (pattern: RegExp): TorchTable[] => layers.filter(({ type }) => pattern.test(type));
  const convolutions = of(/SpatialConvolution(MM|Local)?$/);
  const norms = of(/SpatialBatchNormalization$/);
  const linears = of(/\.Linear$/);
  const count = OPENFACE_UNITS.length;
  if (convolutions.length !== count || norms.length !== count || linears.length !== 1) {
    throw refuse(
      `${count} convolutions, ${count} batch norms and one linear layer`,
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
  OPENFACE_UNITS.forEach((unit, i) => {
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
  return tensors;
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
