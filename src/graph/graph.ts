import { FaceNetError } from '../errors.ts';
import { type Attributes, type DType, type Entry, inputName, isOptional, type Operator } from './operator.ts';
import { type Shape, size, text } from './shape.ts';

/** Where a value comes from: from outside at each run, from the store, from the graph's author, or from an operator. */
export type ValueKind = 'input' | 'parameter' | 'constant' | 'operation';

/** One tensor of a graph. Plain data: nothing is computed when it is made. */
export interface Value {
  readonly graph: Graph;
  /** Position in the graph; every input has a smaller one, so the list of values is in order of execution. */
  readonly id: number;
  readonly kind: ValueKind;
  /** Name of an input or parameter; for operations a label for profiles and error messages. */
  readonly name: string;
  readonly shape: Shape;
  readonly dtype: DType;
  readonly operator?: Operator;
  readonly entry?: string;
  /** In the order of the entry's inputs; undefined where an optional input is absent. */
  readonly inputs: readonly (Value | undefined)[];
  readonly attributes: Attributes;
  readonly data?: Float32Array | Int32Array;
}

/** A graph that may end in updates of the store: `slot` takes the value of `value` after every reader of the slot has run. */
export interface Assignment {
  readonly slot: Value;
  readonly value: Value;
}

/**
 * Values in order of execution. A graph is data: backends, plans and gradients read it, only its own methods extend it.
 */
export class Graph {
  readonly values: Value[] = [];
  readonly assignments: Assignment[] = [];
  readonly #names = new Map<string, Value>();
  #scope = '';

  /** A tensor handed over at each run. */
  input(name: string, shape: Shape, dtype: DType = 'f32'): Value {
    return this.#named('input', name, shape, dtype);
  }

  /** A tensor of the store (weights, running statistics, optimiser slots), by name. Asking twice gives the same value. */
  parameter(name: string, shape: Shape): Value {
    const known = this.#names.get(name);
    if (known) {
      if (known.kind !== 'parameter' || text(known.shape) !== text(shape)) {
        throw new FaceNetError('input', `graph: ${name} must keep the shape ${text(known.shape)}, got ${text(shape)}.`);
      }
      return known;
    }
    return this.#named('parameter', name, shape, 'f32');
  }

  /** A tensor whose values are part of the graph. */
  constant(data: Float32Array | Int32Array, shape: Shape): Value {
    if (size(shape) !== data.length) {
      throw new FaceNetError(
        'input',
        `graph: a constant ${text(shape)} needs ${size(shape)} values, got ${data.length}.`,
      );
    }
    return this.#push({
      kind: 'constant',
      name: `constant${this.values.length}`,
      shape,
      inputs: [],
      attributes: {},
      data,
      dtype: data instanceof Int32Array ? 'i32' : 'f32',
    });
  }

  /** Applies one entry of an operator. Shapes are checked here; nothing is computed. */
  apply(
    operator: Operator,
    entryName: string,
    inputs: Readonly<Record<string, Value | undefined>>,
    attributes: Attributes = {},
  ): Value {
    const entry = operator.entries[entryName];
    if (!entry) throw new FaceNetError('internal', `graph: ${operator.name} has no entry ${entryName}.`);
    const shapes: Record<string, Shape> = {};
    const list = entry.inputs.map((declared) => {
      const name = inputName(declared);
      const value = inputs[name];
      if (!value) {
        if (!isOptional(declared)) throw new FaceNetError('input', `${operator.name}: ${name} is missing.`);
        return undefined;
      }
      if (value.graph !== this) throw new FaceNetError('input', `${operator.name}: ${name} belongs to another graph.`);
      shapes[name] = value.shape;
      return value;
    });
    const shape = entry.shape(shapes, attributes);
    const label = entryName === 'forward' ? operator.name : `${operator.name}.${entryName}`;
    return this.#push({
      kind: 'operation',
      name: this.#scope ? `${this.#scope}/${label}` : label,
      shape,
      dtype: entry.dtype ?? 'f32',
      operator,
      entry: entryName,
      inputs: list,
      attributes,
    });
  }

  /** Makes `slot` take `value` at the end of each run. Two assignments to one slot are refused. */
  assign(slot: Value, value: Value): void {
    if (slot.kind !== 'parameter')
      throw new FaceNetError('input', `assign: the slot must be a parameter, got ${slot.name}.`);
    if (text(slot.shape) !== text(value.shape)) {
      throw new FaceNetError(
        'input',
        `assign: ${slot.name} is ${text(slot.shape)}, got a value of shape ${text(value.shape)}.`,
      );
    }
    if (this.assignments.some((other) => other.slot === slot)) {
      throw new FaceNetError('input', `assign: ${slot.name} must be assigned once a run, got a second assignment.`);
    }
    this.assignments.push({ slot, value });
  }

  /** Values made inside `build` carry `name/` in front of their labels. */
  scope<T>(name: string, build: () => T): T {
    const outer = this.#scope;
    this.#scope = outer ? `${outer}/${name}` : name;
    try {
      return build();
    } finally {
      this.#scope = outer;
    }
  }

  get parameters(): readonly Value[] {
    return this.values.filter((value) => value.kind === 'parameter');
  }

  #named(kind: 'input' | 'parameter', name: string, shape: Shape, dtype: DType): Value {
    if (this.#names.has(name)) throw new FaceNetError('input', `graph: the name ${name} is taken.`);
    const value = this.#push({ kind, name, shape, dtype, inputs: [], attributes: {} });
    this.#names.set(name, value);
    return value;
  }

  #push(value: Omit<Value, 'id' | 'graph'>): Value {
    const made: Value = { ...value, graph: this, id: this.values.length };
    this.values.push(made);
    return made;
  }
}

/** The entry an operation applies. */
export function entryOf(value: Value): Entry {
  const entry = value.operator?.entries[value.entry as string];
  if (!entry) throw new FaceNetError('internal', `graph: ${value.name} is not an operation.`);
  return entry;
}

/** Inputs of an operation by name, without the absent ones. */
export function namedInputs(value: Value): Record<string, Value> {
  const named: Record<string, Value> = {};
  entryOf(value).inputs.forEach((declared, index) => {
    const input = value.inputs[index];
    if (input) named[inputName(declared)] = input;
  });
  return named;
}
