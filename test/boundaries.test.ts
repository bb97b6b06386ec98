// The rooms of src/ and the one-way streets between them (docs/architecture.md), held against the imports in the code.
import { readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';

/** What each room may import, apart from itself. A room is a folder of src/ or a file directly in it. */
const rooms: Record<string, readonly string[]> = {
  errors: [],
  graph: ['errors'],
  ops: ['errors', 'graph'],
  plan: ['errors', 'graph', 'ops'],
  backends: ['errors', 'graph', 'ops', 'plan'],
  networks: ['errors', 'graph', 'ops'],
  // The trainer cuts its crops as the embedder does (faces/preprocessing); faces knows nothing of training.
  train: ['errors', 'graph', 'ops', 'plan', 'networks', 'faces'],
  faces: ['errors', 'graph', 'ops', 'plan', 'networks'],
  io: ['errors'],
  'facenet-gpu': ['errors', 'graph', 'ops', 'plan', 'backends', 'networks', 'train', 'faces', 'io'],
  'face-detector': ['facenet-gpu', 'errors', 'backends', 'faces', 'io'],
  index: ['face-detector', 'facenet-gpu', 'errors', 'faces', 'io', 'train'],
  evaluate: ['errors', 'faces'],
  detection: ['errors', 'faces'],
  node: ['face-detector', 'index', 'facenet-gpu', 'errors', 'faces', 'io', 'train'],
  worker: ['node', 'index', 'facenet-gpu', 'errors', 'faces', 'io', 'train'],
  cli: ['node', 'index', 'evaluate', 'facenet-gpu', 'errors', 'graph', 'faces', 'io', 'networks', 'train'],
  wgsl: [],
};
/** Pure rooms: the same in Node, in a page and in a worker. */
const pure = ['errors', 'graph', 'ops', 'networks', 'train', 'faces', 'plan'];
/** Globals of every runtime that ECMAScript does not declare. */
const everywhere = [
  'AbortSignal',
  'TextEncoder',
  'TextDecoder',
  'URL',
  'performance',
  'crypto',
  'structuredClone',
  'console',
];
const forbiddenRooms = ['utils', 'util', 'common', 'helpers', 'helper', 'core', 'misc', 'lib', 'shared', 'base'];
/** Files that are programs: importing them runs them. */
const programs = /^(cli\/(main|start|models)|worker\/(browser|node)-service|backends\/wasm\/thread(\.node)?)\.ts$/;

/** Files by path relative to src/, with their text. */
type Sources = ReadonlyMap<string, string>;

const root = new URL('../', import.meta.url);
const sources: Sources = new Map(
  readdirSync(new URL('src/', root), { recursive: true, encoding: 'utf8' })
    .map((name) => name.replaceAll('\\', '/'))
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .sort()
    .map((name) => [name, readFileSync(new URL(`src/${name}`, root), 'utf8')]),
);

const roomOf = (file: string) => file.split('/')[0]!.replace(/\.ts$/, '');
const parse = (file: string, text: string) => ts.createSourceFile(file, text, ts.ScriptTarget.ES2022, true);

interface Import {
  readonly specifier: string;
  /** Erased by the compiler, so that it cannot make a cycle at run time. */
  readonly typeOnly: boolean;
}

function importsOf(file: string, text: string): Import[] {
  const found: Import[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) {
      const specifier = node.moduleSpecifier;
      const typeOnly = ts.isExportDeclaration(node)
        ? node.isTypeOnly
        : node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword;
      if (specifier !== undefined && ts.isStringLiteral(specifier)) found.push({ specifier: specifier.text, typeOnly });
    }
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const argument = node.arguments[0];
      if (argument !== undefined && ts.isStringLiteralLike(argument))
        found.push({ specifier: argument.text, typeOnly: false });
    }
    if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument) && ts.isStringLiteral(node.argument.literal)) {
      found.push({ specifier: node.argument.literal.text, typeOnly: true });
    }
    ts.forEachChild(node, visit);
  };
  visit(parse(file, text));
  return found;
}

const target = (file: string, specifier: string) => posix.normalize(posix.join(posix.dirname(file), specifier));

/** Imports against the table of rooms. */
function wrongImports(files: Sources): string[] {
  const wrong: string[] = [];
  for (const [file, text] of files) {
    const room = roomOf(file);
    const allowed = rooms[room];
    if (allowed === undefined) {
      wrong.push(`src/${file}: ${room} is no room of the table`);
      continue;
    }
    for (const { specifier } of importsOf(file, text)) {
      if (!specifier.startsWith('.')) {
        if (pure.includes(room))
          wrong.push(`src/${file} imports ${specifier}; ${room} imports no package and nothing of Node`);
        continue;
      }
      const path = target(file, specifier);
      if (path.startsWith('../')) {
        if (!/^\.\.\/shaders\/[\w.-]+\.wgsl$/.test(path))
          wrong.push(`src/${file} imports ${specifier}; outside src/ only shaders may be imported`);
      } else if (roomOf(path) !== room && !allowed.includes(roomOf(path))) {
        wrong.push(`src/${file} imports src/${path}; ${room} may import only: ${[room, ...allowed].join(', ')}`);
      } else if (!files.has(path) && !path.endsWith('.json')) {
        wrong.push(`src/${file} imports ${specifier}, which is no file; write the extension`);
      }
    }
  }
  return wrong;
}

/** Cycles of imports that exist at run time, each as "a -> b -> a". */
function cycles(files: Sources): string[] {
  const edges = new Map(
    [...files].map(([file, text]) => [
      file,
      importsOf(file, text)
        .filter(({ specifier, typeOnly }) => specifier.startsWith('.') && !typeOnly)
        .map(({ specifier }) => target(file, specifier)),
    ]),
  );
  const found: string[] = [];
  const finished = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) found.push([...path.slice(path.indexOf(file)), file].join(' -> '));
    if (path.includes(file) || finished.has(file)) return;
    for (const next of edges.get(file) ?? []) visit(next, [...path, file]);
    finished.add(file);
  };
  for (const file of files.keys()) visit(file, []);
  return found;
}

/** What alone may be kept for all objects: compiled modules of dist/, code that never changes, where a runtime's host finds them. */
const keptCode = (file: string, container: ts.Node): boolean =>
  ['io/browser-host.ts', 'io/node/host.ts'].includes(file) &&
  container.getText() === 'new Map<string, Promise<WebAssembly.Module>>()';

/** State and work at module level: `let`, empty containers, calls; and default exports. */
function moduleLevelFaults(files: Sources): string[] {
  const faults: string[] = [];
  for (const [file, text] of files) {
    for (const statement of parse(file, text).statements) {
      const report = (what: string) =>
        faults.push(`src/${file}: ${what}: ${statement.getText().split('\n')[0]!.slice(0, 80)}`);
      if (ts.isVariableStatement(statement)) {
        if (!(statement.declarationList.flags & ts.NodeFlags.Const)) report('mutable at module level');
        for (const { initializer, type } of statement.declarationList.declarations) {
          const fixed = /^readonly\b/i.test(type?.getText() ?? '');
          if (initializer !== undefined && !fixed && isEmptyContainer(initializer) && !keptCode(file, initializer))
            report('an empty container at module level is state');
        }
      } else if (ts.isExpressionStatement(statement) && !programs.test(file)) {
        report('runs at import');
      }
      const isDefault =
        ts.isExportAssignment(statement) ||
        (ts.canHaveModifiers(statement) &&
          (ts.getModifiers(statement) ?? []).some(({ kind }) => kind === ts.SyntaxKind.DefaultKeyword));
      if (isDefault) report('default export');
    }
  }
  return faults;
}

function isEmptyContainer(node: ts.Expression): boolean {
  if (ts.isNewExpression(node))
    return /^(Weak)?(Map|Set)$/.test(node.expression.getText()) && (node.arguments?.length ?? 0) === 0;
  if (ts.isArrayLiteralExpression(node)) return node.elements.length === 0;
  return ts.isObjectLiteralExpression(node) && node.properties.length === 0;
}

/** Rooms and folders with a name that says nothing. */
function namelessRooms(files: Sources): string[] {
  return [...files.keys()].filter((file) =>
    file
      .replace(/\.ts$/, '')
      .split('/')
      .some((part) => forbiddenRooms.includes(part)),
  );
}

/** Questions about the backend outside the places that may ask. */
function backendQuestions(files: Sources): string[] {
  return [...files]
    .filter(
      ([file, text]) =>
        [...pure, 'io'].includes(roomOf(file)) &&
        /[!=]==?\s*['"](webgpu|wasm)['"]/.test(text.replaceAll(/\/\/.*$/gm, '')),
    )
    .map(([file]) => `src/${file}`);
}

/** Names of Node or the DOM that the pure rooms use, found by compiling them without the types of either. */
function foreignNames(files: Sources): string[] {
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
    types: [],
    allowImportingTsExtensions: true,
    resolveJsonModule: true,
    noEmit: true,
    strict: true,
  };
  const host = ts.createCompilerHost(options);
  const prefix = '/source/';
  const read = (name: string) => (name.startsWith(prefix) ? files.get(name.slice(prefix.length)) : undefined);
  const { getSourceFile, fileExists, readFile } = host;
  host.fileExists = (name) => read(name) !== undefined || fileExists.call(host, name);
  host.readFile = (name) => read(name) ?? readFile.call(host, name);
  host.getSourceFile = (name, ...rest) => {
    const text = read(name);
    return text === undefined ? getSourceFile.call(host, name, ...rest) : parse(name, text);
  };
  const names = [...files.keys()].filter((file) => pure.includes(roomOf(file))).map((file) => prefix + file);
  const program = ts.createProgram(names, options, host);
  return names.flatMap((name) =>
    program
      .getSemanticDiagnostics(program.getSourceFile(name))
      // 2304, 2503, 2552, 2580, 2583, 2584, 2591, 2592: "Cannot find name ...", with and without advice.
      .filter(({ code }) => [2304, 2503, 2552, 2580, 2583, 2584, 2591, 2592].includes(code))
      .map(({ messageText }) => /'(\w+)'/.exec(ts.flattenDiagnosticMessageText(messageText, ' '))?.[1] ?? '?')
      .filter((found) => !everywhere.includes(found))
      .map((found) => `src/${name.slice(prefix.length)}: ${found}`),
  );
}

describe('src/', () => {
  test('imports go one way', () => expect(wrongImports(sources)).toEqual([]));
  test('has no cycle', () => expect(cycles(sources)).toEqual([]));
  test('holds no state and runs nothing at import', () => expect(moduleLevelFaults(sources)).toEqual([]));
  test('has no room without a meaning', () => expect(namelessRooms(sources)).toEqual([]));
  test('asks for the backend only where it is chosen', () => expect(backendQuestions(sources)).toEqual([]));
  test('pure rooms use nothing of Node or the DOM', { timeout: 120_000 }, () =>
    expect(foreignNames(sources)).toEqual([]),
  );
});

describe('the rules themselves notice', () => {
  const planted = (files: Record<string, string>): Sources => new Map(Object.entries(files));

  test('an arrow that goes back', () => {
    const files = planted({ 'ops/add.ts': "import type { Plan } from '../plan/plan.ts';", 'plan/plan.ts': '' });
    expect(wrongImports(files)).toEqual([
      'src/ops/add.ts imports src/plan/plan.ts; ops may import only: ops, errors, graph',
    ]);
  });
  test('a dynamic import, a re-export and an import type', () => {
    const text =
      "export * from '../train/a.ts'; const b = await import('../train/a.ts'); type C = import('../train/a.ts').C;";
    expect(wrongImports(planted({ 'io/x.ts': text, 'train/a.ts': '' }))).toHaveLength(3);
  });
  test('a package in a pure room, an unknown room, a missing extension, a way out of src', () => {
    expect(wrongImports(planted({ 'graph/a.ts': "import 'node:fs';" }))[0]).toContain('imports node:fs');
    expect(wrongImports(planted({ 'stuff/a.ts': '' }))[0]).toContain('no room');
    expect(wrongImports(planted({ 'graph/a.ts': "import './b';", 'graph/b.ts': '' }))[0]).toContain('extension');
    expect(wrongImports(planted({ 'backends/a.ts': "import '../../test/b.ts';" }))[0]).toContain('outside src/');
    expect(wrongImports(planted({ 'backends/a.ts': "import x from '../../shaders/relu.wgsl';" }))).toEqual([]);
  });
  test('a cycle of three, but not one of types', () => {
    const files = {
      'io/a.ts': "import './b.ts';",
      'io/b.ts': "import './c.ts';",
      'io/c.ts': "import { type A } from './a.ts';",
    };
    expect(cycles(planted(files))).toEqual(['io/a.ts -> io/b.ts -> io/c.ts -> io/a.ts']);
    expect(cycles(planted({ ...files, 'io/c.ts': "import type { A } from './a.ts';" }))).toEqual([]);
  });
  test.each([
    'let count = 0;',
    'export var count = 0;',
    'const cache = new Map<string, number>();',
    'const list: number[] = [];',
    'register();',
    'export default 3;',
    'export default function f() {}',
  ])('%s', (text) => expect(moduleLevelFaults(planted({ 'io/a.ts': text }))).toHaveLength(1));
  test('constants are no state', () => {
    const text =
      "const names = new Set(['a']); const one = [1]; const none: Readonly<Record<string, number>> = {}; export function f() { let x = 0; return x; }";
    expect(moduleLevelFaults(planted({ 'io/a.ts': text }))).toEqual([]);
  });
  test('a room called utils and a question about the backend', () => {
    expect(namelessRooms(planted({ 'io/utils.ts': '', 'io/utilities.ts': '' }))).toEqual(['io/utils.ts']);
    expect(backendQuestions(planted({ 'train/a.ts': "if (kind === 'webgpu') go();" }))).toEqual(['src/train/a.ts']);
    expect(backendQuestions(planted({ 'facenet-gpu.ts': "if (kind === 'webgpu') go();" }))).toEqual([]);
  });
  test('names of the DOM and of Node', { timeout: 120_000 }, () => {
    const text =
      'export const a = document; export const b = process; export let c: GPUDevice; export let d: AbortSignal; Buffer;';
    expect(foreignNames(planted({ 'train/a.ts': text }))).toEqual(
      ['document', 'process', 'GPUDevice', 'Buffer'].map((name) => `src/train/a.ts: ${name}`),
    );
  });
});
