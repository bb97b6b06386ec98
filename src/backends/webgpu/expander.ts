/**
 * Turns a complete, valid WGSL file into the same program in the form that every compiler makes fast code from:
 *
 * 1. values of chosen module constants are replaced      `const TM = 4u;`          -> `const TM = 2u;`
 * 2. marked loops are unrolled                           `for (var i = 0u; i < TM; i++) { // unroll`
 * 3. arrays of functions become scalars                  `sum[1][3]`               -> `sum_1_3`
 * 4. constant-lane shuffles become broadcasts            `subgroupShuffle(v, 3u)`  -> `subgroupBroadcast(v, 3u)`
 *    (a broadcast's lane must be a constant expression, so a loop in a valid file can only say shuffle), or `quadBroadcast` where the
 *    constant SG says that a subgroup is a quad: SwiftShader makes fewer instructions of it
 *
 * Everything else passes through unchanged. What cannot be done is an error with its source line, never a silent fallback: a kernel
 * that keeps its loops is correct and up to ten times slower on some adapters. No WGSL grammar or types are checked here: that is
 * done by compiling the file as committed.
 */

/** Values for module constants, by name: a whole number for `u32`/`i32` literals, a boolean for `true`/`false`. */
export type Constants = Readonly<Record<string, number | boolean>>;

/** A place in the source file; `iteration` reads 'i=2, j=0' inside unrolled loops and is '' elsewhere. */
export interface Origin {
  readonly line: number;
  readonly iteration: string;
}

export interface Expansion {
  readonly code: string;
  /** Where a line of `code` (from 1) comes from. */
  origin(line: number): Origin;
}

/** A rule of the expander is broken; `line` counts from 1 in the source file, 0 where no line is to blame. */
export class ExpandError extends Error {
  override readonly name = 'ExpandError';
  readonly line: number;

  constructor(at: Origin, rule: string) {
    super(`line ${at.line}${at.iteration && ` (${at.iteration})`}: ${rule}`);
    this.line = at.line;
  }
}

/** White space and comments are tokens too: the texts of all tokens joined are the file. */
interface Token {
  text: string;
  readonly line: number;
  /** White space or a comment. */
  readonly blank: boolean;
  /** Behind a dot: the name of a member, not of a variable. */
  readonly member: boolean;
}

type Values = ReadonlyMap<string, number>;

const TOKEN =
  /\/\/[^\n]*|\/\*[^]*?\*\/|\s+|[A-Za-z_]\w*|0[xX][\da-fA-F]+[iu]?|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fhiu]?|[^]/g;
const MARK = /^\/\/ unroll\s*$/;
const LOOSE_MARK = /^\/\/\s*unroll\b/i;
const INTEGER = /^(0[xX][\da-fA-F]+|\d+)[iu]?$/;
const MAX_TRIPS = 64;
const MAX_PIECES = 200_000;

function fail(token: Token | undefined, rule: string, iteration = ''): never {
  throw new ExpandError({ line: token?.line ?? 0, iteration }, rule);
}

function tokenise(source: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  let previous = '';
  for (const [text] of source.matchAll(TOKEN)) {
    const blank = /^(\s|\/\/|\/\*)/.test(text);
    const token = { text, line, blank, member: previous === '.' };
    if (/^\/\*[^]*\/\*/.test(text)) fail(token, 'block comments may not be nested');
    tokens.push(token);
    if (!blank) previous = text;
    line += newlines(text);
  }
  return tokens;
}

function newlines(text: string): number {
  let count = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) count++;
  return count;
}

const join = (tokens: readonly Token[]) => tokens.map((token) => token.text).join('');

/** Position of the next token after `at` that is no white space or comment. */
function after(tokens: readonly Token[], at: number): number {
  do at++;
  while (tokens[at]?.blank);
  return at;
}

function find(tokens: readonly Token[], at: number, text: string): number {
  for (let p = at; p < tokens.length; p++) if (tokens[p]?.text === text) return p;
  return fail(tokens[at] ?? tokens[tokens.length - 1], `"${text}" expected`);
}

const CLOSING: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

/** Position of the bracket that closes the one at `at`. */
function closing(tokens: readonly Token[], at: number): number {
  const open = tokens[at] as Token;
  const close = CLOSING[open.text];
  for (let p = at, depth = 0; p < tokens.length; p++) {
    const { text } = tokens[p] as Token;
    if (text === open.text) depth++;
    else if (text === close && --depth === 0) return p;
  }
  return fail(open, `"${open.text}" is not closed`);
}

/**
 * Value of the integer constant expression in tokens[start, end) (+ - * / %, parentheses, literals, known names); undefined for
 * anything else.
 */
function evaluate(tokens: readonly Token[], start: number, end: number, values: Values): number | undefined {
  let p = start;
  const skip = () => {
    while (p < end && tokens[p]?.blank) p++;
  };
  const take = (): string => {
    skip();
    return p < end ? (tokens[p++] as Token).text : '';
  };
  const peek = (): string => {
    skip();
    return p < end ? (tokens[p] as Token).text : '';
  };
  const atom = (): number => {
    const text = take();
    if (text === '(') {
      const inner = sum();
      return take() === ')' ? inner : Number.NaN;
    }
    if (text === '-') return -atom();
    return values.get(text) ?? (INTEGER.test(text) ? Number(text.replace(/[iu]$/, '')) : Number.NaN);
  };
  const product = (): number => {
    let value = atom();
    for (let sign = peek(); sign === '*' || sign === '/' || sign === '%'; sign = peek()) {
      p++;
      const right = atom();
      value = sign === '*' ? value * right : sign === '/' ? Math.trunc(value / right) : value % right;
    }
    return value;
  };
  const sum = (): number => {
    let value = product();
    for (let sign = peek(); sign === '+' || sign === '-'; sign = peek()) {
      p++;
      const right = product();
      value = sign === '+' ? value + right : value - right;
    }
    return value;
  };
  const value = sum();
  return peek() === '' && Number.isSafeInteger(value) ? value : undefined;
}

/** Replaces constants in place. Returns the values of all integer module constants. */
function replaceConstants(tokens: Token[], constants: Constants): Map<string, number> {
  const values = new Map<string, number>();
  const left = new Set(Object.keys(constants));
  for (let p = 0, depth = 0; p < tokens.length; p++) {
    const { text } = tokens[p] as Token;
    if (text === '{') depth++;
    if (text === '}') depth--;
    if (text !== 'const' || depth > 0) continue;
    const at = after(tokens, p);
    const name = tokens[at]?.text ?? '';
    const equals = find(tokens, at, '=');
    const end = find(tokens, equals, ';');
    const literal = tokens[after(tokens, equals)] as Token;
    if (left.delete(name)) {
      const isFlag = literal.text === 'true' || literal.text === 'false';
      const value = constants[name];
      if (after(tokens, after(tokens, equals)) !== end || !(isFlag || /^\d+[iu]?$/.test(literal.text))) {
        fail(literal, `const ${name} must be one integer or boolean literal to be replaced`);
      }
      const fits = isFlag ? typeof value === 'boolean' : Number.isSafeInteger(value) && (value as number) >= 0;
      if (!fits) fail(literal, `const ${name} takes ${isFlag ? 'a boolean' : 'a whole number from 0'}, got ${value}`);
      literal.text = `${value}${isFlag ? '' : (/[iu]?$/.exec(literal.text)?.[0] ?? '')}`;
    }
    const value = evaluate(tokens, equals + 1, end, values);
    if (value !== undefined) values.set(name, value);
  }
  if (left.size > 0) fail(undefined, `no module constant is named ${[...left].join(', ')}`);
  return values;
}

interface MarkedLoop {
  readonly variable: string;
  /** The body: tokens[first, end), `end` being its closing brace. */
  readonly first: number;
  readonly end: number;
  /** Ranges of the expressions of its first value and of its bound. */
  readonly from: readonly [start: number, end: number];
  readonly to: readonly [start: number, end: number];
}

/** A function's array: where it is declared, and its sizes, outermost first. */
interface LocalArray {
  readonly line: number;
  readonly sizes: readonly number[];
}

/** Writes the expanded file in one pass over the source's tokens; the bodies of marked loops are passed several times. */
class Writer {
  readonly pieces: string[] = [];
  /** Where each line of the output comes from, from 1. */
  readonly origins: Origin[] = [];
  readonly #tokens: readonly Token[];
  /** Module constants, and the variables of the loops around the current token. */
  readonly #values: Map<string, number>;
  readonly #variables = new Set<string>();
  readonly #names: ReadonlySet<string>;
  readonly #loops = new Map<number, MarkedLoop | undefined>();
  readonly #arrays = new Map<string, LocalArray>();
  #iteration = '';
  #depth = 0;
  #line = 1;
  /** The last token that is not blank. */
  #previous = '';

  constructor(tokens: readonly Token[], values: Map<string, number>) {
    this.#tokens = tokens;
    this.#values = values;
    this.#names = new Set(tokens.map(({ text }) => text));
  }

  write(start: number, end: number): void {
    const tokens = this.#tokens;
    for (let p = start; p < end; p++) {
      const token = tokens[p] as Token;
      const { text } = token;
      if (token.blank) {
        if (LOOSE_MARK.test(text))
          this.#fail(token, 'the mark belongs behind the "{" of a for loop, spelt "// unroll"');
        this.pieces.push(text);
        this.#line += newlines(text);
        continue;
      }
      const previous = this.#previous;
      this.#previous = text;
      if (text === '{') this.#depth++;
      else if (text === '}' && --this.#depth === 0) this.#arrays.clear();
      if (!token.member && this.#values.has(text)) this.#refuseHiding(token, p, previous);
      if (text === 'for') {
        const loop = this.#loopAt(p);
        if (loop) {
          this.#unroll(token, loop);
          p = loop.end;
          continue;
        }
      }
      if (this.#depth > 0 && !token.member) {
        const last =
          text === 'var' ? this.#declaration(p) : text === 'array' ? this.#refuseArray(token) : this.#element(p);
        if (last !== undefined) {
          p = last;
          continue;
        }
      }
      this.#put(
        token,
        this.#variables.has(text) && !token.member
          ? `${this.#values.get(text)}u`
          : text === 'subgroupShuffle'
            ? this.#shuffle(p)
            : text,
      );
    }
  }

  #fail(token: Token, rule: string): never {
    fail(token, rule, this.#iteration);
  }

  #put(token: Token, text: string): void {
    this.pieces.push(text);
    if (!this.origins[this.#line]) this.origins[this.#line] = { line: token.line, iteration: this.#iteration };
    if (this.pieces.length > MAX_PIECES) this.#fail(token, `an expansion may have ${MAX_PIECES} tokens, got more`);
  }

  #refuseHiding(token: Token, at: number, previous: string): void {
    const declares =
      this.#depth > 0
        ? previous === 'let' || previous === 'var' || previous === 'const'
        : (previous === '(' || previous === ',') && this.#tokens[after(this.#tokens, at)]?.text === ':';
    if (declares)
      this.#fail(
        token,
        `${token.text} hides ${this.#variables.has(token.text) ? 'the variable of an unrolled loop' : 'a module constant'}`,
      );
  }

  #refuseArray(token: Token): never {
    this.#fail(token, 'a local array is written "var name : array<T, constant>;"');
  }

  /** The loop whose `for` stands at `at`, if it is marked. */
  #loopAt(at: number): MarkedLoop | undefined {
    if (this.#loops.has(at)) return this.#loops.get(at);
    const tokens = this.#tokens;
    const open = after(tokens, at);
    const shut = closing(tokens, open);
    const brace = find(tokens, shut, '{');
    const mark = /^[ \t]*$/.test(tokens[brace + 1]?.text ?? '') ? brace + 2 : brace + 1;
    let loop: MarkedLoop | undefined;
    if (MARK.test(tokens[mark]?.text ?? '')) {
      const head = join(tokens.slice(open + 1, shut).filter((token) => !token.blank));
      const [, variable = ''] = /^var([A-Za-z_]\w*)=.+u;\1<.+;\1\+\+$/.exec(head) ?? [];
      if (variable === '') this.#refuseHead(at);
      const from = find(tokens, open, '=') + 1;
      const middle = find(tokens, from, ';');
      const to = find(tokens, middle, '<') + 1;
      const end = closing(tokens, brace);
      for (let p = mark; p < end; p++) {
        const jump = tokens[p] as Token;
        if (jump.text === 'break' || jump.text === 'continue')
          this.#fail(jump, `${jump.text} may not stand inside an unrolled loop`);
      }
      loop = { variable, first: mark + 1, end, from: [from, middle], to: [to, find(tokens, to, ';')] };
    }
    this.#loops.set(at, loop);
    return loop;
  }

  #refuseHead(at: number): never {
    this.#fail(this.#tokens[at] as Token, 'an unrolled loop reads: for (var i = 0u; i < <constant>; i++) { // unroll');
  }

  /** Each iteration becomes a block { ... } in which the loop variable is a u32 literal. */
  #unroll(token: Token, loop: MarkedLoop): void {
    const { variable } = loop;
    const from = evaluate(this.#tokens, ...loop.from, this.#values);
    const to = evaluate(this.#tokens, ...loop.to, this.#values);
    // biome-ignore lint/correctness/noVoidTypeReturn: it never returns, and only so does TypeScript see it
    if (from === undefined || to === undefined) return this.#refuseHead(this.#tokens.indexOf(token));
    if (to - from > MAX_TRIPS) this.#fail(token, `a loop may be unrolled ${MAX_TRIPS} times, got ${to - from}`);
    if (this.#values.has(variable))
      this.#fail(
        token,
        `${variable} hides ${this.#variables.has(variable) ? 'the variable of an unrolled loop' : 'a module constant'}`,
      );
    const outer = this.#iteration;
    this.#variables.add(variable);
    this.#depth++;
    for (let trip = from; trip < to; trip++) {
      this.#iteration = `${outer && `${outer}, `}${variable}=${trip}`;
      this.#values.set(variable, trip);
      this.#put(token, '{');
      this.write(loop.first, loop.end);
      this.#put(token, '}');
    }
    this.#depth--;
    this.#values.delete(variable);
    this.#variables.delete(variable);
    this.#iteration = outer;
  }

  /** `var s : array<array<T, N>, M>;` at `at` becomes `var s_0_0 : T; ...`. Returns the position of its last token; undefined for other variables. */
  #declaration(at: number): number | undefined {
    const tokens = this.#tokens;
    const nameAt = after(tokens, at);
    const colon = after(tokens, nameAt);
    if (tokens[colon]?.text !== ':' || tokens[after(tokens, colon)]?.text !== 'array') return undefined;
    const token = tokens[at] as Token;
    const name = tokens[nameAt]?.text ?? '';
    if (this.#values.has(name)) this.#refuseHiding(tokens[nameAt] as Token, nameAt, 'var');
    const end = find(tokens, colon, ';');
    let type = tokens.slice(colon + 1, end).filter((t) => !t.blank);
    const sizes: number[] = [];
    while (type[0]?.text === 'array') {
      const comma = type.map(({ text }) => text).lastIndexOf(',');
      const size = comma < 0 ? undefined : evaluate(type, comma + 1, type.length - 1, this.#values);
      if (type[type.length - 1]?.text !== '>' || size === undefined || size < 1) {
        this.#fail(token, `${name}: write "var ${name} : array<T, constant>;", without a value`);
      }
      sizes.push(size);
      type = type.slice(2, comma);
    }
    const known = this.#arrays.get(name);
    if (known && known.line !== token.line) this.#fail(token, `${name} is declared twice in one function`);
    this.#arrays.set(name, { line: token.line, sizes });
    const elements = sizes.reduce(
      (names, size) => names.flatMap((n) => Array.from({ length: size }, (_, k) => `${n}_${k}`)),
      [name],
    );
    for (const element of elements) {
      if (this.#names.has(element)) this.#fail(token, `${element} is already a name in this file`);
      this.#put(token, `var ${element} : ${join(type)}; `);
    }
    this.#previous = ';';
    return end;
  }

  /** `s[1][2]` at `at` becomes `s_1_2`. Returns the position of its last token; undefined where no array's name stands. */
  #element(at: number): number | undefined {
    const tokens = this.#tokens;
    const token = tokens[at] as Token;
    const array = this.#arrays.get(token.text);
    if (!array) return undefined;
    let element = token.text;
    let p = at;
    for (const size of array.sizes) {
      const open = after(tokens, p);
      if (tokens[open]?.text !== '[') this.#fail(token, `${token.text} may only be used element by element`);
      p = closing(tokens, open);
      const index = evaluate(tokens, open + 1, p, this.#values);
      if (index === undefined)
        this.#fail(token, `an index of ${token.text} is not constant: is a "// unroll" missing?`);
      if (index < 0 || index >= size) this.#fail(token, `index ${index} of ${token.text} is outside 0..${size - 1}`);
      element += `_${index}`;
    }
    this.#put(token, element);
    this.#previous = ']';
    return p;
  }

  /** What stands for the `subgroupShuffle` at `at`: a broadcast if the lane is constant. */
  #shuffle(at: number): string {
    const open = after(this.#tokens, at);
    const end = closing(this.#tokens, open);
    let comma = end - 1;
    for (let depth = 0; comma > open; comma--) {
      const text = this.#tokens[comma]?.text;
      if (text === ')' || text === ']') depth++;
      else if (text === '(' || text === '[') depth--;
      else if (text === ',' && depth === 0) break;
    }
    const lane = evaluate(this.#tokens, comma + 1, end, this.#values);
    if (lane === undefined || lane < 0 || lane >= 128) return 'subgroupShuffle';
    return this.#values.get('SG') === 4 ? 'quadBroadcast' : 'subgroupBroadcast';
  }
}

/** The file as it stands, with other constants: step 1 alone. `specialise(source)` is `source`. */
export function specialise(source: string, constants: Constants = {}): string {
  const tokens = tokenise(source);
  replaceConstants(tokens, constants);
  return join(tokens);
}

/**
 * The file specialised, unrolled, without local arrays, with broadcasts.
 *
 * @throws ExpandError on an unknown or derived constant, a stray or misspelt mark, another loop head, more than 64 trips, break or
 * continue, an array with a value or used whole or by a non-constant index, a name that clashes or hides a constant.
 */
export function expand(source: string, constants: Constants = {}): Expansion {
  const tokens = tokenise(source);
  const writer = new Writer(tokens, replaceConstants(tokens, constants));
  writer.write(0, tokens.length);
  const { origins } = writer;
  return {
    code: writer.pieces.join(''),
    origin(at) {
      for (let line = at; line > 0; line--) if (origins[line]) return origins[line] as Origin;
      return { line: 1, iteration: '' };
    },
  };
}

/** A compiler's message about expanded code, in terms of the source file: 'conv2d.wgsl:60 (i=0): error: ...'. */
export function explain(
  message: { readonly lineNum: number; readonly type: string; readonly message: string },
  expansion: Expansion,
  file: string,
): string {
  const { line, iteration } = expansion.origin(message.lineNum);
  return `${file}:${line}${iteration && ` (${iteration})`}: ${message.type}: ${message.message}`;
}
