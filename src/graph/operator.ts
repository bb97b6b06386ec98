import type { Value } from './graph.ts';
import type { Shape } from './shape.ts';

/** Element types of tensors. Computation is f32; u8 holds pixels, i32 holds labels and indices. */
export type DType = 'f32' | 'i32' | 'u8';

export type Attribute = number | string | boolean | readonly number[];
export type Attributes = Readonly<Record<string, Attribute>>;

/** A field of a kernel's `struct Params`. */
export type ParamType = 'u32' | 'i32' | 'f32';

/** Resolved shapes by tensor name: the inputs that are present, and the output under the entry's output name. */
export type Shapes = Readonly<Record<string, Shape>>;

/**
 * How much parallel work a kernel has, for backends that launch grids. `invocations` is divided by the kernel's workgroup
 * size; such kernels stride over the grid. `workgroups` is taken as it is, and counts above 65,535 are folded into the
 * second dimension (the kernel rebuilds its index as `group.x + group.y * groups.x`).
 */
export type Launch =
  | { readonly invocations: number }
  | { readonly workgroups: readonly [x: number, y?: number, z?: number] };

/** Where one of several kernels with equal bits is taken: the first, or the one that a tuner found to be faster here. */
export interface Choice {
  /** What is computed, of one image: choices with equal keys are made alike. */
  readonly key: string;
  /** Names of the kernels; the first is the default. */
  readonly variants: readonly string[];
  readonly taken: string;
}

/** One kernel run inside an entry. Tensors are named as the kernel names them and refer to inputs, output or scratch. */
export interface KernelStep {
  /** Kernel name inside the operator's files: WGSL entry point, and export `<op><Kernel>` of the AssemblyScript twin. */
  readonly kernel: string;
  /** Stem of the shader file when it is not the operator's own: 'conv2d.subgroups'. */
  readonly file?: string;
  /** Kernel tensor name -> name of an input, of the output, or of a scratch or packed tensor. Default: each under its own name. */
  readonly tensors?: Readonly<Record<string, string>>;
  readonly params?: Readonly<Record<string, number>>;
  readonly launch: Launch;
  /** Module constants of the WGSL file to be replaced (tiles). Changes the speed, never the answer. */
  readonly constants?: Readonly<Record<string, number>>;
  /** Other kernels could have been taken here. */
  readonly choice?: Choice;
}

/** What an entry becomes on a backend: kernels in order, and the memory they need besides inputs and output. */
export interface Lowering {
  readonly steps: readonly KernelStep[];
  /** Elements (f32) of tensors that live only during these steps. */
  readonly scratch?: Readonly<Record<string, number>>;
  /** Tensors derived from one input alone (weights in a kernel's layout). Made once if that input is constant. */
  readonly packed?: Readonly<
    Record<string, { readonly from: string; readonly elements: number; readonly step: KernelStep }>
  >;
  /** Names the order in which floats are added, if it differs from the plain kernel's: 'winograd-f4'. Never depends on the batch. */
  readonly order?: string;
}

/**
 * One thing an operator computes: its forward pass, or one of its gradients. Exactly one output.
 *
 * Names ending in '?' are optional inputs. Kernels receive, without being told: `<tensor>Stride` (elements between rows),
 * `<tensor>Offset` (first element; WGSL only) and `has<Tensor>` (1 or 0) wherever their Params or parameters name them.
 */
export interface Entry<A extends Attributes = Attributes> {
  readonly inputs: readonly string[];
  /** Kernel name of the output. */
  readonly output: string;
  readonly dtype?: DType;
  /** Shape of the output; may contain BATCH. Throws 'input' when shapes or attributes do not fit. */
  shape(inputs: Shapes, attributes: A): Shape;
  /** Values for the fields of Params. */
  params(shapes: Shapes, attributes: A): Readonly<Record<string, number>>;
  /** Parallel work of the default kernel, which has the entry's name. */
  launch(shapes: Shapes, attributes: A): Launch;
  /** More than one kernel: replaces the default of one step named after the entry. */
  lower?(shapes: Shapes, attributes: A): Lowering;
  /** Tensors that may be channel ranges of wider ones (row stride larger than the number of columns). */
  readonly strided?: readonly string[];
  /** The output takes the memory of this input, which no later step may read: updates of parameters. */
  readonly inPlace?: string;
  /** Inputs (parameters) the kernel updates besides its output; they are read by nobody later in the run. */
  readonly mutates?: readonly string[];
  /** The kernel raises `flags[layer]` when a value before its activation is not finite. */
  readonly checked?: boolean;
  /** Multiplications that are followed by an addition; other work counts as zero. */
  multiplyAdds?(shapes: Shapes, attributes: A): number;
  /** Gradients with respect to inputs, by name; an input left out has none. Absent: not differentiable. */
  gradient?(context: GradientContext<A>): Readonly<Record<string, Value | undefined>>;
}

/** What a gradient rule is given: the value, its inputs by name, and the gradient that arrives at its output. */
export interface GradientContext<A extends Attributes = Attributes> {
  readonly y: Value;
  readonly dy: Value;
  readonly inputs: Readonly<Record<string, Value>>;
  readonly attributes: A;
  /** Whether anybody asks for this input's gradient: rules leave out the others. */
  needs(input: string): boolean;
}

/** An operator: one name, one shader file, one AssemblyScript twin, one definition, one oracle. */
export interface Operator {
  /** camelCase stem of its files. */
  readonly name: string;
  /** Fields of `struct Params`, in order, for all entries. */
  readonly params: Readonly<Record<string, ParamType>>;
  // biome-ignore lint/suspicious/noExplicitAny: entries of one operator have attribute types of their own
  readonly entries: Readonly<Record<string, Entry<any>>>;
}

/** Checks the definition's types and returns it unchanged. */
export function defineOperator<const O extends Operator>(operator: O): O {
  return operator;
}

export const isOptional = (input: string): boolean => input.endsWith('?');
export const inputName = (input: string): string => input.replace(/\?$/, '');
