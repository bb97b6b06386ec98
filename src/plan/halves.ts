/**
 * Weights kept as float16, computed with in float32. The store holds them as words of two halves under `name` + HALF, [..., outputs / 2]. Linear
 * layers read those; convolutions read copies in their kernel's layout, which are made of floats that exist only meanwhile.
 */
import { Graph, namedInputs, type Value } from '../graph/graph.ts';
import { columns, type Shape } from '../graph/shape.ts';
import { fromHalves } from '../ops/cast.ts';
import { halfLinear } from '../ops/halfLinear.ts';
import { copyValue, scoped } from './copying.ts';
import { HALF, type Store } from './store.ts';

/** Whether a parameter can be kept so: the weight of a linear layer or convolution with a multiple of eight outputs. */
export const fitsHalves = (shape: Shape): boolean =>
  (shape.length === 2 || shape.length === 4) && columns(shape) % 8 === 0;

/** Shape of the words that hold a parameter's halves. */
export const halvesShape = (shape: Shape): Shape => [...shape.slice(0, -1), columns(shape) / 2];

/** Keeps a weight [..., outputs] as float16; `bits` are its values as such. */
export function setHalves(store: Store, name: string, bits: Uint16Array, shape: Shape): void {
  const words = new Float32Array(bits.buffer, bits.byteOffset, bits.length / 2);
  store.set(`${name}${HALF}`, words, halvesShape(shape));
}

/** Reads back those of the parameters that are kept as float16, as such. */
export async function readHalves(store: Store, names: readonly string[]): Promise<Map<string, Uint16Array>> {
  const kept = names.filter((name) => store.has(`${name}${HALF}`));
  const words = await store.read(kept.map((name) => `${name}${HALF}`));
  return new Map(
    kept.map((name) => {
      const { buffer, byteOffset, length } = words.get(`${name}${HALF}`) as Float32Array;
      return [name, new Uint16Array(buffer, byteOffset, 2 * length)];
    }),
  );
}

/** The same graph on what the store keeps as halves: halfLinear in place of linear, for all other readers the floats they are. */
export function withHalves(
  graph: Graph,
  outputs: readonly Value[],
  store: Store,
): { graph: Graph; outputs: readonly Value[] } {
  const made = new Graph();
  const copies = new Map<Value, Value>();
  const words = ({ name }: Value): Value => made.parameter(`${name}${HALF}`, store.shape(`${name}${HALF}`));
  const kept = (value: Value | undefined): boolean => value?.kind === 'parameter' && store.has(`${value.name}${HALF}`);
  const copy = (value: Value): Value => {
    // Where it is read first, so that the floats of one layer are gone before those of the next are made.
    if (kept(value) && !copies.has(value))
      copies.set(
        value,
        scoped(made, value, () => fromHalves(words(value))),
      );
    return copies.get(value) as Value;
  };
  for (const value of graph.values) {
    if (kept(value)) continue;
    const { x, weight, bias } = value.kind === 'operation' ? namedInputs(value) : {};
    if (value.operator?.name === 'linear' && value.entry === 'forward' && kept(weight)) {
      const layer = scoped(made, value, () =>
        halfLinear(copy(x as Value), words(weight as Value), {
          bias: bias && copy(bias),
          activation: value.attributes.activation as 'none' | 'relu',
        }),
      );
      copies.set(value, layer);
    } else copies.set(value, copyValue(made, value, copy));
  }
  for (const { slot, value } of graph.assignments) made.assign(copy(slot), copy(value));
  return { graph: made, outputs: outputs.map(copy) };
}
