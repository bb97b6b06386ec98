import { entryOf, type Graph, namedInputs, type Value } from '../graph/graph.ts';
import { inputName } from '../graph/operator.ts';

/** What a plan has to compute, in order. */
export interface Schedule {
  /** Operations that depend on the batch or on run-time values, in order of execution; updates of the store come last. */
  readonly operations: readonly Value[];
  /** Operations on parameters and constants alone: computed when the plan is made. Empty if the graph updates parameters. */
  readonly constants: readonly Value[];
  /** Every other value that is read: inputs, parameters, constants. */
  readonly leaves: readonly Value[];
}

/** The values that must exist for these outputs and the graph's assignments; nothing else is planned. */
export function schedule(graph: Graph, outputs: readonly Value[], hoist: boolean): Schedule {
  const live = new Set<Value>();
  const pending = [...outputs, ...graph.assignments.flatMap(({ slot, value }) => [slot, value])];
  for (let value = pending.pop(); value; value = pending.pop()) {
    if (live.has(value)) continue;
    live.add(value);
    for (const input of value.inputs) if (input) pending.push(input);
  }
  const order = [...live].sort((a, b) => a.id - b.id);

  const fixed = new Set<Value>();
  for (const value of order) {
    const leaf = value.kind === 'parameter' || value.kind === 'constant';
    if (hoist && (leaf || (value.kind === 'operation' && value.inputs.every((input) => !input || fixed.has(input)))))
      fixed.add(value);
  }

  // An update writes its slot in place, so it and all that reads its result run after everything that reads the old value.
  const late = new Set<Value>();
  for (const value of order) {
    if (value.kind === 'operation' && (updatesStore(value) || value.inputs.some((input) => input && late.has(input))))
      late.add(value);
  }
  const operations = order.filter((value) => value.kind === 'operation' && !fixed.has(value));
  return {
    operations: [...operations.filter((value) => !late.has(value)), ...operations.filter((value) => late.has(value))],
    constants: order.filter((value) => value.kind === 'operation' && fixed.has(value)),
    leaves: order.filter((value) => value.kind !== 'operation'),
  };
}

/** The parameter whose memory an operation's output takes, if its entry works in place. */
export function updatedSlot(value: Value): Value | undefined {
  const entry = entryOf(value);
  if (!entry.inPlace) return undefined;
  return namedInputs(value)[entry.inPlace];
}

function updatesStore(value: Value): boolean {
  const entry = entryOf(value);
  return entry.inPlace !== undefined || (entry.mutates?.length ?? 0) > 0;
}

/** Whether the operation's kernels accept a channel range for this input. */
export function acceptsRange(reader: Value, input: Value): boolean {
  const entry = entryOf(reader);
  return entry.inputs.every(
    (declared, index) => reader.inputs[index] !== input || (entry.strided?.includes(inputName(declared)) ?? false),
  );
}
