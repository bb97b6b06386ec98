import type { Shapes } from '../../../graph/operator.ts';
import { columns, type Shape, size } from '../../../graph/shape.ts';
import type { Conv2d } from '../../../ops/conv2d.ts';
import type { FamilyTable } from '../../../plan/lowering.ts';
import type { WasmAdapter } from '../wasm-backend.ts';
import { bands, LINE, packedColumns, roundUp } from './gemm.ts';

type Image = readonly [batch: number, height: number, width: number, channels: number];
type Weight = readonly [kernelHeight: number, kernelWidth: number, channels: number, outChannels: number];

/** Grids mean nothing to this backend: every thread runs every kernel. */
const launch = { invocations: 1 } as const;

/** asm/direct.ts: the same order of sums as the plain kernel, weights packed in panels. */
function direct(shapes: Shapes, a: Conv2d, adapter: WasmAdapter) {
  const [batch, , , channels] = shapes.x as Image;
  const [kernelHeight, kernelWidth] = shapes.weight as Weight;
  const [, outHeight, outWidth, outChannels] = shapes.y as Image;
  const { params, floats } = bands({
    batch, lines: outHeight, pixels: outWidth, step: a.strideY, reach: kernelHeight,
    lineFloats: ((outWidth - 1) * a.strideX + kernelWidth) * channels,
    copies: kernelHeight * kernelWidth > 1 || a.padTop + a.padLeft + a.padBottom + a.padRight > 0,
  }, adapter);
  const rows = size((shapes.weight as Shape).slice(0, 3));
  return {
    steps: [{ kernel: 'direct', params, launch }],
    scratch: { scratch: floats },
    packed: {
      panels: {
        from: 'weight', elements: rows * packedColumns(outChannels, adapter),
        step: { kernel: 'packWeight', params: { rows, columns: columns(shapes.weight as Shape) }, launch },
      },
    },
  };
}

/** asm/direct.ts: one convolution of stride 1 over dy per remainder of the stride, with flipped weights. */
function inputGradient(shapes: Shapes, a: Conv2d, adapter: WasmAdapter) {
  const [batch, height, width, channels] = shapes.dx as Image;
  const [kernelHeight, kernelWidth, , outChannels] = shapes.weight as Weight;
  const steps = (size: number, stride: number, pad: number) => Math.floor((size - 1 + pad) / stride) - Math.floor(pad / stride) + 1;
  const pixels = steps(width, a.strideX, a.padLeft);
  const reach = Math.ceil(kernelHeight / a.strideY);
  const { params, floats } = bands({
    batch, lines: steps(height, a.strideY, a.padTop), pixels, step: 1, reach,
    lineFloats: (pixels + Math.ceil(kernelWidth / a.strideX) - 1) * outChannels,
    copies: kernelHeight * kernelWidth > 1 || a.padTop + a.padLeft + a.padBottom + a.padRight > 0 || a.strideY * a.strideX > 1,
  }, adapter);
  return {
    steps: [{ kernel: 'inputGradientDirect', params, launch }],
    scratch: { scratch: floats },
    packed: {
      panels: {
        from: 'weight', elements: kernelHeight * kernelWidth * outChannels * packedColumns(channels, adapter),
        step: {
          kernel: 'packTransposed', launch,
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
  const gatherStride = roundUp(runTaps * channels, 2 * LINE) + LINE;
  const threadFloats = BLOCK * (gatherStride + NARROW);
  return {
    steps: [{ kernel: 'weightGradientDirect', params: { runTaps, gatherStride, threadFloats }, launch }],
    scratch: { scratch: adapter.threads * threadFloats },
  };
}

/** Kernels of conv2d besides the plain ones of asm/conv2d.ts. */
export const families: FamilyTable<WasmAdapter> = [
  { entry: 'forward', name: 'direct', order: 'direct', when: () => true, lower: direct },
  { entry: 'inputGradient', name: 'direct', order: 'direct', when: () => true, lower: inputGradient },
  { entry: 'weightGradient', name: 'direct', order: 'blocked', when: () => true, lower: weightGradient },
];
