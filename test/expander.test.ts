import { describe, expect, test } from 'vitest';
import { ExpandError, expand, explain, specialise } from '../src/backends/webgpu/expander.ts';

const squash = (code: string) => code.replace(/\s+/g, ' ').trim();

describe('what it does', () => {
  test('an unchanged file passes through specialise byte by byte', () => {
    const source =
      '// a /* b */\nconst TM = 4u; /* const TM = 1u; */\nfn f() -> f32 { return 1.5e-3f + .5 + 0x1Fu; }\n';
    expect(specialise(source)).toBe(source);
  });

  test('constants are replaced by name, with their suffix, at module scope only', () => {
    const source = 'const TM = 4u; const FLAG = true; const N = 3; fn f() { const TM2 = 7u; let y = TM; }';
    expect(specialise(source, { TM: 2, FLAG: false, N: 5 })).toBe(
      'const TM = 2u; const FLAG = false; const N = 5; fn f() { const TM2 = 7u; let y = TM; }',
    );
  });

  test('marked loops become blocks, their variable a literal, nested ones too', () => {
    const source =
      'const TM = 2u;\nfn f() {\n for (var i = 0u; i < TM; i++) { // unroll\n g(i); for (var j = 1u; j < TM + 1u; j++) { // unroll\n h(i * j, p.i); } }\n}';
    expect(squash(expand(source).code)).toBe(
      'const TM = 2u; fn f() { { g(0u); { h(0u * 1u, p.i); }{ h(0u * 2u, p.i); } }{ g(1u); { h(1u * 1u, p.i); }{ h(1u * 2u, p.i); } } }',
    );
  });

  test('loops without a mark stay loops', () => {
    const source = 'fn f() { for (var i = 0u; i < n; i++) { if (i > 3u) { break; } } }';
    expect(expand(source).code).toBe(source);
  });

  test('local arrays become scalars, in the derived size of the constants', () => {
    const source =
      'const A = 1u; const B = A * 2u; fn f() { var s : array<array<vec4f, B>, A>; s[0][B - 1u] += vec4f(1.0); let t = s[A - 1u][0u].x; }';
    expect(squash(expand(source).code)).toBe(
      'const A = 1u; const B = A * 2u; fn f() { var s_0_0 : vec4f; var s_0_1 : vec4f; s_0_1 += vec4f(1.0); let t = s_0_0.x; }',
    );
  });

  test('two functions may have arrays of one name and different sizes; module arrays stay', () => {
    const source =
      'var<workgroup> w : array<f32, 4>; fn f() { var s : array<f32, 1>; s[0] = w[0]; } fn g() { var s : array<f32, 2>; s[1] = 0.0; }';
    expect(squash(expand(source).code)).toBe(
      'var<workgroup> w : array<f32, 4>; fn f() { var s_0 : f32; s_0 = w[0]; } fn g() { var s_0 : f32; var s_1 : f32; s_1 = 0.0; }',
    );
  });

  test('shuffles from a constant lane become broadcasts, others stay', () => {
    const source =
      'const SG = 8u; fn f() { let a = subgroupShuffle(v, (9u % SG)); let b = subgroupShuffle(v, lane); let c = subgroupShuffle(g(v, 1u), 2u); }';
    expect(expand(source).code).toContain(
      'let a = subgroupBroadcast(v, (9u % SG)); let b = subgroupShuffle(v, lane); let c = subgroupBroadcast(g(v, 1u), 2u);',
    );
    expect(expand(source, { SG: 4 }).code).toContain(
      'let a = quadBroadcast(v, (9u % SG)); let b = subgroupShuffle(v, lane); let c = quadBroadcast(g(v, 1u), 2u);',
    );
  });

  test('lines of the output know their source line and iteration', () => {
    const source =
      'const TM = 3u;\nfn f() {\n  for (var i = 0u; i < TM; i++) { // unroll\n    g(i);\n    h(i);\n  }\n  k();\n}\n';
    const expansion = expand(source);
    const lines = expansion.code.split('\n');
    const at = lines.findIndex((line) => line.includes('h(1u)')) + 1;
    expect(expansion.origin(at)).toEqual({ line: 5, iteration: 'i=1' });
    expect(expansion.origin(lines.findIndex((line) => line.includes('k()')) + 1)).toEqual({ line: 7, iteration: '' });
    expect(expansion.origin(2)).toEqual({ line: 2, iteration: '' });
    expect(explain({ lineNum: at, type: 'error', message: 'no h' }, expansion, 'x.wgsl')).toBe(
      'x.wgsl:5 (i=1): error: no h',
    );
  });
});

describe('what it refuses', () => {
  const loop = (head: string, body = 'g(i);', mark = '// unroll') =>
    `const TM = 4u;\nfn f() {\n  for (${head}) { ${mark}\n    ${body}\n  }\n}\n`;
  const good = 'var i = 0u; i < TM; i++';
  const inside = (body: string, constants = '') => `const TM = 4u; ${constants}\nfn f(n : u32) {\n  ${body}\n}\n`;

  const cases: readonly [
    why: string,
    source: string,
    constants: Record<string, number | boolean>,
    line: number,
    message: string,
  ][] = [
    ['an unknown constant', 'const TM = 4u;', { TN: 1 }, 0, 'no module constant is named TN'],
    ['a constant of a function', 'fn f() { const TM = 4u; }', { TM: 1 }, 0, 'no module constant is named TM'],
    ['a derived constant', 'const A = 1u;\nconst B = A * 2u;', { B: 4 }, 2, 'must be one integer or boolean literal'],
    ['a float constant', 'const A = 1.5;', { A: 4 }, 1, 'must be one integer or boolean literal'],
    ['a negative value', 'const A = 1u;', { A: -1 }, 1, 'takes a whole number from 0, got -1'],
    ['a fraction', 'const A = 1u;', { A: 1.5 }, 1, 'takes a whole number from 0, got 1.5'],
    ['a number for a flag', 'const A = true;', { A: 1 }, 1, 'takes a boolean, got 1'],
    ['a boolean for a number', 'const A = 1u;', { A: true }, 1, 'takes a whole number from 0, got true'],
    ['a stray mark', inside('g(); // unroll'), {}, 3, 'the mark belongs behind'],
    ['a misspelt mark', loop(good, 'g(i);', '//unroll'), {}, 3, 'the mark belongs behind'],
    ['a mark with more words', loop(good, 'g(i);', '// unroll this'), {}, 3, 'the mark belongs behind'],
    ['another comparison', loop('var i = 0u; i <= TM; i++'), {}, 3, 'an unrolled loop reads'],
    ['a step of two', loop('var i = 0u; i < TM; i += 2u'), {}, 3, 'an unrolled loop reads'],
    ['a signed variable', loop('var i = 0; i < 4; i++'), {}, 3, 'an unrolled loop reads'],
    ['a bound that is not constant', loop('var i = 0u; i < n; i++'), {}, 3, 'an unrolled loop reads'],
    ['another variable in the step', loop('var i = 0u; i < TM; j++'), {}, 3, 'an unrolled loop reads'],
    ['too many trips', loop('var i = 0u; i < 65u; i++'), {}, 3, 'unrolled 64 times, got 65'],
    [
      'an explosion',
      loop(
        'var i = 0u; i < 64u; i++',
        'for (var j = 0u; j < 64u; j++) { // unroll\nfor (var k = 0u; k < 64u; k++) { // unroll\n g(i, j, k); } }',
      ),
      {},
      5,
      '200000 tokens',
    ],
    ['break', loop(good, 'break;'), {}, 4, 'break may not stand'],
    ['continue', loop(good, 'if (i == 1u) { continue; }'), {}, 4, 'continue may not stand'],
    ['an array with a value', inside('var s : array<f32, 2> = array(1.0, 2.0);'), {}, 3, 'without a value'],
    ['an inferred array', inside('let s = array(1.0, 2.0);'), {}, 3, 'a local array is written'],
    ['an array of unknown size', inside('var s : array<f32, n>;'), {}, 3, 'without a value'],
    ['an empty array', inside('var s : array<f32, TM - 4u>;'), {}, 3, 'without a value'],
    ['whole use of an array', inside('var s : array<f32, 2>; g(s);'), {}, 3, 'only be used element by element'],
    [
      'a row of an array',
      inside('var s : array<array<f32, 2>, 2>; g(s[0]);'),
      {},
      3,
      'only be used element by element',
    ],
    ['a pointer to an array', inside('var s : array<f32, 2>; g(&s);'), {}, 3, 'only be used element by element'],
    ['a computed index', inside('var s : array<f32, 2>; s[n] = 1.0;'), {}, 3, 'an index of s is not constant'],
    ['an index past the end', inside('var s : array<f32, 2>; s[2] = 1.0;'), {}, 3, 'index 2 of s is outside 0..1'],
    ['an index below zero', inside('var s : array<f32, 2>; s[1 - 2] = 1.0;'), {}, 3, 'index -1 of s is outside 0..1'],
    [
      'a declaration of the same name elsewhere',
      inside('var s : array<f32, 2>;\n { var s : array<f32, 3>; }'),
      {},
      4,
      's is declared twice',
    ],
    ['a clash of names', inside('var s : array<f32, 2>; let s_1 = 1.0;'), {}, 3, 's_1 is already a name'],
    ['a local that hides a constant', inside('let TM = 1u;'), {}, 3, 'TM hides a module constant'],
    [
      'a local that hides a loop variable',
      loop(good, 'let i = 1u;'),
      {},
      4,
      'i hides the variable of an unrolled loop',
    ],
    [
      'a loop that hides the variable of another',
      loop(good, 'for (var i = 0u; i < TM; i++) { // unroll\n }'),
      {},
      4,
      'i hides the variable of an unrolled loop',
    ],
    ['a parameter that hides a constant', 'const n = 4u;\nfn f(n : u32) { }', {}, 2, 'n hides a module constant'],
    ['nested block comments', 'const A = 1u;\n/* a /* b */ c */', {}, 2, 'may not be nested'],
    ['an open bracket', 'fn f() {\n  for (var i = 0u; i < 2u; i++ { // unroll\n', {}, 2, 'is not closed'],
  ];
  test.each(cases)('%s', (_, source, constants, line, message) => {
    let caught: unknown;
    try {
      expand(source, constants);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(ExpandError);
    expect((caught as ExpandError).message).toContain(message);
    expect((caught as ExpandError).line).toBe(line);
  });

  test('an error inside an unrolled loop names the iteration', () => {
    expect(() => expand(loop(good, 'var s : array<f32, 3>; s[i] = 1.0;'))).toThrow(
      'line 4 (i=3): index 3 of s is outside 0..2',
    );
  });
});
