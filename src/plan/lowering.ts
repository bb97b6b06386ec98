import type { Attributes, Lowering, Shapes } from '../graph/operator.ts';

/** Where a tensor lies inside its buffer, in elements. Kernels that load vec4s want both divisible by four. */
export interface View {
  readonly offset: number;
  readonly stride: number;
}

export type Views = Readonly<Record<string, View>>;

/**
 * One kernel (or group of kernels) that a backend has for an entry besides the plain one, as data.
 * `Adapter` is what the backend tells its tables about the machine.
 */
export interface Family<Adapter> {
  /** Entry of the operator: 'forward'. */
  readonly entry: string;
  readonly name: string;
  /** Names the order in which floats are summed. Rows of one order give equal bits. */
  readonly order: string;
  /**
   * Whether this row serves these shapes. Called with batch 1 always: what changes the order of a sum may not depend on the
   * batch, so that a face has the same bits alone and in any batch.
   */
  // biome-ignore lint/suspicious/noExplicitAny: each row knows the attributes of its operator
  when(shapes: Shapes, attributes: any, adapter: Adapter, views: Views): boolean;
  /** Steps, scratch and packed tensors for the shapes of one run. */
  // biome-ignore lint/suspicious/noExplicitAny: as above
  lower(shapes: Shapes, attributes: any, adapter: Adapter, views: Views): Lowering;
}

/** Rows in order of preference; the first whose `when` holds is taken. */
export type FamilyTable<Adapter> = readonly Family<Adapter>[];

/** What a plan asks of a backend's tables, whatever the adapter looks like. */
export interface Families {
  find(operator: string, entry: string, shapes: Shapes, attributes: Attributes, views: Views): Chosen | undefined;
}

export interface Chosen {
  readonly name: string;
  readonly order: string;
  lower(shapes: Shapes, attributes: Attributes, views: Views): Lowering;
}

/** Binds tables, keyed by operator, to one adapter. */
export function bindFamilies<Adapter>(
  tables: Readonly<Record<string, FamilyTable<Adapter>>>,
  adapter: Adapter,
): Families {
  return {
    find(operator, entry, shapes, attributes, views) {
      const row = tables[operator]?.find(
        (family) => family.entry === entry && family.when(shapes, attributes, adapter, views),
      );
      return row && { name: row.name, order: row.order, lower: (s, a, v) => row.lower(s, a, adapter, v) };
    },
  };
}
