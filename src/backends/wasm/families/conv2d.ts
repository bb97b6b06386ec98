import type { Shapes } from '../../../graph/operator.ts';
import { columns, type Shape, size } from '../../../graph/shape.ts';
import type { Conv2d } from '../../../ops/conv2d.ts';
import type { Family, FamilyTable } from '../../../plan/lowering.ts';
import type { WasmAdapter } from '../wasm-backend.ts';
import { bands, LINE, packedColumns, roundUp, tableFloats } from './gemm.ts';

type Image = readonly [batch: number, height: number, width: number, channels: number];
type Weight = readonly [kernelHeight: number, kernelWidth: number, channels: number, outChannels: number];

/** Grids mean nothing to this backend: every thread runs every kernel. */
const launch = { invocations: 1 } as const;

/** asm/direct.ts: the same order of sums as the plain kernel, weights packed in panels. */
function direct(shapes: Shapes, a: Conv2d, adapter: WasmAdapter) {
  const [batch, , , channels] = shapes.x as Image;
  const [kernelHeight, kernelWidth] = shapes.weight as Weight;
  const [, outHeight, outWidth, outChannels] = shapes.y as Image;
  const { params, floats } = bands(
    {
      batch,
      lines: outHeight,
      pixels: outWidth,
      step: a.strideY,
      reach: kernelHeight,
      lineFloats: ((outWidth - 1) * a.strideX + kernelWidth) * channels,
      copies: kernelHeight * kernelWidth > 1 || a.padTop + a.padLeft + a.padBottom + a.padRight > 0,
    },
    adapter,
  );
  const rows = size((shapes.weight as Shape).slice(0, 3));
  return {
    steps: [{ kernel: 'direct', params, launch }],
    scratch: { scratch: floats },
    packed: {
      panels: {
        from: 'weight',
        elements: rows * packedColumns(outChannels, adapter),
        step: { kernel: 'packWeight', params: { rows, columns: columns(shapes.weight as Shape) }, launch },
      },
    },
  };
}

/** asm/direct.ts: one convolution of stride 1 over dy per remainder of the stride, with flipped weights. */
function inputGradient(shapes: Shapes, a: Conv2d, adapter: WasmAdapter) {
  const [batch, height, width, channels] = shapes.dx as Image;
  const [kernelHeight, kernelWidth, , outChannels] = shapes.weight as Weight;
  const steps = (size: number, stride: number, pad: number) =>
    Math.floor((size - 1 + pad) / stride) - Math.floor(pad / stride) + 1;
  const pixels = steps(width, a.strideX, a.padLeft);
  const reach = Math.ceil(kernelHeight / a.strideY);
  const { params, floats } = bands(
    {
      batch,
      lines: steps(height, a.strideY, a.padTop),
      pixels,
      step: 1,
      reach,
      lineFloats: (pixels + Math.ceil(kernelWidth / a.strideX) - 1) * outChannels,
      copies:
        kernelHeight * kernelWidth > 1 ||
        a.padTop + a.padLeft + a.padBottom + a.padRight > 0 ||
        a.strideY * a.strideX > 1,
    },
    adapter,
  );
  return {
    steps: [{ kernel: 'inputGradientDirect', params, launch }],
    scratch: { scratch: floats },
    packed: {
      panels: {
        from: 'weight',
        elements: kernelHeight * kernelWidth * outChannels * packedColumns(channels, adapter),
        step: {
          kernel: 'packTransposed',
          launch,
          params: { kernelHeight, kernelWidth, channels, outChannels, strideY: a.strideY, strideX: a.strideX },
        },
      },
    },
  };
}

/** Output pixels of a block of the weight gradient, and columns of its scratch for dy (asm/direct.ts). */
const BLOCK = 128;
const NARROW = 12;

/** asm/direct.ts: products of gathered pixels of x with dy, in blocks of pixels. */
function weightGradient(shapes: Shapes, _: Conv2d, adapter: WasmAdapter) {
  const [, kernelWidth, channels] = shapes.dweight as Weight;
  // Few channels: all taps of a kernel line are gathered together, else each by itself.
  const runTaps = kernelWidth * channels <= 96 ? kernelWidth : 1;
  // An odd number of cache lines, so that the rows of a block do not fall into the same sets of the cache.
  const gatherStride = oddLines(runTaps * channels);
  const threadFloats = BLOCK * (gatherStride + NARROW);
  return {
    steps: [{ kernel: 'weightGradientDirect', params: { runTaps, gatherStride, threadFloats }, launch }],
    scratch: { scratch: adapter.threads * threadFloats },
  };
}

/** Bytes of V and P of a block of tiles: they pass through the second cache between the three phases. */
const TILE_BYTES = 1024 * 1024;
/** Columns of P that exist at a time (asm/winograd.ts, `CHUNK`). */
const CHUNK = 48;
/** Floats that a thread has for addresses of a tile's pixels and for intermediate values (asm/winograd.ts). */
const TILE_FLOATS = 48 + 144;

/** F(2x2, 3x3), F(4x4, 3x3), F(2x2, 5x5): names of kernels in asm/winograd.ts, products per tile, order of sums. */
const tilings = {
  F2: { points: 16, order: 'winograd-f2' },
  F4: { points: 36, order: 'winograd-f4' },
  F2K5: { points: 36, order: 'winograd-f2-5x5' },
} as const;
type Tiling = keyof typeof tilings;

/** Floats rounded up to an odd number of cache lines: matrices one after the other begin in different sets of the cache. */
const oddLines = (floats: number) => roundUp(floats, 2 * LINE) + LINE;

/** Numbers that a Winograd kernel takes, scratch of all threads and size of the weights, from `channels` to `outChannels`. */
function winograd(tiling: Tiling, channels: number, outChannels: number, adapter: WasmAdapter) {
  const { points } = tilings[tiling];
  const blockTiles = Math.max(12, Math.min(96, Math.floor(TILE_BYTES / (points * (channels + CHUNK) * 4) / 12) * 12));
  const threadFloats =
    roundUp(tableFloats(blockTiles), LINE) +
    TILE_FLOATS +
    roundUp(channels, LINE) +
    points * (oddLines(blockTiles * channels) + oddLines(blockTiles * CHUNK));
  return {
    params: { blockTiles, threadFloats },
    scratch: { scratch: adapter.threads * threadFloats },
    elements: points * oddLines(channels * packedColumns(outChannels, adapter)),
  };
}

/** Fewer channels than this leave too little work per transform. */
const FEWEST_CHANNELS = 16;

/**
 * How a convolution that writes maps of this size is tiled, if at all. By map size and channels alone, measured with cold weights at
 * batch 1 and warm ones at 8. 3x3: tiles of four win unless they cover 1.4 times the area that tiles of two do (maps of 6, 9,
 * 10). Below 5 a map has too few tiles for the weights that each needs.
 */
function tilingOf(height: number, width: number, weight: Weight, a: Conv2d): Tiling | undefined {
  const [kernelHeight, kernelWidth, channels, outChannels] = weight;
  if (kernelHeight !== kernelWidth || a.strideY !== 1 || a.strideX !== 1) return undefined;
  if (Math.min(channels, outChannels) < FEWEST_CHANNELS || Math.min(height, width) < 5) return undefined;
  if (kernelHeight === 5) return 'F2K5';
  if (kernelHeight !== 3) return undefined;
  const area = (tile: number) => roundUp(height, tile) * roundUp(width, tile);
  return Math.min(height, width) >= 7 && area(4) < 1.4 * area(2) ? 'F4' : 'F2';
}

const forwardTiling = (shapes: Shapes, a: Conv2d) => {
  const [, height, width] = shapes.y as Image;
  return tilingOf(height, width, shapes.weight as Weight, a);
};

/** The gradient is a convolution padded by taps - 1 - padding, which must not be negative. */
const gradientTiling = (shapes: Shapes, a: Conv2d) => {
  const [, height, width] = shapes.dx as Image;
  const [taps] = shapes.weight as Weight;
  return Math.max(a.padTop, a.padLeft) >= taps ? undefined : tilingOf(height, width, shapes.weight as Weight, a);
};

const winogradForward = (tiling: Tiling): Family<WasmAdapter> => ({
  entry: 'forward',
  name: tilings[tiling].order,
  order: tilings[tiling].order,
  when: (shapes, a) => forwardTiling(shapes, a) === tiling,
  lower(shapes, _, adapter) {
    const [, , channels, outChannels] = shapes.weight as Weight;
    const { params, scratch, elements } = winograd(tiling, channels, outChannels, adapter);
    const step = { kernel: `transformWeight${tiling}`, params: { channels, outChannels, transposed: 0 }, launch };
    const steps = [{ kernel: `winograd${tiling}`, params, launch }];
    return { steps, scratch, packed: { panels: { from: 'weight', elements, step } } };
  },
});

const winogradInputGradient = (tiling: Tiling): Family<WasmAdapter> => ({
  entry: 'inputGradient',
  name: tilings[tiling].order,
  order: tilings[tiling].order,
  when: (shapes, a) => gradientTiling(shapes, a) === tiling,
  lower(shapes, _, adapter) {
    const [, , channels, outChannels] = shapes.weight as Weight;
    const { params, scratch, elements } = winograd(tiling, outChannels, channels, adapter);
    const step = { kernel: `transformWeight${tiling}`, params: { channels, outChannels, transposed: 1 }, launch };
    const steps = [{ kernel: `inputGradientWinograd${tiling}`, params, launch }];
    return { steps, scratch, packed: { panels: { from: 'weight', elements, step } } };
  },
});

/** F(3x3, 4x4) and F(5x5, 2x2), the gradients of weights, by taps: kernels in asm/winograd.ts, order of sums. */
const weightTilings = {
  3: { kernel: 'weightGradientWinogradF3', order: 'winograd-f3-4x4' },
  5: { kernel: 'weightGradientWinogradF5', order: 'winograd-f5-2x2' },
} as const;
type Taps = keyof typeof weightTilings;

/**
 * Tiles whose products are added up before they are added to the gradient. 36 to 72 take the same time: fewer pass over the products too
 * often, more leave the second cache.
 */
const BLOCK_TILES = 48;
/** On smaller maps most of a tile lies outside: at 5 x 5 the time is the direct kernel's. */
const LEAST_MAP = 6;

const winogradWeightGradient = (taps: Taps): Family<WasmAdapter> => ({
  entry: 'weightGradient',
  name: weightTilings[taps].order,
  order: weightTilings[taps].order,
  when(shapes, a: Conv2d) {
    const [kernelHeight, kernelWidth, channels, outChannels] = shapes.dweight as Weight;
    const [, height, width] = shapes.dy as Image;
    if (kernelHeight !== taps || kernelWidth !== taps || a.strideY !== 1 || a.strideX !== 1) return false;
    return Math.min(channels, outChannels) >= FEWEST_CHANNELS && Math.min(height, width) >= LEAST_MAP;
  },
  lower(shapes, _, adapter) {
    const [, , channels, outChannels] = shapes.dweight as Weight;
    const packed = packedColumns(outChannels, adapter);
    const perElement =
      oddLines(BLOCK_TILES * oddLines(channels)) + oddLines(BLOCK_TILES * packed) + oddLines(channels * packed);
    const perThread = TILE_FLOATS + roundUp(Math.max(channels, outChannels), LINE);
    return {
      steps: [{ kernel: weightTilings[taps].kernel, params: { blockTiles: BLOCK_TILES }, launch }],
      scratch: { scratch: 36 * perElement + adapter.threads * perThread },
    };
  },
});

/** Kernels of conv2d besides the plain ones of asm/conv2d.ts. */
export const families: FamilyTable<WasmAdapter> = [
  winogradForward('F4'),
  winogradForward('F2'),
  winogradForward('F2K5'),
  { entry: 'forward', name: 'direct', order: 'direct', when: () => true, lower: direct },
  winogradInputGradient('F4'),
  winogradInputGradient('F2'),
  winogradInputGradient('F2K5'),
  { entry: 'inputGradient', name: 'direct', order: 'direct', when: () => true, lower: inputGradient },
  winogradWeightGradient(3),
  winogradWeightGradient(5),
  { entry: 'weightGradient', name: 'direct', order: 'blocked', when: () => true, lower: weightGradient },
];
