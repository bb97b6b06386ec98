// Reads from a WGSL file what the host must know: fields of Params, bindings, entry points and their workgroup sizes. Only the
// subset that our files use (docs/architecture.md): one `struct Params`, bindings on one line, literal constants.
import { FaceNetError } from '../../errors.ts';

export interface WgslBinding {
  readonly name: string;
  readonly binding: number;
  readonly writable: boolean;
  /** Elements of f32, i32 or u32 in one array element: 4 for vec4f. */
  readonly width: number;
}

export interface WgslEntryPoint {
  readonly name: string;
  /** Expressions of @workgroup_size, as written: literals or names of constants. */
  readonly workgroupSize: readonly string[];
  /** Names of the bindings it uses, itself or through functions it calls. */
  readonly uses: ReadonlySet<string>;
  /** The file with the functions it does not reach blanked out, line for line: what a compiler need not read. */
  readonly code: string;
}

export interface WgslFile {
  readonly params: readonly (readonly [name: string, type: 'u32' | 'i32' | 'f32'])[];
  readonly bindings: ReadonlyMap<string, WgslBinding>;
  readonly entryPoints: ReadonlyMap<string, WgslEntryPoint>;
  /** Module-scope `const` and `override` declarations with integer values. */
  readonly constants: ReadonlyMap<string, { readonly value: number; readonly override: boolean }>;
}

const BINDING =
  /@group\(0\)\s*@binding\((\d+)\)\s*var<(uniform|storage(?:,\s*(read|read_write))?)>\s*(\w+)\s*:\s*([^;]+);/g;
const ENTRY = /@compute\s*@workgroup_size\(([^)]*)\)\s*fn\s+(\w+)/g;
const CONSTANT = /^[ \t]*(const|override)\s+(\w+)\s*(?::\s*\w+)?\s*=\s*(\d+)[ui]?\s*;/gm;

/** @throws 'internal' naming the file when it has no Params or binds a type we do not know. */
export function readWgsl(file: string, text: string): WgslFile {
  const source = text.replace(/\/\*[^]*?\*\/|\/\/[^\n]*/g, blank);
  const struct = /struct\s+Params\s*\{([^}]*)\}/.exec(source);
  if (!struct) throw new FaceNetError('internal', `shaders/${file}.wgsl: a struct Params is needed, got none.`);
  const params = (struct[1] as string)
    .split(',')
    .map((field) => field.trim())
    .filter(Boolean)
    .map((field) => {
      const [name, type] = field.split(/\s*:\s*/) as [string, string];
      if (!/^(u32|i32|f32)$/.test(type))
        throw new FaceNetError(
          'internal',
          `shaders/${file}.wgsl: Params.${name} must be u32, i32 or f32, got ${type}.`,
        );
      return [name, type as 'u32' | 'i32' | 'f32'] as const;
    });
  const bindings = new Map<string, WgslBinding>();
  for (const [, number, , access, name, type] of source.matchAll(BINDING)) {
    if (name === 'params') continue;
    bindings.set(name as string, {
      name: name as string,
      binding: Number(number),
      writable: access === 'read_write',
      width: /array<\s*vec4/.test(type as string) ? 4 : 1,
    });
  }
  const functions = functionsOf(source);
  const entryPoints = new Map<string, WgslEntryPoint>();
  for (const [, size, name] of source.matchAll(ENTRY)) {
    const uses = new Set<string>();
    const seen = new Set<string>();
    const visit = (called: string) => {
      if (seen.has(called)) return;
      seen.add(called);
      for (const word of functions.get(called)?.words ?? []) {
        if (bindings.has(word) || word === 'params') uses.add(word);
        if (functions.has(word)) visit(word);
      }
    };
    visit(name as string);
    entryPoints.set(name as string, {
      name: name as string,
      workgroupSize: (size as string)
        .split(',')
        .map((part) => part.trim())
        .filter(Boolean),
      uses,
      // Made when it is wanted: most entry points of a file are not.
      get code() {
        const others = [...functions].flatMap(([other, place]) => (seen.has(other) ? [] : [place]));
        return without(text, others);
      },
    });
  }
  const constants = new Map<string, { value: number; override: boolean }>();
  for (const [, kind, name, value] of source.matchAll(CONSTANT))
    constants.set(name as string, { value: Number(value), override: kind === 'override' });
  return { params, bindings, entryPoints, constants };
}

/** As many lines and as many characters. */
const blank = (text: string): string => text.replace(/[^\n]/g, ' ');

/** A text without some parts of it (in their order) but for their line ends. */
function without(text: string, parts: readonly { readonly start: number; readonly end: number }[]): string {
  const ends = [...parts.map(({ start }) => start), text.length];
  return ends
    .map((end, at) => {
      const left = parts[at - 1];
      const gap = left ? text.slice(left.start, left.end).replace(/[^\n]+/g, '') : '';
      return gap + text.slice(left?.end ?? 0, end);
    })
    .join('');
}

interface WgslFunction {
  /** Where it lies in the file, attributes included. */
  readonly start: number;
  readonly end: number;
  /** Identifiers in its body. A local that hides a binding would count as a use; our files have none. */
  readonly words: ReadonlySet<string>;
}

function functionsOf(source: string): Map<string, WgslFunction> {
  const found = new Map<string, WgslFunction>();
  for (const match of source.matchAll(/(?:@compute\s*@workgroup_size\([^)]*\)\s*)?\bfn\s+(\w+)/g)) {
    const open = source.indexOf('{', match.index);
    let depth = 0;
    let end = open;
    do {
      if (source[end] === '{') depth++;
      if (source[end] === '}') depth--;
      end++;
    } while (depth > 0 && end < source.length);
    // A member access names a field, not a variable.
    const words = new Set(source.slice(open, end).match(/(?<![.\w])[A-Za-z_]\w*/g) ?? []);
    found.set(match[1] as string, { start: match.index, end, words });
  }
  return found;
}
