// area: unit
//
// What the host reads from a WGSL file.
import { expect, test } from 'vitest';
import { readWgsl } from '../src/backends/webgpu/wgsl.ts';

const FILE = `// two entries; fn notOne() { }
struct Params { count : u32, scale : f32 }
const TILE = 4u;
@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;
@group(0) @binding(3) var<storage, read_write> z : array<f32>;

fn twice(a : f32) -> f32 { /* } */ return 2.0 * a; }

// what first does
@compute @workgroup_size(TILE)
fn first(@builtin(global_invocation_id) id : vec3u) {
  if (id.x < params.count) { y[id.x] = twice(x[id.x].y); }
}

@compute
@workgroup_size(2, 2)
fn second() {
  z[0] = f32(params.count);
}
`;

test('bindings, fields, constants and entry points', () => {
  const file = readWgsl('some', FILE);
  expect(file.params).toEqual([
    ['count', 'u32'],
    ['scale', 'f32'],
  ]);
  expect([...file.bindings.keys()]).toEqual(['x', 'y', 'z']);
  expect(file.bindings.get('x')).toMatchObject({ binding: 1, writable: false, width: 4 });
  expect(file.constants.get('TILE')).toEqual({ value: 4, override: false });
  expect([...file.entryPoints.keys()]).toEqual(['first', 'second']);
  expect(file.entryPoints.get('first')).toMatchObject({ workgroupSize: ['TILE'], uses: new Set(['params', 'y', 'x']) });
});

test('an entry point is compiled without the functions it does not reach, line for line', () => {
  const { entryPoints } = readWgsl('some', FILE);
  const lines = FILE.split('\n');
  const left = (kernel: string) =>
    entryPoints
      .get(kernel)!
      .code.split('\n')
      .map((line, at) => (line === lines[at] ? 'same' : line.trim() === '' ? 'blank' : 'changed'));
  const [helper, first, second] = ['fn twice', '@workgroup_size(TILE)', '@compute'].map((text, at) =>
    lines.findIndex((line) => (at === 2 ? line === text : line.includes(text))),
  ) as [number, number, number];
  const blanks = (kernel: string) => left(kernel).flatMap((what, at) => (what === 'same' ? [] : [[at, what]]));
  expect(blanks('first')).toEqual([0, 1, 2, 3, 4].map((line) => [second + line, 'blank']));
  expect(blanks('second')).toEqual([helper, first, first + 1, first + 2, first + 3].map((line) => [line, 'blank']));
});
