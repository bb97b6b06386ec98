import { FaceNetError } from '../errors.ts';
import { entryOf, type Graph, namedInputs, type Value } from '../graph/graph.ts';
import { type Entry, inputName, type KernelStep, type Lowering, type Shapes } from '../graph/operator.ts';
import { columns, resolve, type Shape, size, text } from '../graph/shape.ts';
import { optimise } from './fuse.ts';
import type { Chosen, Views } from './lowering.ts';
import { align, bytesPerElement, Lifetimes } from './memory.ts';
import type { Backend, Program, Read, StepTimes } from './runner.ts';
import { acceptsRange, type Schedule, schedule, updatedSlot } from './schedule.ts';
import type { DeviceBuffer, KernelName, Step, TensorRef } from './step.ts';
import { HALF, type Store } from './store.ts';

export interface PlanOptions {
  /** Largest batch of one run. */
  readonly batchSize: number;
  /** Fold batch norm and fuse epilogues (default true). Off: the graph as it was written, for tests of single operators. */
  readonly fuse?: boolean;
}

/** Where a value lies before memory exists: in the root's slot, as a channel range from `offset`. */
interface Location {
  readonly root: Value;
  /** Elements from the root's first one. */
  readonly offset: number;
  readonly stride: number;
}

/** Memory chosen for a root or a scratch tensor: a slot of the lifetimes, or a buffer of its own. */
type Home = { readonly slot: number } | { readonly buffer: DeviceBuffer };

/** Most batch sizes whose encoded steps are kept. */
const KEPT_SIZES = 64;

/**
 * A graph made ready for one backend: folded, fused, memory laid out by lifetime, kernels chosen, pipelines compiled, everything
 * that can fail checked. Running it allocates nothing. The batch is the only size that may change from run to run.
 */
export class Plan {
  readonly batchSize: number;
  readonly backend: Backend;
  readonly store: Store;
  /** Names of the float orders its kernels use, in order of first use: equal orders on one device mean equal bits. */
  readonly order: string;
  /** Bytes of device memory this plan allocated itself (the store's are not counted). */
  readonly bytes: number;
  /** Multiplications followed by an addition, for one image of the batch. */
  readonly multiplyAdds: number;

  readonly #outputs: ReadonlyMap<string, Value>;
  readonly #layout: Layout;
  readonly #sizes = new Map<number, readonly Step[]>();
  #main: Program;
  #constants: Program | undefined;
  #constantsVersion = -1;
  #disposed = false;

  private constructor(
    outputs: ReadonlyMap<string, Value>,
    layout: Layout,
    main: Program,
    constants: Program | undefined,
  ) {
    this.#outputs = outputs;
    this.#layout = layout;
    this.#main = main;
    this.#constants = constants;
    this.backend = layout.backend;
    this.store = layout.store;
    this.batchSize = layout.batchSize;
    this.order = layout.orders.join(', ') || 'plain';
    this.bytes = layout.bytes;
    this.multiplyAdds = layout.multiplyAdds;
    this.#sizes.set(layout.batchSize, main.steps);
  }

  /**
   * Builds a plan for `outputs` (and the graph's assignments). Parameters the store lacks are a 'model' error.
   * @throws 'memory' when a tensor exceeds what one kernel may see, 'internal' when a kernel does not compile.
   */
  static async create(
    graph: Graph,
    outputs: Readonly<Record<string, Value>>,
    backend: Backend,
    store: Store,
    options: PlanOptions,
  ): Promise<Plan> {
    const { batchSize, fuse = true } = options;
    if (!(Number.isInteger(batchSize) && batchSize >= 1)) {
      throw new FaceNetError('input', `plan: batchSize must be a whole number from 1, got ${batchSize}.`);
    }
    const names = Object.keys(outputs);
    // Tensors larger than a kernel can see are computed with in parts; few models have any.
    const written = { graph, outputs: Object.values(outputs) };
    const halves = store.names.some((name) => name.endsWith(HALF));
    const given = halves ? (await import('./halves.ts')).withHalves(graph, written.outputs, store) : written;
    const large = given.graph.parameters.some(({ name }) => store.parts(name).length > 1);
    const fitting = large ? (await import('./storage.ts')).splitLarge(given.graph, given.outputs, store) : given;
    const optimised = optimise(fitting.graph, fitting.outputs, fuse);
    const named = new Map(names.map((name, index) => [name, optimised.outputs[index] as Value]));
    const layout = new Layout(optimised.graph, [...named.values()], backend, store, batchSize);
    try {
      const steps = layout.steps(batchSize);
      const constants = steps.constants.length > 0 ? await backend.prepare(steps.constants) : undefined;
      const main = await backend.prepare(steps.main);
      return new Plan(named, layout, main, constants);
    } catch (error) {
      layout.dispose();
      throw error;
    }
  }

  /** Names of the inputs that a run must be given. */
  get inputs(): readonly string[] {
    return this.#layout.inputs.map((value) => value.name);
  }

  /** Steps of a run with the full batch: for profiles, reports and tests. */
  get steps(): readonly Step[] {
    return this.#main.steps;
  }

  /**
   * Runs on `batch` images (default: batchSize) and reads outputs back.
   *
   * Every input of the graph must be given, as a typed array of its type with the elements of its shape at this batch; a byte
   * heap may be shorter than its capacity. `read` names the outputs wanted; the others stay on the device.
   * @throws 'input' for missing or ill-sized inputs, and when a value became NaN or infinite (naming the layer).
   */
  async run(
    inputs: Readonly<Record<string, ArrayBufferView>>,
    batch = this.batchSize,
    read: readonly string[] = [...this.#outputs.keys()],
  ): Promise<Record<string, Float32Array>> {
    if (this.#disposed) throw new FaceNetError('disposed', 'plan: run() was called after dispose().');
    if (!(Number.isInteger(batch) && batch >= 1 && batch <= this.batchSize)) {
      throw new FaceNetError('input', `plan: the batch must be from 1 to ${this.batchSize}, got ${batch}.`);
    }
    const writes = this.#checkInputs(inputs, batch);
    const steps = this.#stepsFor(batch);
    const { backend } = this;
    for (const { ref, data } of writes) backend.write(ref.buffer, ref.offset * bytesPerElement(ref.dtype), data);
    const flags = this.#layout.flags;
    if (flags) backend.write(flags, 0, new Uint32Array(this.#layout.checked.length));
    const programs: { program: Program; steps?: readonly Step[] }[] = [{ program: this.#main, steps }];
    if (this.#constants && this.#constantsVersion !== this.store.version) {
      programs.unshift({ program: this.#constants });
      this.#constantsVersion = this.store.version;
    }
    const bytes = await backend.run(programs, this.reads(batch, read));
    if (this.#layout.updatesStore) this.store.touch();
    if (flags) this.#checkFlags(bytes[bytes.length - 1] as Uint8Array);
    const results: Record<string, Float32Array> = {};
    read.forEach((name, index) => {
      const { buffer, byteOffset, byteLength } = bytes[index] as Uint8Array;
      results[name] = new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer);
    });
    return results;
  }

  /** What a run reads back: outputs and, behind them, the flags of layers whose values are checked. */
  reads(batch = this.batchSize, names: readonly string[] = [...this.#outputs.keys()]): Read[] {
    const { flags, checked } = this.#layout;
    const reads = names.map((name) => this.#layout.read(this.#output(name), batch));
    return flags ? [...reads, { buffer: flags, byteOffset: 0, bytes: checked.length * 4 }] : reads;
  }

  /** Milliseconds of each step for a batch, measured by the backend on whatever lies in memory. */
  async profile(batch = this.batchSize): Promise<StepTimes & { readonly steps: readonly Step[] }> {
    const steps = this.#stepsFor(batch);
    return { ...(await this.backend.profile(this.#main, steps)), steps };
  }

  /** Fills all memory of results with NaN, so that a value no kernel writes is seen. For tests. */
  poison(): void {
    this.#layout.poison();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#main.dispose();
    this.#constants?.dispose();
    this.#layout.dispose();
    this.#sizes.clear();
  }

  #output(name: string): Value {
    const value = this.#outputs.get(name);
    if (!value)
      throw new FaceNetError('input', `plan: outputs are ${[...this.#outputs.keys()].join(', ')}, got ${name}.`);
    return value;
  }

  #stepsFor(batch: number): readonly Step[] {
    let steps = this.#sizes.get(batch);
    if (!steps) {
      steps = this.#layout.steps(batch, false).main;
      if (this.#sizes.size >= KEPT_SIZES) this.#sizes.delete(this.#sizes.keys().next().value as number);
      this.#sizes.set(batch, steps);
    }
    return steps;
  }

  #checkInputs(
    inputs: Readonly<Record<string, ArrayBufferView>>,
    batch: number,
  ): { ref: TensorRef; data: ArrayBufferView }[] {
    return this.#layout.inputs.map((value) => {
      const data = inputs[value.name];
      if (!data) throw new FaceNetError('input', `plan: the input ${value.name} ${text(value.shape)} is missing.`);
      const bytes = size(resolve(value.shape, batch)) * bytesPerElement(value.dtype);
      const fits = value.dtype === 'u8' ? data.byteLength <= bytes : data.byteLength === bytes;
      if (!fits) {
        throw new FaceNetError(
          'input',
          `plan: the input ${value.name} must hold ${bytes} bytes for ${text(resolve(value.shape, batch))}, got ${data.byteLength}.`,
        );
      }
      return { ref: this.#layout.ref(value, batch, false), data };
    });
  }

  #checkFlags(bytes: Uint8Array): void {
    const flags = new Uint32Array(
      bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer,
    );
    const at = flags.findIndex((flag) => flag !== 0);
    if (at >= 0) {
      throw new FaceNetError(
        'input',
        `run: every value must be finite, got NaN or infinity after ${this.#layout.checked[at]?.name}. Check pixels and weights.`,
      );
    }
  }
}

/** Memory and kernels of a plan; makes the steps for any batch size. */
class Layout {
  readonly backend: Backend;
  readonly store: Store;
  readonly batchSize: number;
  readonly inputs: readonly Value[];
  readonly checked: readonly Value[];
  /** The graph assigns parameters: what others derived from them is stale after a run. */
  readonly updatesStore: boolean;
  readonly orders: string[] = [];
  readonly flags: DeviceBuffer | undefined;
  bytes = 0;

  readonly #schedule: Schedule;
  readonly #fixed: ReadonlySet<Value>;
  readonly #hoist: boolean;
  readonly #locations = new Map<Value, Location>();
  readonly #homes = new Map<Value | string, Home>();
  readonly #chosen = new Map<Value, Chosen | undefined>();
  readonly #owned: DeviceBuffer[] = [];
  readonly #uploads: { buffer: DeviceBuffer; data: ArrayBufferView; byteOffset: number }[] = [];
  readonly #zeroBlock: number;
  #slots: DeviceBuffer[] = [];

  constructor(graph: Graph, outputs: readonly Value[], backend: Backend, store: Store, batchSize: number) {
    this.backend = backend;
    this.store = store;
    this.batchSize = batchSize;
    this.updatesStore = graph.assignments.length > 0;
    this.#hoist = !this.updatesStore;
    for (const { slot, value } of graph.assignments) {
      if (value.kind !== 'operation' || updatedSlot(value) !== slot) {
        throw new FaceNetError(
          'input',
          `assign: ${slot.name} takes the result of an operation that updates it in place, got ${value.name}.`,
        );
      }
    }
    this.#schedule = schedule(graph, outputs, this.#hoist);
    this.#fixed = new Set(this.#schedule.constants);
    this.inputs = this.#schedule.leaves.filter((value) => value.kind === 'input');
    const all = [...this.#schedule.constants, ...this.#schedule.operations];
    this.checked = all.filter((value) => entryOf(value).checked);
    // A heap of bytes is one row as long as all photos; no kernel reads its pixels as channels.
    const tensors = [...this.#schedule.leaves, ...all].filter(({ dtype }) => dtype === 'f32');
    const widest = Math.max(0, ...tensors.map((value) => columns(value.shape)));
    this.#zeroBlock = backend.zeroBlock ? align(widest * 4) / 4 : 0;
    for (const value of this.#schedule.leaves) if (value.kind === 'parameter') this.store.ref(value.name);
    this.#locate(outputs);
    const kernels = all.flatMap((value) => this.#choose(value));
    // Compilers work while memory is taken.
    backend.expect?.(kernels);
    try {
      this.#allocate(outputs);
      this.flags = this.checked.length > 0 ? this.#own(this.checked.length * 4, 'flags') : undefined;
      for (const { buffer, data, byteOffset } of this.#uploads) backend.write(buffer, byteOffset, data);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  dispose(): void {
    for (const buffer of [...this.#owned, ...this.#slots]) this.backend.free(buffer);
    this.#owned.length = 0;
    this.#slots = [];
  }

  poison(): void {
    for (const buffer of this.#slots) {
      this.backend.write(
        buffer,
        this.#zeroBlock * 4,
        new Float32Array(buffer.bytes / 4 - this.#zeroBlock).fill(Number.NaN),
      );
    }
  }

  /** Tensor of a value at a batch; `strided` says how the kernel wants to see it. */
  ref(value: Value, batch: number, strided: boolean): TensorRef {
    const shape = resolve(value.shape, batch);
    const elements = size(shape);
    const slot = value.kind === 'operation' ? updatedSlot(value) : undefined;
    if (slot || value.kind === 'parameter')
      return { ...this.store.ref((slot ?? value).name), stride: columns(shape), columns: columns(shape), strided };
    const { root, offset, stride } = this.#location(value);
    return {
      buffer: this.#buffer(this.#homes.get(root), value.name),
      dtype: value.dtype,
      offset: this.#first(value.dtype) + offset,
      stride,
      columns: columns(shape),
      elements,
      strided,
    };
  }

  read(value: Value, batch: number): Read {
    const ref = this.ref(value, batch, false);
    return {
      buffer: ref.buffer,
      byteOffset: ref.offset * bytesPerElement(ref.dtype),
      bytes: ref.elements * bytesPerElement(ref.dtype),
    };
  }

  /** Of one image. */
  get multiplyAdds(): number {
    const costs = this.#schedule.operations.map((value) =>
      this.#isView(value) ? 0 : (entryOf(value).multiplyAdds?.(this.#shapes(value, 1), value.attributes) ?? 0),
    );
    return costs.reduce((sum, cost) => sum + cost, 0);
  }

  /** The same steps at every batch, with other params and launches; `constants` do not depend on it and may be left out. */
  steps(batch: number, withConstants = true): { main: Step[]; constants: Step[] } {
    const main: Step[] = [];
    const fixed = new Map<Value, Step[]>();
    const packings = new Map<Value, Step[]>();
    const packed = new Set<string>();
    if (withConstants)
      for (const value of this.#schedule.constants) {
        const steps: Step[] = [];
        fixed.set(value, steps);
        this.#emit(value, batch, steps, (_, step) => steps.push(step), packed);
      }
    const pack = (from: Value, step: Step) => packings.set(from, [...(packings.get(from) ?? []), step]);
    for (const value of this.#schedule.operations)
      this.#emit(value, batch, main, withConstants ? pack : undefined, packed);
    if (!withConstants) return { main, constants: [] };
    // What is packed is packed at once: its own memory may then be another's.
    const constants = this.#schedule.constants.flatMap((value) => [
      ...(fixed.get(value) as Step[]),
      ...(packings.get(value) ?? []),
    ]);
    for (const [from, steps] of packings) if (!fixed.has(from)) constants.push(...steps);
    return { main, constants };
  }

  #emit(
    value: Value,
    batch: number,
    into: Step[],
    pack: ((from: Value, step: Step) => void) | undefined,
    packed: Set<string>,
  ): void {
    if (this.#isView(value)) return;
    const entry = entryOf(value);
    const inputs = namedInputs(value);
    const shapes = this.#shapes(value, batch);
    const lowering = this.#lower(value, shapes);
    const find = (name: string): TensorRef | undefined => {
      const strided = entry.strided?.includes(name) ?? false;
      if (name === entry.output) return this.ref(value, batch, strided);
      const input = inputs[name];
      if (input) return this.ref(input, batch, strided);
      if (lowering.scratch?.[name] !== undefined)
        return this.#temporary(scratchKey(value, name), lowering.scratch[name] as number);
      const made = lowering.packed?.[name];
      if (made) return this.#temporary(packedKey(inputs[made.from] as Value, made.step, made.elements), made.elements);
      if (name === 'flags' && entry.checked && this.flags) {
        return {
          buffer: this.flags,
          dtype: 'i32',
          offset: 0,
          stride: this.checked.length,
          elements: this.checked.length,
          strided: false,
        };
      }
      return undefined;
    };
    const layer: Record<string, number> = entry.checked ? { layer: this.checked.indexOf(value) } : {};
    const changed = [entry.output, entry.inPlace, ...(entry.mutates ?? []), ...Object.keys(lowering.scratch ?? {})];
    const make = (
      step: KernelStep,
      names: Readonly<Record<string, string>>,
      multiplyAdds: number,
      packs?: string,
    ): Step => {
      const tensors: Record<string, TensorRef | undefined> = {};
      for (const [kernelName, name] of Object.entries(names)) tensors[kernelName] = find(name);
      if (entry.checked) tensors.flags = find('flags');
      return {
        label: value.name,
        operator: value.operator?.name as string,
        kernel: step.kernel,
        file: step.file ?? (value.operator?.name as string),
        tensors,
        writes: Object.keys(names).filter((kernelName) => [...changed, packs].includes(names[kernelName])),
        params: { ...entry.params(shapes, value.attributes), ...layer, ...step.params },
        launch: step.launch,
        constants: step.constants ?? {},
        multiplyAdds,
        ...(step.choice && { choice: step.choice }),
      };
    };
    for (const [name, made] of Object.entries(lowering.packed ?? {})) {
      const from = inputs[made.from] as Value;
      const fixed = this.#isFixed(from);
      const key = packedKey(from, made.step, made.elements);
      if (fixed && (!pack || packed.has(key))) continue;
      if (fixed) packed.add(key);
      const step = make(made.step, made.step.tensors ?? { [made.from]: made.from, [name]: name }, 0, name);
      if (fixed) pack?.(from, step);
      else into.push(step);
    }
    const cost = entry.multiplyAdds?.(shapes, value.attributes) ?? 0;
    lowering.steps.forEach((step, index) =>
      into.push(make(step, tensorsOf(step, lowering, entry), index === 0 ? cost : 0)),
    );
  }

  #lower(value: Value, shapes: Shapes): Lowering {
    const entry = entryOf(value);
    const chosen = this.#chosen.get(value);
    if (chosen) return chosen.lower(shapes, value.attributes, this.#views(value), entry.lower);
    if (entry.lower) return entry.lower(shapes, value.attributes);
    return { steps: [{ kernel: value.entry as string, launch: entry.launch(shapes, value.attributes) }] };
  }

  /** Chooses the kernels of a value, and names them. */
  #choose(value: Value): KernelName[] {
    if (this.#isView(value)) return [];
    const shapes = this.#shapes(value, 1);
    const operator = value.operator?.name as string;
    const chosen = this.backend.families.find(
      operator,
      value.entry as string,
      shapes,
      value.attributes,
      this.#views(value),
    );
    this.#chosen.set(value, chosen);
    const { order: plain, steps, packed = {} } = this.#lower(value, shapes);
    const order = chosen?.order ?? plain;
    if (order && !this.orders.includes(order)) this.orders.push(order);
    return [...Object.values(packed).map(({ step }) => step), ...steps].map(({ file, kernel, constants }) => ({
      file: file ?? operator,
      kernel,
      constants: constants ?? {},
    }));
  }

  #views(value: Value): Views {
    const views: Record<string, { offset: number; stride: number }> = {};
    const of = (tensor: Value) => {
      const slot = tensor.kind === 'operation' ? updatedSlot(tensor) : undefined;
      if (slot || tensor.kind === 'parameter') return { offset: 0, stride: columns(tensor.shape) };
      const { offset, stride } = this.#location(tensor);
      return { offset, stride };
    };
    for (const [name, input] of Object.entries(namedInputs(value))) views[name] = of(input);
    views[entryOf(value).output] = of(value);
    return views;
  }

  #shapes(value: Value, batch: number): Shapes {
    const shapes: Record<string, Shape> = {};
    for (const [name, input] of Object.entries(namedInputs(value))) shapes[name] = resolve(input.shape, batch);
    shapes[entryOf(value).output] = resolve(value.shape, batch);
    return shapes;
  }

  /** Decides which values are channel ranges of others: the parts of a concat, and slices. */
  #locate(outputs: readonly Value[]): void {
    const operations = [...this.#schedule.constants, ...this.#schedule.operations];
    const readers = new Map<Value, Value[]>();
    for (const value of operations) {
      for (const input of value.inputs) if (input) readers.set(input, [...(readers.get(input) ?? []), value]);
    }
    const everyReaderAccepts = (value: Value) =>
      (readers.get(value) ?? []).every((reader) => this.#viewOperator(reader) || acceptsRange(reader, value));
    // Last concat first, so that a concat inside a concat is placed before its own parts are.
    for (const value of [...operations].reverse()) {
      if (value.operator?.name !== 'concat' || value.entry !== 'forward') continue;
      let column = 0;
      const parts = value.inputs.filter((input): input is Value => input !== undefined);
      const fits = parts.every(
        (part, index) =>
          part.kind === 'operation' &&
          !outputs.includes(part) &&
          !this.#locations.has(part) &&
          parts.indexOf(part) === index &&
          this.#isFixed(part) === this.#isFixed(value) &&
          !updatedSlot(part) &&
          everyReaderAccepts(part) &&
          (part.operator?.name === 'concat'
            ? part.entry === 'forward'
            : (entryOf(part).strided?.includes(entryOf(part).output) ?? false)) &&
          !this.#viewOperator(part, 'slice') &&
          part.inputs.every((input) => !input || !parts.includes(input)),
      );
      if (!fits) continue;
      const whole = this.#location(value);
      for (const part of parts) {
        this.#locations.set(part, { root: whole.root, offset: whole.offset + column, stride: whole.stride });
        column += columns(part.shape);
      }
      this.#viewValues.add(value);
    }
    for (const value of operations) {
      if (
        value.operator?.name !== 'slice' ||
        value.entry !== 'forward' ||
        outputs.includes(value) ||
        this.#locations.has(value)
      )
        continue;
      const input = value.inputs[0] as Value;
      if (
        !(input.kind === 'operation' || input.kind === 'input') ||
        input.dtype !== 'f32' ||
        (input.kind === 'operation' && updatedSlot(input)) ||
        this.#isFixed(input) !== this.#isFixed(value) ||
        !everyReaderAccepts(value)
      )
        continue;
      const whole = this.#location(input);
      this.#locations.set(value, {
        root: whole.root,
        offset: whole.offset + (value.attributes.start as number),
        stride: whole.stride,
      });
      this.#viewValues.add(value);
    }
  }

  /** Concats and slices that need no step: their bytes are written, or read, in place. */
  readonly #viewValues = new Set<Value>();

  #isView(value: Value): boolean {
    return this.#viewValues.has(value);
  }

  #viewOperator(value: Value, name?: string): boolean {
    const operator = value.operator?.name;
    return value.entry === 'forward' && (name ? operator === name : operator === 'concat' || operator === 'slice');
  }

  #location(value: Value): Location {
    return this.#locations.get(value) ?? { root: value, offset: 0, stride: columns(value.shape) };
  }

  #isFixed(value: Value): boolean {
    if (!this.#hoist) return false;
    return value.kind === 'parameter' || value.kind === 'constant' || this.#fixed.has(value);
  }

  #allocate(outputs: readonly Value[]): void {
    for (const value of this.#schedule.leaves) {
      if (value.kind === 'parameter') continue;
      const bytes = size(resolve(value.shape, this.batchSize)) * bytesPerElement(value.dtype);
      const buffer = this.#own(this.#first(value.dtype) * bytesPerElement(value.dtype) + bytes, value.name);
      this.#homes.set(value, { buffer });
      if (value.data) this.#uploads.push({ buffer, data: value.data, byteOffset: this.#first(value.dtype) * 4 });
    }
    const operations = this.#schedule.operations;
    const lifetimes = new Lifetimes();
    const passing = this.#passing(outputs);
    this.#schedule.constants.forEach((value, index, { length }) => {
      const last = passing.get(value);
      // Constants are computed before everything else, at indices below 0.
      if (last !== undefined)
        this.#homes.set(
          value,
          lifetimes.place(this.#tensorBytes(size(value.shape), value.name), index - length, last - length),
        );
      this.#allocateConstant(value);
    });

    const lastUse = new Map<Value, number>();
    operations.forEach((value, index) => {
      for (const used of [value, ...value.inputs]) if (used) lastUse.set(this.#location(used).root, index);
    });
    for (const value of outputs) lastUse.set(this.#location(value).root, Number.MAX_SAFE_INTEGER);
    let threadBytes = 0;
    const withThreads: string[] = [];
    operations.forEach((value, index) => {
      const { root } = this.#location(value);
      if (!this.#homes.has(root) && !updatedSlot(value)) {
        const bytes = this.#tensorBytes(
          size(resolve(root.shape, this.batchSize)),
          `${root.name} ${text(resolve(root.shape, this.batchSize))}`,
        );
        this.#homes.set(root, lifetimes.place(bytes, index, lastUse.get(root) ?? index));
      }
      if (this.#isView(value)) return;
      const lowering = this.#lower(value, this.#shapes(value, this.batchSize));
      const ofThreads =
        this.backend.threadScratch && lowering.steps.every(({ params }) => params?.threadFloats !== undefined);
      for (const [name, elements] of Object.entries(lowering.scratch ?? {})) {
        const bytes = this.#tensorBytes(elements, `scratch of ${value.name}`);
        if (ofThreads) {
          threadBytes = Math.max(threadBytes, bytes);
          withThreads.push(scratchKey(value, name));
          continue;
        }
        this.#homes.set(scratchKey(value, name), lifetimes.place(bytes, index, index));
      }
      for (const pack of Object.values(lowering.packed ?? {})) {
        const from = namedInputs(value)[pack.from] as Value;
        const key = packedKey(from, pack.step, pack.elements);
        const bytes = this.#tensorBytes(pack.elements, `weights of ${value.name}`);
        if (!this.#isFixed(from)) this.#homes.set(key, lifetimes.place(bytes, index, index));
        else if (!this.#homes.has(key)) this.#homes.set(key, { buffer: this.#own(bytes, `weights of ${value.name}`) });
      }
    });
    // Not in the slots: a thread may be at the next step while another is still at the one before.
    if (threadBytes > 0) {
      const buffer = this.#own(threadBytes, 'scratch of threads');
      for (const key of withThreads) this.#homes.set(key, { buffer });
    }
    this.#slots = lifetimes.commit(this.backend, 'plan');
    this.bytes += lifetimes.bytes;
  }

  /**
   * Constants that only other constants and packings read, such as weights with a batch norm folded in: their memory is activations' when all
   * are computed. Each with the index of the constant that reads it last.
   */
  #passing(outputs: readonly Value[]): Map<Value, number> {
    const { constants, operations } = this.#schedule;
    const last = new Map<Value, number>();
    constants.forEach((value, index) => {
      last.set(value, index);
      for (const input of value.inputs) if (input && last.has(input)) last.set(input, index);
    });
    for (const value of outputs) last.delete(value);
    for (const value of constants) if (this.#isView(value) || this.#locations.has(value)) last.delete(value);
    for (const value of [...constants.filter((constant) => this.#isView(constant)), ...operations]) {
      const read = new Set(this.#isView(value) ? undefined : this.#read(value));
      for (const [name, input] of Object.entries(namedInputs(value)))
        if (this.#isView(value) || read.has(name)) last.delete(input);
    }
    return last;
  }

  /** Names of the tensors that an operation's own steps are given. */
  #read(value: Value): string[] {
    const lowering = this.#lower(value, this.#shapes(value, 1));
    return lowering.steps.flatMap((step) => Object.values(tensorsOf(step, lowering, entryOf(value))));
  }

  #allocateConstant(value: Value): void {
    const { root } = this.#location(value);
    if (!this.#homes.has(root))
      this.#homes.set(root, { buffer: this.#own(this.#tensorBytes(size(root.shape), root.name), root.name) });
    const lowering = this.#lower(value, this.#shapes(value, 1));
    for (const [name, elements] of Object.entries(lowering.scratch ?? {})) {
      this.#homes.set(scratchKey(value, name), {
        buffer: this.#own(this.#tensorBytes(elements, value.name), value.name),
      });
    }
    for (const pack of Object.values(lowering.packed ?? {})) {
      const key = packedKey(namedInputs(value)[pack.from] as Value, pack.step, pack.elements);
      if (!this.#homes.has(key))
        this.#homes.set(key, { buffer: this.#own(this.#tensorBytes(pack.elements, value.name), value.name) });
    }
  }

  #temporary(key: string, elements: number): TensorRef {
    return {
      buffer: this.#buffer(this.#homes.get(key), key),
      dtype: 'f32',
      offset: this.#zeroBlock,
      stride: elements,
      elements,
      strided: false,
    };
  }

  #buffer(home: Home | undefined, name: string): DeviceBuffer {
    const buffer = home && ('buffer' in home ? home.buffer : this.#slots[home.slot]);
    if (!buffer) throw new FaceNetError('internal', `plan: ${name} has no memory.`);
    return buffer;
  }

  /** Elements before the first of a tensor: the block of zeros. Byte heaps have none. */
  #first(dtype: Value['dtype']): number {
    return dtype === 'u8' ? 0 : this.#zeroBlock;
  }

  #tensorBytes(elements: number, what: string): number {
    const bytes = (this.#zeroBlock + elements) * 4;
    if (bytes > this.backend.maxBufferBytes) {
      throw new FaceNetError(
        'memory',
        `plan: a tensor may take ${this.backend.maxBufferBytes} bytes on this device, got ${bytes} for ${what}. Use a smaller batchSize.`,
      );
    }
    return bytes;
  }

  #own(bytes: number, label: string): DeviceBuffer {
    const buffer = this.backend.allocate(align(bytes), label);
    this.#owned.push(buffer);
    this.bytes += align(bytes);
    return buffer;
  }
}

/** Tensors of a step by the kernel's names for them: by default all there are, of those that are packed the packed ones. */
function tensorsOf(step: KernelStep, lowering: Lowering, entry: Entry<never>): Readonly<Record<string, string>> {
  if (step.tensors) return step.tensors;
  const packed = Object.values(lowering.packed ?? {}).map(({ from }) => from);
  const names = [
    ...entry.inputs.map(inputName).filter((name) => !packed.includes(name)),
    ...Object.keys(lowering.scratch ?? {}),
    ...Object.keys(lowering.packed ?? {}),
    entry.output,
  ];
  return Object.fromEntries(names.map((name) => [name, name]));
}

const scratchKey = (value: Value, name: string) => `scratch ${value.id} ${name}`;
const packedKey = (from: Value, step: KernelStep, elements: number) =>
  `packed ${from.id} ${step.file ?? ''} ${step.kernel} ${elements} ${JSON.stringify([step.params ?? {}, step.constants ?? {}])}`;
