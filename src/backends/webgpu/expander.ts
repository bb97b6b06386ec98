/**
 * Turns a complete, valid WGSL file into the same program in the form that every compiler makes fast code from:
 *
 * 1. values of chosen module constants are replaced      `const TM = 4u;`          -> `const TM = 2u;`
 * 2. marked loops are unrolled                           `for (var i = 0u; i < TM; i++) { // unroll`
 * 3. arrays of functions become scalars                  `sum[1][3]`               -> `sum_1_3`
 * 4. constant-lane shuffles become broadcasts            `subgroupShuffle(v, 3u)`  -> `subgroupBroadcast(v, 3u)`
 *    (a broadcast's lane must be a constant expression, so a loop in a valid file can only say shuffle)
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

  constructor(token: Token | undefined, rule: string) {
    const at = token?.iteration ? ` (${token.iteration})` : '';
    super(`line ${token?.line ?? 0}${at}: ${rule}`);
    this.line = token?.line ?? 0;
  }
}

/** White space and comments are tokens too: the texts of all tokens joined are the file. */
interface Token {
  text: string;
  readonly line: number;
  readonly iteration: string;
}

type Values = ReadonlyMap<string, number>;

const TOKEN =
  /\/\/[^\n]*|\/\*[^]*?\*\/|\s+|[A-Za-z_]\w*|0[xX][\da-fA-F]+[iu]?|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fhiu]?|[^]/g;
const MARK = /^\/\/ unroll\s*$/;
const MAX_TRIPS = 64;
const MAX_TOKENS = 200_000;

function tokenise(source: string): Token[] {
  let line = 1;
  return [...source.matchAll(TOKEN)].map(([text]) => {
    const token = { text, line, iteration: '' };
    line += text.split('\n').length - 1;
    if (/^\/\*[^]*\/\*/.test(text)) throw new ExpandError(token, 'block comments may not be nested');
    return token;
  });
}

const join = (tokens: readonly Token[]) => tokens.map((token) => token.text).join('');
const isBlank = (token: Token | undefined) => token !== undefined && /^(\s|\/\/|\/\*)/.test(token.text);

/** Position of the next token after `at` that is no white space or comment. */
function after(tokens: readonly Token[], at: number): number {
  do at++;
  while (isBlank(tokens[at]));
  return at;
}

/** Text of the last token before `at` that is no white space or comment. */
function before(tokens: readonly Token[], at: number): string | undefined {
  do at--;
  while (isBlank(tokens[at]));
  return tokens[at]?.text;
}

function find(tokens: readonly Token[], at: number, text: string): number {
  for (let p = at; p < tokens.length; p++) if (tokens[p]?.text === text) return p;
  throw new ExpandError(tokens[at] ?? tokens[tokens.length - 1], `"${text}" expected`);
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
  throw new ExpandError(open, `"${open.text}" is not closed`);
}

/** Value of an integer constant expression (+ - * / %, parentheses, literals, module constants); undefined for anything else. */
function evaluate(tokens: readonly Token[], values: Values): number | undefined {
  const texts = tokens.filter((token) => !isBlank(token)).map((token) => token.text);
  let p = 0;
  const atom = (): number => {
    const text = texts[p++] ?? '';
    if (text === '(') {
      const inner = sum();
      return texts[p++] === ')' ? inner : Number.NaN;
    }
    if (text === '-') return -atom();
    if (/^(0[xX][\da-fA-F]+|\d+)[iu]?$/.test(text)) return Number(text.replace(/[iu]$/, ''));
    return values.get(text) ?? Number.NaN;
  };
  const product = (): number => {
    let value = atom();
    for (let sign = texts[p]; sign === '*' || sign === '/' || sign === '%'; sign = texts[p]) {
      p++;
      const right = atom();
      value = sign === '*' ? value * right : sign === '/' ? Math.trunc(value / right) : value % right;
    }
    return value;
  };
  const sum = (): number => {
    let value = product();
    for (let sign = texts[p]; sign === '+' || sign === '-'; sign = texts[p]) {
      p++;
      const right = product();
      value = sign === '+' ? value + right : value - right;
    }
    return value;
  };
  const value = sum();
  return p === texts.length && Number.isSafeInteger(value) ? value : undefined;
}

/** Step 1, in place. Returns the values of all integer module constants. */
function replaceConstants(tokens: Token[], constants: Constants): Values {
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
        throw new ExpandError(literal, `const ${name} must be one integer or boolean literal to be replaced`);
      }
      const fits = isFlag ? typeof value === 'boolean' : Number.isSafeInteger(value) && (value as number) >= 0;
      if (!fits) {
        throw new ExpandError(literal, `const ${name} takes ${isFlag ? 'a boolean' : 'a whole number from 0'}, got ${value}`);
      }
      literal.text = `${value}${isFlag ? '' : (/[iu]?$/.exec(literal.text)?.[0] ?? '')}`;
    }
    const value = evaluate(tokens.slice(equals + 1, end), values);
    if (value !== undefined) values.set(name, value);
  }
  if (left.size > 0) throw new ExpandError(undefined, `no module constant is named ${[...left].join(', ')}`);
  return values;
}

/** Step 2. Each iteration becomes a block { ... } in which the loop variable is a u32 literal. */
function unroll(tokens: readonly Token[], values: Values): Token[] {
  const out: Token[] = [];
  for (let p = 0; p < tokens.length; p++) {
    const token = tokens[p] as Token;
    if (/^\/\/\s*unroll\b/i.test(token.text)) {
      throw new ExpandError(token, 'the mark belongs behind the "{" of a for loop, spelt "// unroll"');
    }
    if (token.text !== 'for') {
      out.push(token);
      continue;
    }
    const open = after(tokens, p);
    const shut = closing(tokens, open);
    const brace = find(tokens, shut, '{');
    const mark = /^[ \t]*$/.test(tokens[brace + 1]?.text ?? '') ? brace + 2 : brace + 1;
    if (!MARK.test(tokens[mark]?.text ?? '')) {
      out.push(token);
      continue;
    }
    const head = /^var([A-Za-z_]\w*)=(.+u);\1<(.+);\1\+\+$/.exec(join(tokens.slice(open + 1, shut).filter((t) => !isBlank(t))));
    const [, name = '', first = '', last = ''] = head ?? [];
    const from = evaluate(tokenise(first), values);
    const to = evaluate(tokenise(last), values);
    if (from === undefined || to === undefined) {
      throw new ExpandError(token, 'an unrolled loop reads: for (var i = 0u; i < <constant>; i++) { // unroll');
    }
    if (to - from > MAX_TRIPS) throw new ExpandError(token, `a loop may be unrolled ${MAX_TRIPS} times, got ${to - from}`);
    const end = closing(tokens, brace);
    const body = tokens.slice(mark + 1, end);
    const jump = body.find(({ text }) => text === 'break' || text === 'continue');
    if (jump) throw new ExpandError(jump, `${jump.text} may not stand inside an unrolled loop`);
    for (let trip = from; trip < to; trip++) {
      const iteration = `${token.iteration && `${token.iteration}, `}${name}=${trip}`;
      const copy = body.map((t, k) => ({
        ...t,
        iteration,
        text: t.text === name && before(body, k) !== '.' ? `${trip}u` : t.text,
      }));
      out.push({ ...token, iteration, text: '{' });
      for (const expanded of unroll(copy, values)) out.push(expanded);
      out.push({ ...token, iteration, text: '}' });
      if (out.length > MAX_TOKENS) throw new ExpandError(token, `an expansion may have ${MAX_TOKENS} tokens, got more`);
    }
    p = end;
  }
  return out;
}

/** Step 3. `var s : array<array<T, N>, M>;` -> `var s_0_0 : T; ...` and `s[1][2]` -> `s_1_2`, for the arrays of functions. */
function scalarise(tokens: readonly Token[], values: Values): Token[] {
  const used = new Set(tokens.map(({ text }) => text));
  const out: Token[] = [];
  let arrays = new Map<string, { readonly line: number; readonly sizes: readonly number[] }>();
  for (let p = 0, depth = 0; p < tokens.length; p++) {
    const token = tokens[p] as Token;
    const previous = before(tokens, p) ?? '';
    if (token.text === '{') depth++;
    if (token.text === '}') depth--;
    const declares = depth > 0
      ? ['let', 'var', 'const'].includes(previous)
      : ['(', ','].includes(previous) && tokens[after(tokens, p)]?.text === ':';
    if (declares && values.has(token.text)) throw new ExpandError(token, `${token.text} hides a module constant`);
    if (depth === 0) {
      arrays = new Map();
      out.push(token);
      continue;
    }
    if (token.text === 'var' && /^\w+\s*:\s*array\b/.test(join(tokens.slice(after(tokens, p), p + 12)))) {
      const name = tokens[after(tokens, p)]?.text ?? '';
      const end = find(tokens, p, ';');
      const { sizes, type } = arrayType(token, name, tokens.slice(find(tokens, p, ':') + 1, end), values);
      const known = arrays.get(name);
      if (known && known.line !== token.line) throw new ExpandError(token, `${name} is declared twice in one function`);
      arrays.set(name, { line: token.line, sizes });
      for (const element of elementNames(name, sizes)) {
        if (used.has(element)) throw new ExpandError(token, `${element} is already a name in this file`);
        out.push({ ...token, text: `var ${element} : ${type}; ` });
      }
      p = end;
      continue;
    }
    if (token.text === 'array') throw new ExpandError(token, 'a local array is written "var name : array<T, constant>;"');
    const array = arrays.get(token.text);
    if (!array || previous === '.') {
      out.push(token);
      continue;
    }
    let element = token.text;
    for (const size of array.sizes) {
      const open = after(tokens, p);
      if (tokens[open]?.text !== '[') throw new ExpandError(token, `${token.text} may only be used element by element`);
      p = closing(tokens, open);
      const index = evaluate(tokens.slice(open + 1, p), values);
      if (index === undefined) {
        throw new ExpandError(token, `an index of ${token.text} is not constant: is a "// unroll" missing?`);
      }
      if (index < 0 || index >= size) throw new ExpandError(token, `index ${index} of ${token.text} is outside 0..${size - 1}`);
      element += `_${index}`;
    }
    out.push({ ...token, text: element });
  }
  return out;
}

/** Sizes and element type of `array<array<T, N>, M>`, outermost first. */
function arrayType(at: Token, name: string, written: readonly Token[], values: Values): { sizes: number[]; type: string } {
  const sizes: number[] = [];
  let type = written.filter((token) => !isBlank(token));
  while (type[0]?.text === 'array') {
    const comma = type.map(({ text }) => text).lastIndexOf(',');
    const size = comma < 0 ? undefined : evaluate(type.slice(comma + 1, -1), values);
    if (type[type.length - 1]?.text !== '>' || size === undefined || size < 1) {
      throw new ExpandError(at, `${name}: write "var ${name} : array<T, constant>;", without a value`);
    }
    sizes.push(size);
    type = type.slice(2, comma);
  }
  return { sizes, type: join(type) };
}

function elementNames(name: string, sizes: readonly number[]): string[] {
  return sizes.reduce((names, size) => names.flatMap((n) => Array.from({ length: size }, (_, k) => `${n}_${k}`)), [name]);
}

/** Step 4, in place. */
function broadcast(tokens: readonly Token[], values: Values): void {
  tokens.forEach((token, p) => {
    if (token.text !== 'subgroupShuffle') return;
    const open = after(tokens, p);
    const lane = evaluate(tokens.slice(find(tokens, open, ',') + 1, closing(tokens, open)), values);
    if (lane !== undefined && lane >= 0 && lane < 128) token.text = 'subgroupBroadcast';
  });
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
  const values = replaceConstants(tokens, constants);
  const expanded = scalarise(unroll(tokens, values), values);
  broadcast(expanded, values);
  const origins: Origin[] = [];
  let line = 1;
  for (const token of expanded) {
    if (!isBlank(token)) origins[line] ??= { line: token.line, iteration: token.iteration };
    line += token.text.split('\n').length - 1;
  }
  return {
    code: join(expanded),
    origin(at) {
      for (let l = at; l > 0; l--) if (origins[l]) return origins[l] as Origin;
      return { line: 1, iteration: '' };
    },
  };
}

/** A compiler's message about expanded code, in terms of the source file: 'conv2d.wgsl:60 (i=0): error: ...'. */
export function explain(message: { readonly lineNum: number; readonly type: string; readonly message: string }, expansion: Expansion, file: string): string {
  const { line, iteration } = expansion.origin(message.lineNum);
  return `${file}:${line}${iteration && ` (${iteration})`}: ${message.type}: ${message.message}`;
}
