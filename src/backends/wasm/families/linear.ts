import type { Shapes } from '../../../graph/operator.ts';
import { columns, type Shape, size } from '../../../graph/shape.ts';
import type { FamilyTable, Views } from '../../../plan/lowering.ts';
import type { WasmAdapter } from '../wasm-backend.ts';
import { LINE, packedColumns, roundUp, tableFloats } from './gemm.ts';

const launch = { invocations: 1 } as const;

/** Rows of the left matrix that are worked on at a time: about 256 KiB of them, whatever the batch. */
function blocks(depth: number, { threads }: WasmAdapter) {
  const blockRows = Math.max(48, Math.min(1008, Math.floor(65536 / depth / 12) * 12));
  const threadFloats = roundUp(tableFloats(blockRows), LINE);
  return { params: { blockRows, threadFloats }, scratch: { scratch: threads * threadFloats } };
}

function forward(shapes: Shapes, _: unknown, adapter: WasmAdapter) {
  const [features, outputs] = shapes.weight as readonly [number, number];
  const { params, scratch } = blocks(features, adapter);
  return {
    steps: [{ kernel: 'direct', params, launch }],
    scratch,
    packed: {
      panels: {
        from: 'weight',
        elements: features * packedColumns(outputs, adapter),
        step: { kernel: 'packWeight', params: { features, outputs }, launch },
      },
    },
  };
}

function inputGradient(shapes: Shapes, _: unknown, adapter: WasmAdapter) {
  const [features, outputs] = shapes.weight as readonly [number, number];
  const { params, scratch } = blocks(outputs, adapter);
  return {
    steps: [{ kernel: 'inputGradientDirect', params, launch }],
    scratch,
    packed: {
      panels: {
        from: 'weight',
        elements: outputs * packedColumns(features, adapter),
        step: { kernel: 'packTransposed', params: { features, outputs }, launch },
      },
    },
  };
}

/** The packed kernel writes an image of dx as one run: its rows must touch, unless there is one. */
const denseImages = (shapes: Shapes, _: unknown, __: WasmAdapter, views: Views): boolean => {
  const dx = shapes.dx as Shape;
  return size(dx.slice(1)) === columns(dx) || views.dx?.stride === columns(dx);
};

/** Kernels of linear besides the plain ones of asm/linear.ts, which already holds the best weight and bias gradients. */
export const families: FamilyTable<WasmAdapter> = [
  { entry: 'forward', name: 'direct', order: 'direct', when: () => true, lower: forward },
  { entry: 'inputGradient', name: 'direct', order: 'direct', when: denseImages, lower: inputGradient },
];
