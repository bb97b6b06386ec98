/**
 * Weights of linear layers kept as float16: half the memory, computed with in float32. The store holds them as words of two halves under
 * `name` + HALF, [in, outputs / 2]; this pass lets the layers read those.
 */
import { Graph, namedInputs, type Value } from '../graph/graph.ts';
import type { Shape } from '../graph/shape.ts';
import { halfLinear } from '../ops/halfLinear.ts';
import { copyValue, scoped } from './copying.ts';
import { HALF, type Store } from './store.ts';

/** Whether a parameter can be kept so: the weight of a linear layer with a multiple of eight outputs. */
export const fitsHalves = (shape: Shape): boolean => shape.length === 2 && (shape[1] as number) % 8 === 0;

/** Keeps a weight [in, outputs] as float16; `bits` are its values as such. */
export function setHalves(store: Store, name: string, bits: Uint16Array, shape: Shape): void {
  const [rows, outputs] = shape as readonly [number, number];
  store.set(`${name}${HALF}`, new Float32Array(bits.buffer, bits.byteOffset, bits.length / 2), [rows, outputs / 2]);
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

/** The same graph with halfLinear in place of linear where the store keeps halves. */
export function withHalves(
  graph: Graph,
  outputs: readonly Value[],
  store: Store,
): { graph: Graph; outputs: readonly Value[] } {
  const made = new Graph();
  const copies = new Map<Value, Value>();
  const copy = (value: Value): Value => copies.get(value) as Value;
  for (const value of graph.values) {
    if (value.kind === 'parameter' && store.has(`${value.name}${HALF}`)) continue;
    const { x, weight, bias } = value.kind === 'operation' ? namedInputs(value) : {};
    if (
      value.operator?.name === 'linear' &&
      value.entry === 'forward' &&
      weight &&
      store.has(`${weight.name}${HALF}`)
    ) {
      const name = `${weight.name}${HALF}`;
      const made16 = scoped(made, value, () =>
        halfLinear(copy(x as Value), made.parameter(name, store.shape(name)), {
          bias: bias && copy(bias),
          activation: value.attributes.activation as 'none' | 'relu',
        }),
      );
      copies.set(value, made16);
      continue;
    }
    copies.set(value, copyValue(made, value, copy));
  }
  for (const { slot, value } of graph.assignments) made.assign(copy(slot), copy(value));
  return { graph: made, outputs: outputs.map(copy) };
}
