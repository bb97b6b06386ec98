/**
 * A second, slow and plain reading of the safetensors rules, for the differential fuzz test. It shares nothing with
 * src/io/safetensors.ts: JSON.parse does the syntax, tokens are counted by regular expressions, sizes are BigInts.
 */

/** What a file holds, or the rule it breaks. */
export type PlainVerdict =
  | {
      ok: true;
      tensors: [name: string, dtype: string, shape: number[], bytes: Uint8Array][];
      metadata: [string, string][];
    }
  | { ok: false; rule: string };

const SIZES: [string, bigint][] = [
  ['F32', 4n],
  ['F16', 2n],
  ['U8', 1n],
  ['I8', 1n],
  ['I32', 4n],
  ['I64', 8n],
];
const LIMIT = 2n ** 53n - 1n;

export function plainSafetensors(file: Uint8Array): PlainVerdict {
  try {
    return parse(Buffer.from(file));
  } catch (error) {
    return { ok: false, rule: String((error as Error).message) };
  }
}

function demand(condition: boolean, rule: string): asserts condition {
  if (!condition) throw new Error(rule);
}

function isPlainObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parse(file: Buffer): PlainVerdict {
  demand(file.length >= 8, 'short');
  const length = file.readBigUInt64LE(0);
  demand(length <= 100_000_000n, 'header size');
  demand(BigInt(file.length) >= 8n + length, 'truncated');
  const raw = file.subarray(8, 8 + Number(length));
  const text = raw.toString('utf8');
  demand(Buffer.from(text, 'utf8').equals(raw), 'utf8');
  demand(text.startsWith('{'), 'brace');
  const header: unknown = JSON.parse(text);
  demand(isPlainObject(header), 'object');

  // JSON.parse keeps one of two equal keys: fewer keys than colons outside strings means a doubled key.
  const bare = text.replace(/"(?:[^"\\]|\\.)*"/g, '""');
  let keys = 0;
  const count = (value: unknown): void => {
    if (Array.isArray(value)) value.forEach(count);
    else if (isPlainObject(value)) {
      for (const inner of Object.values(value)) {
        keys++;
        count(inner);
      }
    }
  };
  count(header);
  demand(keys === (bare.match(/:/g) ?? []).length, 'doubled key');
  for (const number of bare.match(/[-+0-9.eE]*[0-9][-+0-9.eE]*/g) ?? []) {
    demand(/^(0|[1-9][0-9]*)$/.test(number) && BigInt(number) <= LIMIT, 'number');
  }

  const spans: { begin: bigint; end: bigint }[] = [];
  const tensors: Extract<PlainVerdict, { ok: true }>['tensors'] = [];
  let metadata: [string, string][] = [];
  for (const [name, value] of Object.entries(header) as [string, unknown][]) {
    wellFormed(name);
    demand(isPlainObject(value), 'member');
    if (name === '__metadata__') {
      metadata = Object.entries(value).map(([key, words]: [string, unknown]) => {
        demand(typeof words === 'string', 'metadata');
        wellFormed(key);
        wellFormed(words);
        return [key, words];
      });
      continue;
    }
    const fields = new Map<string, unknown>(Object.entries(value));
    demand([...fields.keys()].sort().join() === 'data_offsets,dtype,shape', 'fields');
    const size = SIZES.find(([dtype]) => dtype === fields.get('dtype'));
    demand(size !== undefined, 'dtype');
    const shape = integers(fields.get('shape'));
    demand(shape.length <= 32, 'rank');
    const offsets = integers(fields.get('data_offsets'));
    demand(offsets.length === 2, 'offsets');
    let need = size[1];
    for (const extent of shape) {
      need *= extent;
      demand(need <= LIMIT, 'overflow');
    }
    const [begin = 0n, end = 0n] = offsets;
    demand(end - begin === need && end >= begin, 'range');
    spans.push({ begin, end });
    const start = 8n + length + begin;
    tensors.push([name, size[0], shape.map(Number), file.subarray(Number(start), Number(start + need))]);
  }
  demand(tensors.length <= 65_536, 'count');
  // Walk: from 0, repeatedly the span that begins here (empty ones first), until all are used.
  const byBegin = new Map<bigint, { begin: bigint; end: bigint }[]>();
  for (const span of spans) byBegin.set(span.begin, [...(byBegin.get(span.begin) ?? []), span]);
  let at = 0n;
  let used = 0;
  for (;;) {
    const here = byBegin.get(at) ?? [];
    byBegin.delete(at);
    used += here.length;
    const filled = here.filter((span) => span.end > span.begin);
    demand(filled.length <= 1, 'overlap');
    if (filled[0] === undefined) break;
    at = filled[0].end;
  }
  demand(used === spans.length, 'hole or overlap');
  demand(at === BigInt(file.length) - 8n - length, 'end');
  return { ok: true, tensors, metadata };
}

function integers(value: unknown): bigint[] {
  demand(Array.isArray(value), 'list');
  return value.map((item: unknown) => {
    demand(typeof item === 'number' && Number.isInteger(item) && item >= 0, 'integer');
    return BigInt(item);
  });
}

function wellFormed(text: string): void {
  demand(Buffer.from(text, 'utf8').toString('utf8') === text, 'surrogate');
}
