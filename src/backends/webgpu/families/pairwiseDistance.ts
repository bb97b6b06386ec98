import type { KernelStep, Lowering } from '../../../graph/operator.ts';
import { columns, rows, type Shape, size } from '../../../graph/shape.ts';
import type { Family, FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import { hasSubgroupTiles, isVec4 } from './conv2d.ts';

/** Rows of a in a tile. */
const RM = 16;

/** Tiles that subgroups feed; of a set with itself the upper triangle alone. */
function tiled(entry: 'forward' | 'self', rowsOfLane: (sg: number) => number): Family<WebGpuAdapter> {
  const b = entry === 'self' ? 'a' : 'b';
  return {
    entry,
    name: 'subgroups',
    order: '',
    when: (shapes, _, adapter, views) =>
      hasSubgroupTiles(adapter) && isVec4({ a: shapes.a, [b]: shapes[b] }, views, 'a', b),
    lower(shapes, _, adapter) {
      const SG = adapter.subgroups as number;
      const RN = rowsOfLane(SG);
      const down = Math.ceil(rows(shapes.a as Shape) / RM);
      const right = Math.ceil(rows(shapes[b] as Shape) / (SG * RN));
      const tiles = entry === 'self' ? Math.ceil(down / 2) * (down + 1) : down * right;
      return {
        steps: [
          {
            kernel: 'forward',
            file: 'pairwiseDistance.subgroups',
            tensors: { a: 'a', b, y: 'y' },
            constants: { SG, RM, RN, SYMMETRIC: entry === 'self' ? 1 : 0 },
            launch: { workgroups: [tiles] },
          },
        ],
      };
    },
  };
}

/** Sixteen columns an invocation, for adapters without many lanes to fill. */
function wide(entry: 'aGradient' | 'bGradient' | 'selfGradient', output: string): Family<WebGpuAdapter> {
  return {
    entry,
    name: 'wide',
    order: '',
    when: (shapes, _, adapter, views) =>
      adapter.software && columns(shapes.a as Shape) % 16 === 0 && isVec4(shapes, views, 'a', 'b', output),
    lower(shapes, attributes, _, __, lower) {
      const plain = lower?.(shapes, attributes) as Lowering;
      const [gather, gradient] = plain.steps as [KernelStep, KernelStep];
      const { points, others, pairs, dpoints } = gradient.tensors as Record<string, string>;
      return {
        ...plain,
        steps: [
          gather,
          {
            kernel: 'gradient16',
            tensors: { points4: points, others4: others, pairs, dpoints4: dpoints } as Record<string, string>,
            launch: { invocations: size(shapes[points as string] as Shape) / 16 },
          },
        ],
      };
    },
  };
}

export const families: FamilyTable<WebGpuAdapter> = [
  tiled('self', (sg) => RM / sg),
  tiled('forward', () => 2),
  wide('aGradient', 'da'),
  wide('bGradient', 'db'),
  wide('selfGradient', 'da'),
];
