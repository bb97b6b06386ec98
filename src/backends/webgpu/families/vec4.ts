import type { KernelStep } from '../../../graph/operator.ts';
import { columns, rows, type Shape, size } from '../../../graph/shape.ts';
import type { Window } from '../../../graph/window.ts';
import type { Family } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';

/** Invocations of kernels that have a line of pixels each, by four channels: of a tensor [N, height, width, channels]. */
export const lines = (tensor: Shape) => size(tensor) / (4 * (tensor[2] as number));

/**
 * The kernel `<entry>4` of an operator that works by channel: the sums of the plain kernel in the same order, so the same bits,
 * with a quarter of the loads. Serves tensors whose channels, offset and stride are multiples of four; `tensors` are the
 * entry's, output last, and the kernel calls x4 what the entry calls x.
 */
export function vec4(
  entry: string,
  tensors: readonly string[],
  // biome-ignore lint/suspicious/noExplicitAny: each operator has attributes of its own
  when: (attributes: any) => boolean = () => true,
): Family<WebGpuAdapter> {
  const output = tensors[tensors.length - 1] as string;
  return {
    entry,
    name: 'vec4',
    order: '',
    when: (shapes, attributes, _, views) =>
      when(attributes) &&
      tensors.every((name) => {
        const view = views[name];
        return columns(shapes[name] as Shape) % 4 === 0 && (!view || (view.offset % 4 === 0 && view.stride % 4 === 0));
      }),
    lower(shapes) {
      const shape = shapes[output] as Shape;
      return {
        steps: [
          {
            kernel: `${entry}4`,
            tensors: Object.fromEntries(tensors.map((name) => [`${name}4`, name])),
            launch: { invocations: (rows(shape) * columns(shape)) / 4 },
          },
        ],
      };
    },
  };
}

/** Constants of a tree of sums on adapters in software, where each subgroup of a workgroup waits at each barrier in turn: few lanes. */
export const REDUCTION = { LANES: 8 };

/** Most taps of a window that one piece of straight code has. */
const TAPS = 9;

/** The kernel `forward4` of a pool. */
export const windows = vec4('forward', ['x', 'y']);

/** The kernel `forwardLine4` of a pool: a line of windows an invocation, for adapters without many lanes to fill. */
export const windowLines: Family<WebGpuAdapter> = {
  ...windows,
  name: 'lines',
  when: (shapes, attributes: Window, adapter, views) =>
    adapter.software && attributes.sizeY * attributes.sizeX <= TAPS && windows.when(shapes, attributes, adapter, views),
  lower: ({ y }, { sizeY, sizeX, strideX }: Window) => ({
    steps: [
      {
        kernel: 'forwardLine4',
        constants: { SY: sizeY, SX: sizeX, KEPT: Math.max(sizeX - strideX, 0) },
        tensors: { x4: 'x', y4: 'y' },
        launch: { invocations: lines(y as Shape) },
      },
    ],
  }),
};

/** Rows of one invocation of `strips`, as in the shaders. */
const STRIP = 16;

/** The kernel of `vec4` where an invocation has several rows of its four channels: it divides once, and reads once what is the same for all rows. */
export function strips(entry: string, tensors: readonly string[]): Family<WebGpuAdapter> {
  const family = vec4(entry, tensors);
  return {
    ...family,
    lower(shapes, attributes, adapter, views) {
      const [step] = family.lower(shapes, attributes, adapter, views).steps as [KernelStep];
      const invocations = Math.ceil(size(shapes.x as Shape) / (4 * STRIP));
      return { steps: [{ ...step, launch: { invocations } }] };
    },
  };
}
