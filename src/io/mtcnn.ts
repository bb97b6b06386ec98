/**
 * MTCNN's weights as others keep them, to one detector file of ours: facenet-pytorch's pnet.pt, rnet.pt, onet.pt (three files, one state
 * dictionary of all three, or safetensors with its names) and davidsandberg/facenet's det1.npy, det2.npy, det3.npy.
 *
 * Both come from column-major MATLAB. facenet's convolutions want their image transposed: their kernels [width, height, in, out] are turned
 * here, facenet-pytorch's are turned already. Both flatten what goes into the first dense layer in the order W, H, C; here its rows are put
 * into our order H, W, C.
 */
import { FaceNetError } from '../errors.ts';
import {
  type DetectorFile,
  type DetectorMetadata,
  detectorOf,
  isDetector,
  writeDetectorFile,
} from './detector-file.ts';
import { isNpy, readNpy } from './npy.ts';
import { isPyTorch, readPyTorch } from './pytorch.ts';
import { quoteName, readSafetensors, type Tensor, toFloat32 } from './safetensors.ts';
import { sha256 } from './sha256.ts';

export interface ConvertMtcnnOptions {
  /** What it is called in messages, and in the card. */
  readonly source?: string;
  /** Name and version of the converting program. */
  readonly library: string;
  /** Shapes of all weights by our names, as the networks want them (`mtcnnParameters`). */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
}

const card: Pick<DetectorMetadata, 'network' | 'licence' | 'trainedOn'> = {
  network: 'mtcnn',
  licence: 'MIT, davidsandberg/facenet and facenet-pytorch; weights by Zhang et al. 2016',
  trainedOn: 'WIDER FACE and CelebA, as the paper states',
};

/** Names of the layers: ours; facenet-pytorch's; facenet's. */
type Layer = readonly [ours: string, pytorch: string, facenet: string];

interface Net {
  readonly name: 'pnet' | 'rnet' | 'onet';
  readonly layers: readonly Layer[];
  /** The layer that reads flattened activations, and their height (= width); pnet has none. */
  readonly flat?: { readonly layer: string; readonly side: number };
}

const nets: readonly Net[] = [
  {
    name: 'pnet',
    layers: [
      ['conv1', 'conv1', 'conv1'],
      ['prelu1', 'prelu1', 'PReLU1'],
      ['conv2', 'conv2', 'conv2'],
      ['prelu2', 'prelu2', 'PReLU2'],
      ['conv3', 'conv3', 'conv3'],
      ['prelu3', 'prelu3', 'PReLU3'],
      ['conv4-1', 'conv4_1', 'conv4-1'],
      ['conv4-2', 'conv4_2', 'conv4-2'],
    ],
  },
  {
    name: 'rnet',
    layers: [
      ['conv1', 'conv1', 'conv1'],
      ['prelu1', 'prelu1', 'prelu1'],
      ['conv2', 'conv2', 'conv2'],
      ['prelu2', 'prelu2', 'prelu2'],
      ['conv3', 'conv3', 'conv3'],
      ['prelu3', 'prelu3', 'prelu3'],
      ['dense4', 'dense4', 'conv4'],
      ['prelu4', 'prelu4', 'prelu4'],
      ['dense5-1', 'dense5_1', 'conv5-1'],
      ['dense5-2', 'dense5_2', 'conv5-2'],
    ],
    flat: { layer: 'dense4', side: 3 },
  },
  {
    name: 'onet',
    layers: [
      ['conv1', 'conv1', 'conv1'],
      ['prelu1', 'prelu1', 'prelu1'],
      ['conv2', 'conv2', 'conv2'],
      ['prelu2', 'prelu2', 'prelu2'],
      ['conv3', 'conv3', 'conv3'],
      ['prelu3', 'prelu3', 'prelu3'],
      ['conv4', 'conv4', 'conv4'],
      ['prelu4', 'prelu4', 'prelu4'],
      ['dense5', 'dense5', 'conv5'],
      ['prelu5', 'prelu5', 'prelu5'],
      ['dense6-1', 'dense6_1', 'conv6-1'],
      ['dense6-2', 'dense6_2', 'conv6-2'],
      ['dense6-3', 'dense6_3', 'conv6-3'],
    ],
    flat: { layer: 'dense5', side: 3 },
  },
];

/**
 * One detector file from MTCNN's weights: a file with all three networks, or three files with one each, in any order.
 * @throws FaceNetError 'model' for damaged files, for other weights, and where a layer is missing, doubled or of another shape.
 */
export async function convertMtcnn(
  files: Uint8Array | readonly Uint8Array[],
  { source = 'mtcnn', library, shapes }: ConvertMtcnnOptions,
): Promise<Uint8Array> {
  const file = await mtcnnOf(files instanceof Uint8Array ? [files] : files, source, library);
  for (const [name, shape] of shapes) {
    const found = file.tensors.get(name)?.shape ?? [];
    if (found.join() !== shape.join())
      throw new FaceNetError(
        'model',
        `${source}: ${name} is [${shape.join(', ')}], got [${found.join(', ')}]. Get the file again.`,
      );
  }
  return writeDetectorFile(file);
}

async function mtcnnOf(list: readonly Uint8Array[], source: string, library: string): Promise<DetectorFile> {
  const tensors = new Map<string, Tensor>();
  for (const bytes of list) {
    for (const [name, tensor] of fromForeign(
      foreignTensors(bytes, source),
      isNpy(bytes) ? 'facenet' : 'pytorch',
      source,
    )) {
      if (tensors.has(name))
        throw new FaceNetError(
          'model',
          `${source}: each network once, got ${quoteName(name)} twice. Give det1, det2 and det3.`,
        );
      tensors.set(name, tensor);
    }
  }
  requireAll(tensors, source);
  const hashes = await Promise.all(list.map(sha256));
  const [only] = hashes;
  const sourceSha256 =
    hashes.length === 1 && only !== undefined ? only : await sha256(new TextEncoder().encode(hashes.join('\n')));
  return { metadata: { ...card, source, sourceSha256, library }, tensors, quantization: new Map() };
}

/**
 * Opens a detector: a file of ours, or MTCNN's weights as `convertMtcnn` takes them. Shapes are for the network to check.
 * @throws FaceNetError 'model'.
 */
export async function openDetectorFile(
  files: Uint8Array | readonly Uint8Array[],
  source: string,
): Promise<DetectorFile> {
  const [bytes, ...more] = files instanceof Uint8Array ? [files] : files;
  if (bytes === undefined || more.length > 0)
    return mtcnnOf([...(bytes ? [bytes] : []), ...more], source, 'read as it is');
  const ours = !isPyTorch(bytes) && !isNpy(bytes) ? readSafetensors(bytes, { source }) : undefined;
  if (ours && (isDetector(ours) || !ours.tensors.has('pnet.conv1.weight'))) return detectorOf(ours, source);
  return mtcnnOf([bytes], source, 'read as it is');
}

/** @throws 'model' for bytes that are neither a detector file nor weights in a format of MTCNN's: a download, before it is kept. */
export function checkDetectorBytes(bytes: Uint8Array, source: string): void {
  foreignTensors(bytes, source);
}

function foreignTensors(bytes: Uint8Array, source: string): ReadonlyMap<string, Tensor> {
  if (isNpy(bytes)) return readNpy(bytes, source);
  if (isPyTorch(bytes)) return readPyTorch(bytes, source);
  if (bytes[8] === 0x7b) return readSafetensors(bytes, { source }).tensors;
  throw new FaceNetError(
    'model',
    `${source}: MTCNN's weights as .npy, .pt or safetensors, got another format. Name det1.npy, det2.npy, det3.npy or pnet.pt, rnet.pt, onet.pt.`,
  );
}

/** The networks of one foreign file under our names, in our layout. */
function fromForeign(
  tensors: ReadonlyMap<string, Tensor>,
  form: 'facenet' | 'pytorch',
  source: string,
): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
  for (const net of netsOf(tensors, form, source)) {
    const prefix = form === 'pytorch' && tensors.has(`${net.name}.conv1.weight`) ? `${net.name}.` : '';
    for (const [ours, pytorch, facenet] of net.layers) {
      const parts = ours.startsWith('prelu') ? (['slope'] as const) : (['weight', 'bias'] as const);
      for (const part of parts) {
        const foreign =
          form === 'pytorch'
            ? `${prefix}${pytorch}.${part === 'bias' ? 'bias' : 'weight'}`
            : `${facenet}/${{ weight: 'weights', bias: 'biases', slope: 'alpha' }[part]}`;
        const tensor = tensors.get(foreign);
        if (tensor === undefined)
          throw new FaceNetError(
            'model',
            `${source}: ${net.name} has ${quoteName(foreign)}, got none. Get the file again.`,
          );
        const side = net.flat?.layer === ours ? net.flat.side : 0;
        found.set(
          `${net.name}/${ours}/${part}`,
          turned(tensor, { form, part, side }, `${source}: ${quoteName(foreign)}`),
        );
      }
    }
  }
  return found;
}

/** Which networks a file holds, told by their last layers. */
function netsOf(tensors: ReadonlyMap<string, Tensor>, form: 'facenet' | 'pytorch', source: string): readonly Net[] {
  if (form === 'pytorch' && tensors.has('pnet.conv1.weight')) return nets;
  const has = (name: string) => tensors.has(name);
  const net =
    form === 'facenet'
      ? nets.find((_, index) => has(`conv${index + 4}-1/weights`))
      : nets.find((_, index) => has(`${index === 0 ? 'conv' : 'dense'}${index + 4}_1.weight`));
  if (net) return [net];
  const [first = ''] = tensors.keys();
  throw new FaceNetError(
    'model',
    `${source}: weights of MTCNN (pnet.conv1.weight, conv4_1.weight, conv4-1/weights ...), got ${tensors.size} tensors, the first ${quoteName(first)}. Name the files of MTCNN.`,
  );
}

/** What a foreign tensor is. */
interface Part {
  readonly form: 'facenet' | 'pytorch';
  readonly part: 'weight' | 'bias' | 'slope';
  /** Height and width of the flattened activations that a dense layer reads, else 0. */
  readonly side: number;
}

/**
 * A foreign tensor in our order and shape; whether the layer wants that shape is for the network to say. @throws 'model' where none can.
 */
function turned(tensor: Tensor, { form, part, side }: Part, name: string): Tensor {
  const { shape } = tensor;
  const values = toFloat32(tensor);
  const refuse = () =>
    new FaceNetError('model', `${name} is a weight of MTCNN, got the shape [${shape.join(', ')}]. Get the file again.`);
  if (part !== 'weight') {
    // Some files keep a slope or bias as [1, 1, channels].
    if (!shape.includes(values.length)) throw refuse();
    return { dtype: 'F32', shape: [values.length], data: values.slice() };
  }
  const data = new Float32Array(values.length);
  if (shape.length === 4) {
    // [width, height, in, out] of facenet, [out, in, height, width] of facenet-pytorch.
    const [p, q, r, s] = shape as [number, number, number, number];
    const [height, width, inputs, outputs] = form === 'facenet' ? [q, p, r, s] : [r, s, q, p];
    let at = 0;
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++)
        for (let i = 0; i < inputs; i++)
          for (let o = 0; o < outputs; o++)
            data[at++] = values[
              form === 'facenet'
                ? ((x * height + y) * inputs + i) * outputs + o
                : ((o * inputs + i) * height + y) * width + x
            ] as number;
    return { dtype: 'F32', shape: [height, width, inputs, outputs], data };
  }
  if (shape.length !== 2) throw refuse();
  const [p, q] = shape as [number, number];
  const [inputs, outputs] = form === 'facenet' ? [p, q] : [q, p];
  const channels = side > 0 ? inputs / (side * side) : 1;
  if (!Number.isInteger(channels)) throw refuse();
  for (let i = 0; i < inputs; i++) {
    // Row i of ours is pixel (y, x), channel k; theirs has the x outermost.
    const [pixel, k] = [Math.floor(i / channels), i % channels];
    const [y, x] = [Math.floor(pixel / side), pixel % side];
    const row = side > 0 ? (x * side + y) * channels + k : i;
    for (let o = 0; o < outputs; o++)
      data[i * outputs + o] = values[form === 'facenet' ? row * outputs + o : o * inputs + row] as number;
  }
  return { dtype: 'F32', shape: [inputs, outputs], data };
}

function requireAll(tensors: ReadonlyMap<string, Tensor>, source: string): void {
  const missing = nets.filter(({ name }) => !tensors.has(`${name}/conv1/weight`)).map(({ name }) => name);
  if (missing.length > 0)
    throw new FaceNetError(
      'model',
      `${source}: all of pnet, rnet and onet, got none of ${missing.join(' and ')}. Give all three files.`,
    );
}
