import type { Shapes } from '../../../graph/operator.ts';
import { columns, type Shape, size } from '../../../graph/shape.ts';
import type { Conv2d } from '../../../ops/conv2d.ts';
import type { FamilyTable } from '../../../plan/lowering.ts';
import type { WasmAdapter } from '../wasm-backend.ts';
import { bands, packedColumns } from './gemm.ts';

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

/** Kernels of conv2d besides the plain ones of asm/conv2d.ts. */
export const families: FamilyTable<WasmAdapter> = [
  { entry: 'forward', name: 'direct', order: 'direct', when: () => true, lower: direct },
];
