import { FaceNetError } from '../errors.ts';
import { Graph, type Value, type ValueKind } from './graph.ts';
import type { Attribute, Attributes, DType, Operator } from './operator.ts';
import { inputName } from './operator.ts';
import { BATCH, equal, size, text } from './shape.ts';

/** A number as JSON can carry it; JSON itself loses -0, infinities and NaN. */
type Number64 = number | '-0' | 'NaN' | 'Infinity' | '-Infinity';

export interface SerialisedValue {
  readonly kind: ValueKind;
  readonly name: string;
  /** The batch is -1. */
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly operator?: string;
  readonly entry?: string;
  /** Positions in `values`, null for an absent optional input. */
  readonly inputs?: readonly (number | null)[];
  readonly attributes?: Readonly<Record<string, Number64 | string | boolean | readonly Number64[]>>;
  /** Values of a constant. */
  readonly data?: readonly Number64[];
}

/** A graph as plain JSON: operators and entries by name, values by position. */
export interface SerialisedGraph {
  readonly schema: 'facenet/graph@1';
  readonly values: readonly SerialisedValue[];
  /** [slot, value] by position. */
  readonly assignments: readonly (readonly [slot: number, value: number])[];
}

const SCHEMA = 'facenet/graph@1';
const kinds: readonly ValueKind[] = ['input', 'parameter', 'constant', 'operation'];
const dtypes: readonly DType[] = ['f32', 'i32', 'u8'];

/** The graph as JSON-safe data. `deserialise(JSON.parse(JSON.stringify(serialise(graph))), operators)` is the same graph. */
export function serialise(graph: Graph): SerialisedGraph {
  return {
    schema: SCHEMA,
    values: graph.values.map((value) => ({
      kind: value.kind,
      name: value.name,
      shape: [...value.shape],
      dtype: value.dtype,
      ...(value.kind === 'operation' && {
        operator: value.operator?.name as string,
        entry: value.entry as string,
        inputs: value.inputs.map((input) => input?.id ?? null),
        attributes: Object.fromEntries(
          Object.entries(value.attributes).map(([name, attribute]) => [name, encodeAttribute(attribute)]),
        ),
      }),
      ...(value.data && { data: Array.from(value.data, encode) }),
    })),
    assignments: graph.assignments.map(({ slot, value }) => [slot.id, value.id] as const),
  };
}

/**
 * Rebuilds a graph through its own methods, so that every shape rule is checked again; `operators` are those it may use,
 * by name. Positions are kept: `graph.values[i]` is what it was.
 *
 * @throws 'input' naming the value when the data is not a graph of these operators. Nothing in it is trusted.
 */
export function deserialise(json: unknown, operators: Readonly<Record<string, Operator>> | readonly Operator[]): Graph {
  const known = new Map(
    (Array.isArray(operators) ? operators : Object.values(operators)).map((operator) => [operator.name, operator]),
  );
  const root = record(json, 'graph');
  if (root.schema !== SCHEMA) fail(`schema must be '${SCHEMA}', got ${show(root.schema)}`);
  const graph = new Graph();
  list(root.values, 'values').forEach((item, index) => {
    const where = `values[${index}]`;
    const stored = record(item, where);
    const kind = oneOf(stored.kind, kinds, `${where}.kind`);
    const dtype = oneOf(stored.dtype, dtypes, `${where}.dtype`);
    const name =
      typeof stored.name === 'string' ? stored.name : fail(`${where}.name must be a string, got ${show(stored.name)}`);
    const shape = list(stored.shape, `${where}.shape`).map((dimension) =>
      Number.isSafeInteger(dimension) && (dimension as number) >= (kind === 'input' || kind === 'operation' ? BATCH : 0)
        ? (dimension as number)
        : fail(`${where}.shape must hold whole numbers from 0, or -1 for the batch, got ${show(dimension)}`),
    );
    const made = rebuild(graph, { kind, dtype, name, shape, stored, where }, known);
    if (made.id !== index) fail(`${where} (${name}) must not repeat a parameter, got a second one`);
    if (!equal(made.shape, shape) || made.dtype !== dtype || made.name !== name) {
      fail(`${where} must be ${made.dtype} ${text(made.shape)} '${made.name}', got ${dtype} ${text(shape)} '${name}'`);
    }
  });
  list(root.assignments, 'assignments').forEach((item, index) => {
    const where = `assignments[${index}]`;
    const pair = list(item, where);
    if (pair.length !== 2) fail(`${where} must be a pair of positions, got ${pair.length}`);
    graph.assign(at(graph, pair[0], where), at(graph, pair[1], where));
  });
  return graph;
}

interface Header {
  readonly kind: ValueKind;
  readonly dtype: DType;
  readonly name: string;
  readonly shape: readonly number[];
  readonly stored: Record<string, unknown>;
  readonly where: string;
}

function rebuild(
  graph: Graph,
  { kind, dtype, name, shape, stored, where }: Header,
  known: ReadonlyMap<string, Operator>,
): Value {
  if (kind === 'input') return graph.input(name, shape, dtype);
  if (kind === 'parameter') return graph.parameter(name, shape);
  if (kind === 'constant') {
    const data = list(stored.data, `${where}.data`);
    if (data.length !== size(shape))
      fail(`${where}.data must hold ${size(shape)} numbers for ${text(shape)}, got ${data.length}`);
    const numbers = data.map((item) => decode(item, `${where}.data`));
    return graph.constant(dtype === 'i32' ? Int32Array.from(numbers) : Float32Array.from(numbers), shape);
  }
  const operator =
    known.get(stored.operator as string) ??
    fail(`${where}.operator must be one of this library's, got ${show(stored.operator)}`);
  const entryName = stored.entry as string;
  const entry = Object.hasOwn(operator.entries, entryName)
    ? operator.entries[entryName]
    : fail(`${where}.entry must be one of ${Object.keys(operator.entries).join(', ')}, got ${show(stored.entry)}`);
  const declared = entry?.inputs ?? [];
  const positions = list(stored.inputs, `${where}.inputs`);
  if (positions.length !== declared.length)
    fail(`${where}.inputs must hold ${declared.length} positions, got ${positions.length}`);
  const inputs = Object.fromEntries(
    declared.map((input, index) => [
      inputName(input),
      positions[index] === null ? undefined : at(graph, positions[index], `${where}.inputs[${index}]`),
    ]),
  );
  const attributes: Record<string, Attribute> = {};
  for (const [key, value] of Object.entries(record(stored.attributes, `${where}.attributes`))) {
    Object.defineProperty(attributes, key, {
      value: decodeAttribute(value, `${where}.attributes.${key}`),
      enumerable: true,
    });
  }
  // The label is made of the scope and the operator; the scope is what is left of the stored one.
  const label = entryName === 'forward' ? operator.name : `${operator.name}.${entryName}`;
  const apply = () => {
    try {
      return graph.apply(operator, entryName, inputs, attributes as Attributes);
    } catch (cause) {
      // Shape rules trust the types of attributes, which a file can get wrong.
      if (cause instanceof FaceNetError && cause.code === 'input') throw cause;
      return fail(`${where} must be a valid ${label}, got attributes or inputs that it cannot read`);
    }
  };
  return name.endsWith(`/${label}`) ? graph.scope(name.slice(0, -label.length - 1), apply) : apply();
}

function encode(value: number): Number64 {
  if (Number.isFinite(value)) return Object.is(value, -0) ? '-0' : value;
  return String(value) as Number64;
}

function encodeAttribute(attribute: Attribute) {
  if (typeof attribute === 'number') return encode(attribute);
  return typeof attribute === 'object' ? attribute.map(encode) : attribute;
}

function decode(value: unknown, where: string): number {
  if (typeof value === 'number') return value;
  if (value === '-0' || value === 'NaN' || value === 'Infinity' || value === '-Infinity') return Number(value);
  return fail(`${where} must hold numbers, got ${show(value)}`);
}

function decodeAttribute(value: unknown, where: string): Attribute {
  if (typeof value === 'boolean') return value;
  if (Array.isArray(value)) return value.map((item) => decode(item, where));
  if (value === '-0' || value === 'NaN' || value === 'Infinity' || value === '-Infinity') return Number(value);
  if (typeof value === 'number' || typeof value === 'string') return value;
  return fail(`${where} must be a number, string, boolean or list of numbers, got ${show(value)}`);
}

function at(graph: Graph, position: unknown, where: string): Value {
  const value = typeof position === 'number' ? graph.values[position] : undefined;
  return value ?? fail(`${where} must be the position of an earlier value, got ${show(position)}`);
}

function record(value: unknown, where: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return fail(`${where} must be an object, got ${show(value)}`);
  return value as Record<string, unknown>;
}

function list(value: unknown, where: string): readonly unknown[] {
  return Array.isArray(value) ? value : fail(`${where} must be a list, got ${show(value)}`);
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[], where: string): T {
  return allowed.includes(value as T)
    ? (value as T)
    : fail(`${where} must be one of ${allowed.join(', ')}, got ${show(value)}`);
}

/** A stored value in a message, cut short. */
function show(value: unknown): string {
  if (typeof value === 'string') return `'${value.slice(0, 40)}'`;
  return typeof value === 'object' && value !== null ? (Array.isArray(value) ? 'a list' : 'an object') : String(value);
}

function fail(rule: string): never {
  throw new FaceNetError('input', `graph file: ${rule}. Write it again with serialise().`);
}
