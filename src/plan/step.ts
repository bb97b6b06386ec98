import type { Choice, DType, Launch } from '../graph/operator.ts';

/** Memory of a backend. Opaque to plans; `bytes` is what was asked for. */
export interface DeviceBuffer {
  readonly bytes: number;
}

/** A tensor in a buffer: element (row, column) lies at offset + row * stride + column. */
export interface TensorRef {
  readonly buffer: DeviceBuffer;
  readonly dtype: DType;
  /** Elements before the first one of the tensor; `offset * 4` is divisible by 256 for tensors that are not channel ranges. */
  readonly offset: number;
  /** Elements from one row to the next. */
  readonly stride: number;
  /** rows * columns. */
  readonly elements: number;
  /** Size of a row, where it is known. */
  readonly columns?: number;
  /** May be a channel range: the kernel is told offset and stride. Otherwise it sees a dense tensor from element 0. */
  readonly strided: boolean;
}

/** What is compiled: an entry point of a shader file with values of its constants. */
export interface KernelName {
  /** Stem of the shader file. */
  readonly file: string;
  readonly kernel: string;
  readonly constants: Readonly<Record<string, number>>;
}

/** One kernel launch, complete: what to run, on which memory, with which numbers. Plain data. */
export interface Step extends KernelName {
  /** 'inception3a/conv2d' and the like: for profiles and messages. */
  readonly label: string;
  readonly operator: string;
  /** By kernel tensor name; undefined for an absent optional input. */
  readonly tensors: Readonly<Record<string, TensorRef | undefined>>;
  /** Kernel names of the tensors that it changes; flags, which it only raises, are not among them. */
  readonly writes: readonly string[];
  readonly params: Readonly<Record<string, number>>;
  readonly launch: Launch;
  readonly multiplyAdds: number;
  /** Other kernels could have been taken here: what a tuner may change. */
  readonly choice?: Choice;
}
