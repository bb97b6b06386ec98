import type { Attributes, Choice, Lowering, Shapes } from '../graph/operator.ts';

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
  /** Steps, scratch and packed tensors for the shapes of one run; rows that change a part of the plain lowering get it from `plain`. */
  // biome-ignore lint/suspicious/noExplicitAny: as above
  lower(shapes: Shapes, attributes: any, adapter: Adapter, views: Views, plain?: PlainLowering): Lowering;
}

/** Rows in order of preference; the first whose `when` holds is taken. */
export type FamilyTable<Adapter> = readonly Family<Adapter>[];

/** Kernels that a tuner prefers to the defaults: names of variants by the key of the choice. */
export type Preferred = ReadonlyMap<string, string>;

/** What a plan asks of a backend's tables, whatever the adapter looks like. */
export interface Families {
  find(operator: string, entry: string, shapes: Shapes, attributes: Attributes, views: Views): Chosen | undefined;
  /** The same tables with other defaults, of equal bits. */
  preferring(preferred: Preferred): Families;
}

/** The lowering of an entry without a family, where that has several steps. */
// biome-ignore lint/suspicious/noExplicitAny: each operator has attributes of its own
export type PlainLowering = (shapes: Shapes, attributes: any) => Lowering;

export interface Chosen {
  readonly name: string;
  readonly order: string;
  lower(shapes: Shapes, attributes: Attributes, views: Views, plain?: PlainLowering): Lowering;
}

/** One of variants that give equal bits: what is preferred for this key, else the first; and what there was to choose from. */
export function pick<T>(
  key: string,
  variants: readonly T[],
  nameOf: (variant: T) => string,
  preferred?: Preferred,
): { readonly variant: T; readonly choice?: Choice } {
  const names = variants.map(nameOf);
  const index = Math.max(0, names.indexOf(preferred?.get(key) ?? ''));
  const variant = variants[index] as T;
  return names.length > 1 ? { variant, choice: { key, variants: names, taken: names[index] as string } } : { variant };
}

/**
 * Binds tables, keyed by operator, to one adapter. Tables that have variants of a kernel themselves pick by `adapter.preferred`.
 * Rows of one order are variants of each other.
 */
export function bindFamilies<Adapter>(
  tables: Readonly<Record<string, FamilyTable<Adapter>>>,
  adapter: Adapter,
): Families {
  const { preferred } = (adapter ?? {}) as { readonly preferred?: Preferred };
  return {
    find(operator, entry, shapes, attributes, views) {
      const rows = (tables[operator] ?? []).filter(
        (family) => family.entry === entry && family.when(shapes, attributes, adapter, views),
      );
      const [first] = rows;
      if (!first) return undefined;
      const equal = rows.filter(({ order }) => order === first.order);
      const key = equal.length > 1 ? `${operator}.${entry} ${JSON.stringify([shapes, attributes])}` : '';
      const { variant, choice } = pick(key, equal, ({ name }) => name, preferred);
      return {
        name: variant.name,
        order: variant.order,
        lower(s, a, v, plain) {
          const lowering = variant.lower(s, a, adapter, v, plain);
          return choice ? { ...lowering, steps: lowering.steps.map((step) => ({ ...step, choice })) } : lowering;
        },
      };
    },
    preferring: (wanted) => bindFamilies(tables, { ...adapter, preferred: wanted }),
  };
}
