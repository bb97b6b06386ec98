import { FaceNetError } from '../../../errors.ts';
import type { Choice, KernelStep, Lowering, Shapes } from '../../../graph/operator.ts';
import { columns, type Shape } from '../../../graph/shape.ts';
import { type Conv2d, conv2dOperator } from '../../../ops/conv2d.ts';
import { type FamilyTable, pick, type Views } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import { REDUCTION } from './vec4.ts';

/**
 * What the tiled kernels compute: gridHeight x gridWidth pixels of an output of outHeight x outWidth, at start + step * grid, each a
 * window of kernelHeight x kernelWidth pixels of the input. Field names are those of Params; paddings may be negative.
 */
export interface Convolution {
  readonly batch: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly outHeight: number;
  readonly outWidth: number;
  readonly outChannels: number;
  readonly kernelHeight: number;
  readonly kernelWidth: number;
  readonly strideY: number;
  readonly strideX: number;
  readonly padTop: number;
  readonly padLeft: number;
  readonly relu: number;
  readonly gridHeight: number;
  readonly gridWidth: number;
  readonly stepY: number;
  readonly stepX: number;
  readonly startY: number;
  readonly startX: number;
}

/** One tiling: an entry point, its constants, and what a workgroup covers. */
export interface Tile {
  readonly file: string;
  readonly kernel: string;
  readonly constants: Readonly<Record<string, number>>;
  /** Pixels of one workgroup. */
  readonly pixels: number;
  /** Output channels of one workgroup, and of a block of packed weights. */
  readonly block: number;
  /** Packed weights are a uniform buffer of this many elements. */
  readonly uniform?: number;
  /** Workgroups of an image, where they do not cover pixels in their order. */
  readonly strips?: readonly [lanes: number, across: number, down: number];
  /** What the entry point calls its tensors. */
  readonly names: TileNames;
  /** The others that could have been taken. */
  readonly choice?: Choice;
}

interface TileNames {
  readonly x: string;
  readonly weight: string;
  readonly bias: string;
  readonly residual: string;
  readonly y: string;
}

const PLAIN_NAMES: TileNames = { x: 'x', weight: 'weight', bias: 'bias', residual: 'residual', y: 'y' };
const VEC4_NAMES: TileNames = { x: 'x4', weight: 'weight4', bias: 'bias4', residual: 'residual4', y: 'y4' };

const ceil = (a: number, b: number) => Math.ceil(a / b);

/** Products of one output: taps times channels. */
const depthOf = ({ kernelHeight, kernelWidth, channels }: Convolution) => kernelHeight * kernelWidth * channels;

/** Subgroup sizes the tiles of conv2d.subgroups.wgsl are written for: 16 output channels are 16 lanes of weights or a divisor. */
const SUBGROUPS = [4, 8, 16];

/** Whether subgroups feed tiles on this adapter: loads are dear (software) and the size of subgroups is fixed. */
export function hasSubgroupTiles(adapter: WebGpuAdapter): adapter is WebGpuAdapter & { readonly subgroups: number } {
  return adapter.software && adapter.subgroups !== false && SUBGROUPS.includes(adapter.subgroups);
}

/** What else decides which tiles can compute a problem. */
export interface How {
  /** Products of this shape in one launch; default 1. */
  readonly slices?: number;
  /** x is an image whose pixels lie side by side, from a multiple of four elements on, and nothing but a bias is added. */
  readonly dense?: boolean;
  /** Its weights may be parted, each part with a step of its own. */
  readonly parts?: boolean;
  /** Packed weights may take as much as a uniform buffer holds, however few they are; default true. */
  readonly padded?: boolean;
}

/**
 * Tiles that can compute a problem on this adapter, the best one first. All add in the same order. `vec4`: the input can be read as
 * vec4s; the output can in any case.
 */
export function tiles(
  problem: Convolution,
  adapter: WebGpuAdapter,
  vec4: boolean,
  { slices = 1, dense = false, parts = false, padded = true }: How = {},
): readonly Tile[] {
  if (!adapter.software) return workgroupTiles(problem, adapter, vec4);
  if (hasSubgroupTiles(adapter)) {
    if (vec4) return subgroupTiles(problem, adapter.subgroups, slices, padded && slices === 1, parts);
    return [...(dense ? rowsTiles(problem, adapter.subgroups) : []), subgroupImageTile(problem, adapter.subgroups)];
  }
  return vec4 ? directTiles(problem) : [DIRECT_IMAGE_TILE];
}

/**
 * Few tiles: each costs seconds to compile where shaders become machine code by LLVM. Eight lanes and more: by cost for one image, in
 * vector instructions of a step of four input channels, where loads run lane by lane and a vec4 costs 60. Lanes as pixels pay where
 * weights are read many times, in large maps under large windows. The last is for tuners: 12 pixels waste less of some small maps. Four
 * lanes: see narrowTiles.
 */
function subgroupTiles(
  one: Convolution,
  sg: number,
  slices: number,
  uniform: boolean,
  parts: boolean,
): readonly Tile[] {
  const pixels = one.gridHeight * one.gridWidth;
  const file = 'conv2d.subgroups';
  const byPixels = (m: number) => ({
    cost:
      pixels < 512 || one.kernelHeight * one.kernelWidth === 1
        ? Infinity
        : ceil(pixels, sg * m) * ceil(one.outChannels, 16) * ((m + 16 / sg) * 60 + 64 + 64 * m),
    tile: {
      file,
      kernel: 'forwardPixels',
      constants: { SG: sg, PM: m, PV: 4 },
      pixels: sg * m,
      block: 16,
      names: PLAIN_NAMES,
    },
  });
  const byChannels = (m: number, v = 1) => ({
    cost: ceil(pixels, m) * ceil(one.outChannels, 4 * v * sg) * ((ceil(m, sg) + 4 * v) * 60 + m * v * 20),
    tile: {
      file,
      kernel: 'forwardChannels',
      constants: { SG: sg, CM: m, CV: v },
      pixels: m,
      block: 4 * v * sg,
      names: PLAIN_NAMES,
    },
  });
  // Weights in a uniform buffer cost a quarter of a load: 0.6 of the time in all. 32 pixels take half, and thrice as long to compile.
  const byUniform = (m: number) => ({
    cost: ceil(pixels, m) * ceil(one.outChannels, 4 * sg) * (ceil(m, sg) * 60 + 4 * 15 + m * 16),
    tile: {
      file: 'conv2d.uniform',
      kernel: 'forwardUniform',
      constants: { SG: sg, CM: m },
      pixels: m,
      block: 4 * sg,
      uniform: UNIFORM,
      names: PLAIN_NAMES,
    },
  });
  if (sg === 4) return narrowTiles(one, slices, byChannels(12).tile, byChannels(18, 2).tile, byChannels(16).tile);
  const depth = depthOf(one);
  const least = parts ? 1 : ceil(one.outChannels, 4 * sg);
  const fits = uniform && depth > 0 && depth * least * 4 * sg <= UNIFORM;
  const table = [byChannels(16), byPixels(4), ...(fits ? [byUniform(16)] : [])];
  table.sort((a, b) => a.cost - b.cost);
  return [...table, byChannels(12)].map(({ tile }) => tile);
}

/** Multiply-adds of one image from which a layer of four lanes takes the large tile. */
const LARGE = 30e6;

/**
 * Four lanes: 12 pixels by lanes of channels were the best of all small tiles for every layer measured. 18 by twice as many channels
 * take a quarter less time and a second more to load, which layers earn back that compute much, as all networks of 224 x 224 pixels have
 * and none of 96 x 96 has. Cost: microseconds of a workgroup, of which 14 are its beginning, its end and what does not grow with the tile.
 */
function narrowTiles(one: Convolution, slices: number, small: Tile, large: Tile, other: Tile): readonly Tile[] {
  const pixels = one.gridHeight * one.gridWidth;
  const cost = ({ pixels: m, block }: Tile) =>
    ceil(pixels, m) * ceil(one.outChannels, block) * (14 + (6 * m * block) / 16);
  const pays = slices * pixels * depthOf(one) * one.outChannels >= LARGE && cost(large) < cost(small);
  return pays ? [large, small, other] : [small, other, large];
}

/** Elements of weights that every device lets a uniform buffer hold; the array in conv2d.uniform.wgsl. */
const UNIFORM = 16_384;

/** Lines of a strip of forwardRows. */
const ROWS = 8;

/** First layers that forwardRows computes. 16 vec4s of sums at most, since all of it is one piece of straight code. */
function rowsTiles(one: Convolution, sg: number): readonly Tile[] {
  const { strideX: stride, outChannels } = one;
  const px = 4 / stride;
  const fits =
    sg > 4 &&
    one.channels === 3 &&
    one.kernelHeight === 3 &&
    one.kernelWidth === 3 &&
    (stride === 1 || stride === 2) &&
    one.strideY === stride &&
    one.padLeft === 0 &&
    one.width % 4 === 0 &&
    (px * outChannels) / 4 <= 16;
  if (!fits) return [];
  return [
    {
      file: 'conv2d.uniform',
      kernel: 'forwardRows',
      constants: { SG: sg, PX: px, CO: outChannels / 4, STRIDE: stride, ROWS },
      pixels: px * ROWS * sg,
      block: outChannels,
      uniform: UNIFORM,
      strips: [sg, px, ROWS],
      names: { ...PLAIN_NAMES, x: 'image' },
    },
  ];
}

function subgroupImageTile({ channels }: Convolution, sg: number): Tile {
  return {
    file: 'conv2d.subgroups',
    kernel: 'forwardImage',
    constants: { SG: sg, IM: 16, IV: 1, IC: sg === 4 && channels % 3 === 0 ? 3 : 1 },
    pixels: 16,
    block: 4 * sg,
    names: { ...PLAIN_NAMES, x: 'image' },
  };
}

/** Plain loads, for adapters without subgroups of one size. Few pixels: smaller tiles. */
function directTiles(one: Convolution): readonly Tile[] {
  const pixels = one.gridHeight * one.gridWidth;
  const sizes: readonly (readonly [number, number])[] =
    pixels >= 64
      ? [
          [8, 2],
          [6, 1],
          [9, 1],
        ]
      : pixels >= 16
        ? [
            [6, 1],
            [9, 1],
            [8, 2],
          ]
        : [
            [9, 1],
            [6, 1],
            [8, 2],
          ];
  return sizes.map(([m, v]) => ({
    file: 'conv2d',
    kernel: 'forwardVec4',
    constants: { TM: m, V: v },
    pixels: m,
    block: 32 * v,
    names: VEC4_NAMES,
  }));
}

const DIRECT_IMAGE_TILE: Tile = {
  file: 'conv2d',
  kernel: 'forwardImage',
  constants: { TM: 8, V: 2 },
  pixels: 8,
  block: 64,
  names: { ...VEC4_NAMES, x: 'x' },
};

/**
 * Tiles in workgroup memory, for GPUs. Large maps have work for many large tiles even at batch 1; in small ones a large tile would be
 * mostly empty there. Steps of 16 or 8 channels; scalar loads where neither divides channels.
 */
function workgroupTiles(one: Convolution, { limits }: WebGpuAdapter, vec4: boolean): readonly Tile[] {
  const image = !vec4 || one.channels % 8 !== 0;
  const make = (bm: number, bn: number, bk: number, tm: number, v: number) => ({
    threads: (bm / tm) * (bn / (4 * v)),
    bytes: 2 * (bm + bn) * bk * 4,
    tile: {
      file: 'conv2d.tile',
      kernel: image ? 'forwardImage' : 'forward',
      constants: { BM: bm, BN: bn, BK: bk, TM: tm, V: v, THREADS: (bm / tm) * (bn / (4 * v)) },
      pixels: bm,
      block: bn,
      names: image ? { ...PLAIN_NAMES, x: 'image' } : PLAIN_NAMES,
    },
  });
  const bk = one.channels % 16 === 0 ? 16 : 8;
  const pixels = one.gridHeight * one.gridWidth;
  const large = make(128, 128, 8, 8, 2);
  const middle = make(64, 64, bk, 8, 1);
  const small = make(32, 32, bk, 4, 1);
  const sizes =
    pixels >= 1024 && one.outChannels > 64
      ? [large, middle, small]
      : pixels >= 64
        ? [middle, small, large]
        : [small, middle, large];
  return sizes
    .filter(
      ({ threads, bytes }) =>
        threads <= limits.maxComputeInvocationsPerWorkgroup && bytes <= limits.maxComputeWorkgroupStorageSize,
    )
    .map(({ tile }) => tile);
}

/** 'forwardChannels{"SG":8,"CM":12,"CV":1}' */
const tileName = ({ kernel, constants }: Tile) => kernel + JSON.stringify(constants);

/**
 * The best tile for one image, or the one a tuner found: the batch has no say, so that weights are packed once for all batches.
 */
export function bestTile(problem: Convolution, adapter: WebGpuAdapter, vec4: boolean, how: How = {}): Tile {
  const all = tiles(problem, adapter, vec4, how);
  const key = JSON.stringify([how.slices ?? 1, vec4, { ...problem, batch: 1 }]);
  const { variant, choice } = pick(key, all, tileName, adapter.preferred);
  return choice ? { ...variant, choice } : variant;
}

/** Names of the entry's tensors in the roles of a convolution. */
export interface Roles {
  readonly x: string;
  readonly weight: string;
  /** May name an absent input. */
  readonly bias?: string | undefined;
  readonly residual?: string | undefined;
  readonly y: string;
}

/** Params of tensors that are bound to something else and not read. */
const NO_BIAS = { hasBias: 0, hasBias4: 0 };
const NO_RESIDUAL = { residualStride: 0, residualOffset: 0, residual4Stride: 0, residual4Offset: 0 };

/** The step that computes a problem with a tile. Roles left out are bound to the weights. */
export function tileStep(
  problem: Convolution,
  tile: Tile,
  roles: Roles,
  params: Readonly<Record<string, number>> = {},
): KernelStep {
  const { names } = tile;
  return {
    kernel: tile.kernel,
    file: tile.file,
    constants: roles.residual ? { ...tile.constants, RESIDUAL: 1 } : tile.constants,
    tensors: {
      [names.x]: roles.x,
      [names.weight]: roles.weight,
      [names.bias]: roles.bias ?? roles.weight,
      [names.residual]: roles.residual ?? roles.weight,
      [names.y]: roles.y,
      flags: 'flags',
    },
    params: {
      ...problem,
      partChannels: problem.outChannels,
      ...(roles.bias ? {} : NO_BIAS),
      ...(roles.residual ? {} : NO_RESIDUAL),
      ...params,
    },
    launch: { workgroups: [workgroupsOf(problem, tile)] },
    ...(tile.choice && { choice: tile.choice }),
  };
}

function workgroupsOf(
  { batch, gridHeight, gridWidth, outChannels }: Convolution,
  { strips, pixels, block }: Tile,
): number {
  if (!strips) return ceil(batch * gridHeight * gridWidth, pixels) * ceil(outChannels, block);
  const [lanes, across, down] = strips;
  return ceil(batch * ceil(gridWidth, across) * ceil(gridHeight, down), lanes);
}

/** Elements of packed weights. */
export function packedElements(problem: Convolution, tile: Tile): number {
  const { kernelHeight, kernelWidth, channels, outChannels } = problem;
  const elements = kernelHeight * kernelWidth * channels * ceil(outChannels, tile.block) * tile.block;
  return elements === 0 ? 0 : Math.max(elements, tile.uniform ?? 0);
}

/** Output channels of one step: those whose weights fit where the tile wants them. */
function channelsOfStep({ kernelHeight, kernelWidth, channels, outChannels }: Convolution, tile: Tile): number {
  if (!tile.uniform) return outChannels;
  return Math.floor(tile.uniform / (kernelHeight * kernelWidth * channels * tile.block)) * tile.block;
}

export function packStep(
  kernel: 'packWeight' | 'packGradientWeight',
  to: string,
  elements: number,
  params: Readonly<Record<string, number>>,
): KernelStep {
  return {
    kernel,
    file: 'conv2d',
    tensors: { weight: 'weight', packed: to },
    params,
    launch: { invocations: elements },
  };
}

/** Packed weights of a forward pass, in as many steps as they have to be parted for. */
export function forwardLowering(problem: Convolution, tile: Tile, roles: Omit<Roles, 'weight'>): Lowering {
  const { kernelHeight, kernelWidth, channels, outChannels } = problem;
  const each = channelsOfStep(problem, tile);
  const steps: KernelStep[] = [];
  const packed: Record<string, { from: string; elements: number; step: KernelStep }> = {};
  for (let firstChannel = 0; firstChannel < outChannels; firstChannel += each) {
    const part = { ...problem, outChannels: Math.min(each, outChannels - firstChannel) };
    const name = `packedWeight${firstChannel || ''}`;
    const elements = packedElements(part, tile);
    const params = { kernelHeight, kernelWidth, channels, outChannels, firstChannel, block: tile.block };
    packed[name] = { from: 'weight', elements, step: packStep('packWeight', name, elements, params) };
    steps.push(tileStep(part, tile, { ...roles, weight: name }, { outChannels, firstChannel }));
  }
  return { steps, packed };
}

/** Taps times channels that a slice of a split sum has at least: below, writing and adding the slices takes more than a tenth of its products' time. */
const SLICE = 512;
/** Workgroups of one image, of 32 pixels by 32 channels, that keep a GPU busy. */
const BUSY = 64;

/**
 * Length of the slices that the sum of a problem is split into on a GPU: where one image has few workgroups and long sums, as 3x3 windows of
 * small maps. All of it: not split. Looks at one image and at no tile, since it changes the order of sums; a multiple of the steps of all tiles.
 */
export function sliceOf(problem: Convolution): number {
  const { gridHeight, gridWidth, channels, outChannels } = problem;
  const depth = depthOf(problem);
  const groups = ceil(gridHeight * gridWidth, 32) * ceil(outChannels, 32);
  const wanted = Math.min(Math.floor(depth / SLICE), ceil(BUSY, groups));
  return channels % 8 === 0 && wanted > 1 ? ceil(depth, wanted * 16) * 16 : depth;
}

/** Whether a GPU splits the sums of a problem. */
export const isSplit = (problem: Convolution, { software }: WebGpuAdapter) =>
  !software && sliceOf(problem) < depthOf(problem);

/** A lowering of one step by a tile of conv2d.tile.wgsl, its sums split into slices: they side by side, then their sum in order. */
export function splitLowering(
  { steps: [whole, ...others], packed = {} }: Lowering,
  problem: Convolution,
  tile: Tile,
  roles: Pick<Roles, 'residual' | 'y'>,
): Lowering {
  if (!whole || others.length > 0)
    throw new FaceNetError('internal', `conv2d: a sum that is split must be one step, got ${others.length + 1}.`);
  const { batch, outHeight, outWidth, outChannels } = problem;
  const elements = batch * outHeight * outWidth * outChannels;
  const slice = sliceOf(problem);
  const slices = ceil(depthOf(problem), slice);
  const chunk = slice / (tile.constants.BK as number);
  const [groups] = (whole.launch as { workgroups: readonly [number] }).workgroups;
  return {
    steps: [
      {
        ...whole,
        constants: tile.constants,
        tensors: {
          ...whole.tensors,
          [tile.names.residual]: whole.tensors?.[tile.names.weight] as string,
          [tile.names.y]: 'slices',
        },
        params: { ...whole.params, ...NO_RESIDUAL, relu: 0, chunk, yStride: outChannels / 4, ySlice: elements / 4 },
        launch: { workgroups: [groups, 1, slices] },
      },
      {
        kernel: 'sumSlices',
        file: tile.file,
        constants: roles.residual ? { RESIDUAL: 1 } : {},
        tensors: { slices: 'slices', residual: roles.residual ?? 'slices', y: roles.y, flags: 'flags' },
        params: { ...problem, chunks: slices, ...(roles.residual ? {} : NO_RESIDUAL) },
        launch: { invocations: elements / 4 },
      },
    ],
    packed,
    scratch: { slices: slices * elements },
  };
}

/** The parts of an input gradient along one axis: pixels start, start + step ... see the taps first, first + step ... */
function phases(size: number, kernel: number, step: number, pad: number) {
  return Array.from({ length: Math.min(step, size) }, (_, start) => {
    const first = (start + pad) % step;
    const taps = Math.max(0, ceil(kernel - first, step));
    return {
      start,
      first,
      taps,
      grid: ceil(size - start, step),
      pad: taps === 0 ? 0 : taps - 1 - Math.floor((start + pad) / step),
    };
  });
}

/**
 * The input gradient as forward problems on dy: each pixel of dx sees only the taps that its distance to the stride's grid allows, so
 * dx falls into strideY * strideX interleaved images, each a stride-1 convolution of dy with some of the taps, flipped.
 */
export function inputGradientLowering(
  forward: Convolution,
  choose: (problem: Convolution) => Tile,
  roles: { readonly dy: string; readonly dx: string },
  params: Readonly<Record<string, number>> = {},
): Lowering {
  const steps: KernelStep[] = [];
  const packed: Record<string, { from: string; elements: number; step: KernelStep }> = {};
  for (const y of phases(forward.height, forward.kernelHeight, forward.strideY, forward.padTop)) {
    for (const x of phases(forward.width, forward.kernelWidth, forward.strideX, forward.padLeft)) {
      const problem: Convolution = {
        batch: forward.batch,
        height: forward.outHeight,
        width: forward.outWidth,
        channels: forward.outChannels,
        outHeight: forward.height,
        outWidth: forward.width,
        outChannels: forward.channels,
        kernelHeight: y.taps,
        kernelWidth: x.taps,
        strideY: 1,
        strideX: 1,
        padTop: y.pad,
        padLeft: x.pad,
        relu: 0,
        gridHeight: y.grid,
        gridWidth: x.grid,
        stepY: forward.strideY,
        stepX: forward.strideX,
        startY: y.start,
        startX: x.start,
      };
      const tile = choose(problem);
      const elements = packedElements(problem, tile);
      const name = `packed${y.start}x${x.start}`;
      if (elements > 0) {
        const step = packStep('packGradientWeight', name, elements, {
          kernelHeight: y.taps,
          kernelWidth: x.taps,
          channels: problem.channels,
          outChannels: problem.outChannels,
          height: forward.kernelHeight,
          width: forward.kernelWidth,
          padTop: y.first,
          padLeft: x.first,
          stepY: forward.strideY,
          stepX: forward.strideX,
          block: tile.block,
        });
        packed[name] = { from: 'weight', elements, step };
      }
      steps.push(tileStep(problem, tile, { x: roles.dy, weight: elements > 0 ? name : 'weight', y: roles.dx }, params));
    }
  }
  return { steps, packed };
}

/** 2x2 tiles of the output of one image. */
const winogradTiles = (problem: Convolution) => ceil(problem.outHeight, 2) * ceil(problem.outWidth, 2);

/**
 * Whether Winograd's form pays: 3x3 with stride 1, at least `least` tiles an image, and fewer operations, where an element of a
 * transformed tensor costs 26 multiply-adds (measured on lavapipe and SwiftShader alike); and whether those tensors, 16 / 4 times as
 * large as x and y, leave room for batches. Looks at one image: it changes the order of sums.
 */
function winogradPays(problem: Convolution, adapter: WebGpuAdapter, least: number): boolean {
  const { kernelHeight, kernelWidth, strideY, strideX, channels, outChannels } = problem;
  const tilesOfImage = winogradTiles(problem);
  const direct = 9 * problem.outHeight * problem.outWidth * channels * outChannels;
  const winograd = 16 * tilesOfImage * (channels * outChannels + 26 * (channels + outChannels));
  const scratch = 16 * tilesOfImage * Math.max(channels, outChannels) * 4;
  return (
    adapter.software &&
    kernelHeight === 3 &&
    kernelWidth === 3 &&
    strideY === 1 &&
    strideX === 1 &&
    tilesOfImage >= least &&
    winograd < 0.85 * direct &&
    scratch * 12 <= adapter.limits.maxStorageBufferBindingSize
  );
}

/** Fewest tiles of one image. A forward pass may be of one image, whose products need rows; gradients are of batches. */
const WINOGRAD_FORWARD = 30;
const WINOGRAD_GRADIENT = 9;

/** Winograd's form of a problem: transform, 16 products by tiles, transform back. `flipped`: the problem is an input gradient. */
export function winogradLowering(
  problem: Convolution,
  adapter: WebGpuAdapter,
  roles: Omit<Roles, 'weight'>,
  flipped = false,
): Lowering {
  const { batch, channels, outChannels } = problem;
  const tilesY = ceil(problem.outHeight, 2);
  const tilesX = ceil(problem.outWidth, 2);
  const count = batch * tilesY * tilesX;
  const product: Convolution = {
    ...problem,
    height: tilesY,
    width: tilesX,
    outHeight: tilesY,
    outWidth: tilesX,
    gridHeight: tilesY,
    gridWidth: tilesX,
    kernelHeight: 1,
    kernelWidth: 1,
    padTop: 0,
    padLeft: 0,
    relu: 0,
  };
  const tile = bestTile(product, adapter, true, { slices: 16 });
  const slice = packedElements(product, tile);
  const file = 'conv2d.winograd';
  const params = { ...problem, tilesY, tilesX };
  const transform = { invocations: (count * channels) / 4 };
  const multiply = tileStep(
    product,
    tile,
    { x: 'v', weight: 'packedWeight', y: 'm' },
    {
      xStride: channels / 4,
      x4Stride: channels / 4,
      yStride: outChannels / 4,
      y4Stride: outChannels / 4,
      xSlice: (count * channels) / 4,
      weightSlice: slice / 4,
      ySlice: (count * outChannels) / 4,
    },
  );
  return {
    steps: [
      { kernel: 'transformInput', file, tensors: { x: roles.x, v: 'v' }, params, launch: transform },
      {
        ...multiply,
        launch: { workgroups: [(multiply.launch as { workgroups: readonly [number] }).workgroups[0], 1, 16] },
      },
      {
        kernel: 'transformOutput',
        file,
        params: { ...params, ...(roles.bias ? {} : { hasBias: 0 }), ...(roles.residual ? {} : NO_RESIDUAL) },
        constants: roles.residual ? { RESIDUAL: 1 } : {},
        tensors: {
          m: 'm',
          bias: roles.bias ?? 'packedWeight',
          residual: roles.residual ?? 'packedWeight',
          y: roles.y,
          flags: 'flags',
        },
        launch: { invocations: (count * outChannels) / 4 },
      },
    ],
    scratch: { v: 16 * count * channels, m: 16 * count * outChannels },
    packed: {
      packedWeight: {
        from: 'weight',
        elements: 16 * slice,
        step: {
          kernel: 'packWeight',
          file,
          tensors: { weight: 'weight', packed: 'packedWeight' },
          params: { channels, outChannels, block: tile.block, flipped: flipped ? 1 : 0 },
          launch: { invocations: slice },
        },
      },
    },
  };
}

/** The input gradient of a convolution with stride 1, as a forward problem on dy with flipped weights. */
function flippedProblem(forward: Convolution): Convolution {
  return {
    ...forward,
    height: forward.outHeight,
    width: forward.outWidth,
    channels: forward.outChannels,
    outHeight: forward.height,
    outWidth: forward.width,
    outChannels: forward.channels,
    padTop: forward.kernelHeight - 1 - forward.padTop,
    padLeft: forward.kernelWidth - 1 - forward.padLeft,
    relu: 0,
    gridHeight: forward.height,
    gridWidth: forward.width,
  };
}

/**
 * dweight by subgroup tiles; rows are (tap, input channel). Loads are what a tile costs: 2 vec4s of channels a lane took a quarter less
 * time on four lanes, twice as many rows a sixth less on eight.
 */
export function weightGradientLowering(problem: Convolution, sg: number, vec4: boolean): Lowering {
  const rows = problem.kernelHeight * problem.kernelWidth * problem.channels;
  const narrow = sg === 4;
  const m = narrow ? 4 : 8;
  const image = narrow ? 8 : 16;
  const [kernel, x, constants, height, block]: [string, string, Record<string, number>, number, number] = vec4
    ? ['weightGradient', 'x', { SG: sg, WM: m, WV: narrow ? 2 : 1 }, 4 * m, narrow ? 8 * sg : 4 * sg]
    : ['weightGradientImage', 'image', { SG: sg, XM: image, XV: 2 }, image, 8 * sg];
  return {
    steps: [
      {
        kernel,
        file: 'conv2d.subgroups',
        constants,
        tensors: { [x]: 'x', dy: 'dy', dweight: 'dweight' },
        params: { ...problem },
        launch: { workgroups: [ceil(rows, height) * ceil(problem.outChannels, block)] },
      },
    ],
  };
}

/** Pixels summed by one workgroup of a GPU's weight gradient: at least this many, and 16 chunks at most. */
const CHUNK = 2048;

/** dweight by tiles in workgroup memory: chunks of pixels side by side, then their sum in order. */
export function chunkedWeightGradientLowering(problem: Convolution, vec4: boolean): Lowering {
  const pixels = problem.batch * problem.outHeight * problem.outWidth;
  const chunk = CHUNK * ceil(pixels, CHUNK * 16);
  const chunks = ceil(pixels, chunk);
  const rows = problem.kernelHeight * problem.kernelWidth * problem.channels;
  const elements = rows * problem.outChannels;
  const [kernel, x] = vec4 ? ['weightGradient', 'x'] : ['weightGradientImage', 'image'];
  const file = 'conv2d.tile';
  const params = { ...problem, chunk, chunks };
  return {
    steps: [
      {
        kernel,
        file,
        params,
        tensors: { [x]: 'x', dy: 'dy', partial: 'partial' },
        launch: { workgroups: [ceil(rows, 64) * ceil(problem.outChannels, 64), 1, chunks] },
      },
      {
        kernel: 'sumChunks',
        file,
        params,
        tensors: { parts: 'partial', dweight: 'dweight' },
        launch: { invocations: elements },
      },
    ],
    scratch: { partial: chunks * elements },
  };
}

/** dweight in Winograd's form: both operands transformed, 16 products over tiles, the result transformed back. */
function winogradWeightGradientLowering(problem: Convolution, sg: number): Lowering {
  const { batch, channels, outChannels } = problem;
  const tilesY = ceil(problem.outHeight, 2);
  const tilesX = ceil(problem.outWidth, 2);
  const count = batch * tilesY * tilesX;
  const file = 'conv2d.winograd';
  const params = { ...problem, tilesY, tilesX };
  const product = {
    ...problem,
    height: tilesY,
    width: tilesX,
    outHeight: tilesY,
    outWidth: tilesX,
    kernelHeight: 1,
    kernelWidth: 1,
    padTop: 0,
    padLeft: 0,
  };
  const [multiply] = weightGradientLowering(product, sg, true).steps as [KernelStep];
  const [groups] = (multiply.launch as { workgroups: readonly [number] }).workgroups;
  return {
    steps: [
      {
        kernel: 'transformInput',
        file,
        tensors: { x: 'x', v: 'v' },
        params,
        launch: { invocations: (count * channels) / 4 },
      },
      {
        kernel: 'transformGradient',
        file,
        tensors: { dy: 'dy', z: 'z' },
        params,
        launch: { invocations: (count * outChannels) / 4 },
      },
      {
        ...multiply,
        tensors: { x: 'v', dy: 'z', dweight: 'u' },
        params: {
          ...product,
          xStride: channels / 4,
          dyStride: outChannels / 4,
          xSlice: (count * channels) / 4,
          weightSlice: (count * outChannels) / 4,
          ySlice: (channels * outChannels) / 4,
        },
        launch: { workgroups: [groups, 1, 16] },
      },
      {
        kernel: 'transformWeightGradient',
        file,
        tensors: { u: 'u', dweight: 'dweight' },
        params,
        launch: { invocations: channels * outChannels },
      },
    ],
    scratch: { v: 16 * count * channels, z: 16 * count * outChannels, u: 16 * channels * outChannels },
  };
}

/** The problem of a forward pass, from the params that every entry of conv2d has. */
function forwardProblem(params: Readonly<Record<string, number>>): Convolution {
  return {
    ...params,
    gridHeight: params.outHeight,
    gridWidth: params.outWidth,
    stepY: 1,
    stepX: 1,
    startY: 0,
    startX: 0,
  } as unknown as Convolution;
}

/** The forward problem behind an entry. */
const problemOf = (entry: keyof typeof conv2dOperator.entries, shapes: Shapes, attributes: Conv2d): Convolution =>
  forwardProblem(conv2dOperator.entries[entry].params(shapes, attributes as never));

/** Whether these tensors can be read and written as vec4s: channels, offset and stride are multiples of four. */
export function isVec4(shapes: Shapes, views: Views, ...tensors: string[]): boolean {
  return tensors.every((name) => {
    const shape = shapes[name];
    const view = views[name];
    return !shape || (columns(shape as Shape) % 4 === 0 && (!view || (view.offset % 4 === 0 && view.stride % 4 === 0)));
  });
}

/** The order of the plain kernels has no name. */
const PLAIN = '';

/** Kernels of conv2d. */
export const families: FamilyTable<WebGpuAdapter> = [
  {
    entry: 'forward',
    name: 'winograd',
    order: 'winograd-f2',
    when: (shapes, attributes: Conv2d, adapter, views) =>
      isVec4(shapes, views, 'x', 'y', 'residual') &&
      winogradPays(problemOf('forward', shapes, attributes), adapter, WINOGRAD_FORWARD),
    lower: (shapes, attributes: Conv2d, adapter) =>
      winogradLowering(problemOf('forward', shapes, attributes), adapter, {
        x: 'x',
        bias: 'bias',
        residual: shapes.residual && 'residual',
        y: 'y',
      }),
  },
  {
    entry: 'inputGradient',
    name: 'winograd',
    order: 'winograd-f2',
    when: (shapes, attributes: Conv2d, adapter, views) =>
      isVec4(shapes, views, 'dx', 'dy') &&
      winogradPays(problemOf('inputGradient', shapes, attributes), adapter, WINOGRAD_GRADIENT),
    lower: (shapes, attributes: Conv2d, adapter) =>
      winogradLowering(
        flippedProblem(problemOf('inputGradient', shapes, attributes)),
        adapter,
        { x: 'dy', y: 'dx' },
        true,
      ),
  },
  {
    entry: 'forward',
    name: 'split',
    order: 'split',
    when: (shapes, attributes: Conv2d, adapter, views) =>
      isVec4(shapes, views, 'x', 'y', 'residual') && isSplit(problemOf('forward', shapes, attributes), adapter),
    lower(shapes, attributes: Conv2d, adapter) {
      const problem = problemOf('forward', shapes, attributes);
      const tile = bestTile(problem, adapter, true);
      const roles = { x: 'x', bias: 'bias', residual: shapes.residual && 'residual', y: 'y' };
      return splitLowering(forwardLowering(problem, tile, roles), problem, tile, roles);
    },
  },
  {
    entry: 'inputGradient',
    name: 'split',
    order: 'split',
    when: (shapes, attributes: Conv2d, adapter, views) => {
      const problem = problemOf('inputGradient', shapes, attributes);
      return (
        problem.strideY * problem.strideX === 1 &&
        isVec4(shapes, views, 'dx', 'dy') &&
        isSplit(flippedProblem(problem), adapter)
      );
    },
    lower(shapes, attributes: Conv2d, adapter) {
      const forward = problemOf('inputGradient', shapes, attributes);
      const problem = flippedProblem(forward);
      const tile = bestTile(problem, adapter, true);
      return splitLowering(
        inputGradientLowering(forward, () => tile, { dy: 'dy', dx: 'dx' }),
        problem,
        tile,
        { y: 'dx' },
      );
    },
  },
  {
    entry: 'forward',
    name: 'tiles',
    order: PLAIN,
    when: (shapes, _, __, views) => isVec4(shapes, views, 'y', 'residual'),
    lower(shapes, attributes: Conv2d, adapter, views) {
      const problem = problemOf('forward', shapes, attributes);
      const { stride = problem.channels, offset = 0 } = views.x ?? {};
      const dense = stride === problem.channels && offset % 4 === 0 && !shapes.residual;
      const tile = bestTile(problem, adapter, isVec4(shapes, views, 'x'), { dense, parts: true });
      return forwardLowering(problem, tile, { x: 'x', bias: 'bias', residual: shapes.residual && 'residual', y: 'y' });
    },
  },
  {
    entry: 'inputGradient',
    name: 'tiles',
    order: PLAIN,
    when: (shapes, _, __, views) => isVec4(shapes, views, 'dx'),
    lower(shapes, attributes: Conv2d, adapter, views) {
      const vec4 = isVec4(shapes, views, 'dy');
      return inputGradientLowering(
        problemOf('inputGradient', shapes, attributes),
        (problem) => bestTile(problem, adapter, vec4),
        { dy: 'dy', dx: 'dx' },
      );
    },
  },
  {
    entry: 'weightGradient',
    name: 'winograd',
    order: 'winograd-f2',
    when: (shapes, attributes: Conv2d, adapter, views) =>
      hasSubgroupTiles(adapter) &&
      isVec4(shapes, views, 'x', 'dy') &&
      winogradPays(problemOf('weightGradient', shapes, attributes), adapter, WINOGRAD_GRADIENT),
    lower: (shapes, attributes: Conv2d, adapter) =>
      winogradWeightGradientLowering(problemOf('weightGradient', shapes, attributes), adapter.subgroups as number),
  },
  {
    entry: 'weightGradient',
    name: 'subgroups',
    order: PLAIN,
    when: (shapes, _, adapter, views) => hasSubgroupTiles(adapter) && isVec4(shapes, views, 'dy'),
    lower: (shapes, attributes: Conv2d, adapter, views) =>
      weightGradientLowering(
        problemOf('weightGradient', shapes, attributes),
        adapter.subgroups as number,
        isVec4(shapes, views, 'x'),
      ),
  },
  {
    entry: 'weightGradient',
    name: 'chunks',
    order: 'chunks',
    when: (shapes, _, adapter, views) => !adapter.software && isVec4(shapes, views, 'dy'),
    lower: (shapes, attributes: Conv2d, _, views) =>
      chunkedWeightGradientLowering(problemOf('weightGradient', shapes, attributes), isVec4(shapes, views, 'x')),
  },
  {
    entry: 'biasGradient',
    name: 'vec4',
    order: PLAIN,
    when: (shapes, _, __, views) => isVec4(shapes, views, 'dy'),
    lower: ({ dy }, _, adapter) => ({
      steps: [
        {
          kernel: 'biasGradient4',
          constants: adapter.software ? REDUCTION : {},
          tensors: { dy4: 'dy', dbias4: 'dbias' },
          launch: { workgroups: [columns(dy as Shape) / 4] },
        },
      ],
    }),
  },
];
