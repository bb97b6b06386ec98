import type { NetworkName } from './network.ts';

/** A figure as it is printed: '9K', '1.6B', '288.9M'. `readFigure` gives its value and how much its rounding leaves open. */
export type Figure = string;

/** One row of a published layer table, and the block of ours that it describes (the first segment of its layers' names). */
export interface PublishedRow {
  readonly row: string;
  readonly block: string;
  readonly output: readonly number[];
  readonly parameters?: Figure;
  readonly multiplyAdds?: Figure;
}

/** What others have published about a network. */
export interface Published {
  readonly source: string;
  readonly parameters?: Figure;
  /** The paper says "FLOPS" and means multiply-adds (the axis of its Figure 4). */
  readonly multiplyAdds?: Figure;
  /** VAL at FAR 1e-3 on the paper's hold-out images in percent, with the standard error over five splits (Table 3). */
  readonly validationRate?: { readonly percent: number; readonly standardError: number };
  /** Accuracy on the pairs of LFW with the standard deviation over ten folds, of the publisher's own weights. */
  readonly lfw?: { readonly accuracy: number; readonly standardDeviation: number };
  /** Whether ours has the published layers, or is made to meet the totals. */
  readonly layers: 'published' | 'reconstructed' | 'approximated';
  /**
   * Without batch norm, which the paper does not have. It does not say whether biases count; most rows come out right with them
   * (a parameter, and one multiply-add an output), 4a only without: the truth of a row lies between.
   */
  readonly rows?: readonly PublishedRow[];
}

/** Value of a printed figure, and half a unit of its last digit. */
export function readFigure(figure: Figure): { value: number; within: number } {
  const unit = { K: 1e3, M: 1e6, B: 1e9 }[figure.at(-1) as string];
  const digits = unit ? figure.slice(0, -1) : figure;
  const decimals = digits.includes('.') ? digits.length - digits.indexOf('.') - 1 : 0;
  return { value: Number(digits) * (unit ?? 1), within: 0.5 * 10 ** -decimals * (unit ?? 1) };
}

/** Schroff et al. 2015, Table 1; its 'concat' row moves no data. The 1x32x128 of fc1 and fc2 are 4,096 numbers. */
// biome-ignore format: a row of the table is a line
const table1: readonly PublishedRow[] = [
  { row: 'conv1', block: 'conv1', output: [110, 110, 64], parameters: '9K', multiplyAdds: '115M' },
  { row: 'pool1', block: 'pool1', output: [55, 55, 64] },
  { row: 'rnorm1', block: 'rnorm1', output: [55, 55, 64] },
  { row: 'conv2a', block: 'conv2a', output: [55, 55, 64], parameters: '4K', multiplyAdds: '13M' },
  { row: 'conv2', block: 'conv2', output: [55, 55, 192], parameters: '111K', multiplyAdds: '335M' },
  { row: 'rnorm2', block: 'rnorm2', output: [55, 55, 192] },
  { row: 'pool2', block: 'pool2', output: [28, 28, 192] },
  { row: 'conv3a', block: 'conv3a', output: [28, 28, 192], parameters: '37K', multiplyAdds: '29M' },
  { row: 'conv3', block: 'conv3', output: [28, 28, 384], parameters: '664K', multiplyAdds: '521M' },
  { row: 'pool3', block: 'pool3', output: [14, 14, 384] },
  { row: 'conv4a', block: 'conv4a', output: [14, 14, 384], parameters: '148K', multiplyAdds: '29M' },
  { row: 'conv4', block: 'conv4', output: [14, 14, 256], parameters: '885K', multiplyAdds: '173M' },
  { row: 'conv5a', block: 'conv5a', output: [14, 14, 256], parameters: '66K', multiplyAdds: '13M' },
  { row: 'conv5', block: 'conv5', output: [14, 14, 256], parameters: '590K', multiplyAdds: '116M' },
  { row: 'conv6a', block: 'conv6a', output: [14, 14, 256], parameters: '66K', multiplyAdds: '13M' },
  { row: 'conv6', block: 'conv6', output: [14, 14, 256], parameters: '590K', multiplyAdds: '116M' },
  { row: 'pool4', block: 'pool4', output: [7, 7, 256] },
  { row: 'fc1', block: 'fc1', output: [4096], parameters: '103M', multiplyAdds: '103M' },
  { row: 'fc2', block: 'fc2', output: [4096], parameters: '34M', multiplyAdds: '34M' },
  { row: 'fc7128', block: 'fc7128', output: [128], parameters: '524K', multiplyAdds: '0.5M' },
];

/** Schroff et al. 2015, Table 2. */
// biome-ignore format: a row of the table is a line
const table2: readonly PublishedRow[] = [
  { row: 'conv1 7x7x3, 2', block: 'conv1', output: [112, 112, 64], parameters: '9K', multiplyAdds: '119M' },
  { row: 'max pool + norm', block: 'norm1', output: [56, 56, 64] },
  { row: 'inception (2)', block: 'inception2', output: [56, 56, 192], parameters: '115K', multiplyAdds: '360M' },
  { row: 'norm + max pool', block: 'pool2', output: [28, 28, 192] },
  { row: '3a', block: 'inception3a', output: [28, 28, 256], parameters: '164K', multiplyAdds: '128M' },
  { row: '3b', block: 'inception3b', output: [28, 28, 320], parameters: '228K', multiplyAdds: '179M' },
  { row: '3c', block: 'inception3c', output: [14, 14, 640], parameters: '398K', multiplyAdds: '108M' },
  { row: '4a', block: 'inception4a', output: [14, 14, 640], parameters: '545K', multiplyAdds: '107M' },
  { row: '4b', block: 'inception4b', output: [14, 14, 640], parameters: '595K', multiplyAdds: '117M' },
  { row: '4c', block: 'inception4c', output: [14, 14, 640], parameters: '654K', multiplyAdds: '128M' },
  { row: '4d', block: 'inception4d', output: [14, 14, 640], parameters: '722K', multiplyAdds: '142M' },
  { row: '4e', block: 'inception4e', output: [7, 7, 1024], parameters: '717K', multiplyAdds: '56M' },
  { row: '5a', block: 'inception5a', output: [7, 7, 1024], parameters: '1.6M', multiplyAdds: '78M' },
  { row: '5b', block: 'inception5b', output: [7, 7, 1024], parameters: '1.6M', multiplyAdds: '78M' },
  { row: 'avg pool', block: 'average', output: [1024] },
  { row: 'fully conn', block: 'embedding', output: [128], parameters: '131K', multiplyAdds: '0.1M' },
];

/** Published figures by network. OpenFace's counts include batch norm, the paper's do not. */
export const published: Readonly<Record<NetworkName, Published>> = {
  nn1: {
    source: 'Schroff et al. 2015, Tables 1 and 3',
    layers: 'published',
    parameters: '140M',
    multiplyAdds: '1.6B',
    validationRate: { percent: 87.9, standardError: 1.9 },
    rows: table1,
  },
  nn2: {
    source: 'Schroff et al. 2015, Tables 2 and 3',
    layers: 'published',
    parameters: '7.5M',
    multiplyAdds: '1.6B',
    validationRate: { percent: 89.4, standardError: 1.6 },
    rows: table2,
  },
  nn3: {
    source: 'Schroff et al. 2015, Table 3 and section 3.3',
    layers: 'published',
    validationRate: { percent: 88.3, standardError: 1.7 },
  },
  nn4: {
    source: 'Schroff et al. 2015, Table 3 (layers unpublished); layers and 6,959,088 parameters of OpenFace nn4',
    layers: 'approximated',
    parameters: '6959088',
    multiplyAdds: '285M',
    validationRate: { percent: 82, standardError: 2.3 },
    lfw: { accuracy: 0.9157, standardDeviation: 0.0152 },
  },
  nns1: {
    source: 'Schroff et al. 2015, Table 3 and section 3.3 (layers unpublished)',
    layers: 'reconstructed',
    parameters: '26M',
    multiplyAdds: '220M',
    validationRate: { percent: 82.4, standardError: 2.4 },
  },
  nns2: {
    source: 'Schroff et al. 2015, Table 3 and section 3.3 (layers unpublished)',
    layers: 'reconstructed',
    parameters: '4.3M',
    multiplyAdds: '20M',
    validationRate: { percent: 51.9, standardError: 2.9 },
  },
  'nn4.small1': {
    source: 'OpenFace nn4.small1.def.lua, docs/models-and-accuracies.md',
    layers: 'published',
    parameters: '5579520',
    lfw: { accuracy: 0.921, standardDeviation: 0.016 },
  },
  'nn4.small2': {
    source: 'OpenFace nn4.small2.def.lua, docs/models-and-accuracies.md',
    layers: 'published',
    parameters: '3733968',
    lfw: { accuracy: 0.9292, standardDeviation: 0.0134 },
  },
  'dlib-resnet': { source: '@vladmandic/face-api 1.7.15, face_recognition_model', layers: 'published' },
  'inception-resnet-v1': {
    source: 'davidsandberg/facenet, model 20180402-114759',
    layers: 'published',
    lfw: { accuracy: 0.9965, standardDeviation: 0.00252 },
  },
};
