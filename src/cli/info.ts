import { stat } from 'node:fs/promises';
import { FaceNetError } from '../errors.ts';
import { type NetworkSurvey, surveyNetworks } from '../facenet-gpu/survey.ts';
import { activationMemory, blocks, cost, type Layer, layers } from '../graph/accounting.ts';
import { Graph } from '../graph/graph.ts';
import { BATCH } from '../graph/shape.ts';
import { imageFormat } from '../io/images.ts';
import { type ModelFile, readModelFile } from '../io/model-file.ts';
import { createNodeHost } from '../io/node/host.ts';
import { decodeImageInNode, readWholeFile } from '../io/node/image-files.ts';
import { sha256 } from '../io/sha256.ts';
import type { BuildOptions, NetworkName } from '../networks/network.ts';
import { networks } from '../networks/networks.ts';
import { published } from '../networks/published.ts';
import { type Capabilities, FaceNetGPU } from '../node.ts';
import type { Context } from './context.ts';
import { exitCodes } from './exit-code.ts';
import { type MeasuredNetwork, networksReport, starred } from './report/networks-report.ts';
import { checkReport, writeReport } from './report/page.ts';
import { table } from './terminal.ts';

/** Largest file that is described. */
const MAX_FILE_BYTES = 2 ** 31;

/** Options of `facenet info` without a subject. */
export interface InfoOptions {
  readonly time: boolean;
  readonly report?: string;
}

/** Batch sizes of the forecast of memory. */
const BATCHES = [1, 32];

/** `facenet info`: what this machine can do and what every network costs on it, or what a model, a network or an image is. */
export async function info(context: Context, subject: string | undefined, options: InfoOptions): Promise<number> {
  if (subject !== undefined && options.report !== undefined)
    throw new FaceNetError('input', `info: --report shows all networks, got ${subject} beside it. Leave one out.`);
  if (subject === undefined) await machine(context, options);
  else if (await exists(subject)) await file(context, subject);
  else if (Object.hasOwn(networks, subject)) await network(context, subject as NetworkName);
  else {
    const names = Object.keys(networks).join(', ');
    throw new FaceNetError(
      'input',
      `info: a model file, an image or a network (${names}), got ${JSON.stringify(subject)}, which is none. Check the name.`,
    );
  }
  return exitCodes.done;
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

async function machine(context: Context, { time, report }: InfoOptions): Promise<void> {
  const { terminal } = context;
  if (report !== undefined) await checkReport(report);
  const capabilities = await FaceNetGPU.probe();
  const measured = await measuredNetworks();
  const asText = terminal.format === 'text';
  if (asText) terminal.text(machineText(capabilities));
  const counter = terminal.counter('networks', Object.keys(networks).length);
  let done = 0;
  const survey = await surveyNetworks(createNodeHost(), {
    ...context.computing,
    precision: context.precision,
    signal: context.signal,
    batches: BATCHES,
    timed: time ? [1] : [],
    onNetwork: (network) => {
      // Each as soon as it is known: a large network takes seconds.
      if (asText && done === 0) terminal.text(`\n${lineOf(surveyHeading(time))}`);
      if (asText) terminal.text(lineOf(surveyRow(network, measured, time)));
      counter.update(++done);
    },
  }).finally(() => counter.stop());
  const { why, networks: surveys } = survey;
  const answers = {
    schema: 'facenet/probe@1',
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    ...capabilities,
    computing: why,
    networks: surveys.map((network) => ({ ...network, published: withoutRows(network.name) })),
  };
  if (report !== undefined) {
    const rows = [surveyHeading(time), ...surveys.map((network) => surveyRow(network, measured, time))];
    await writeReport(report, networksReport(surveys, measured, rows, why), answers);
    terminal.note(`facenet: ${report} written`);
  }
  if (!asText) {
    answer(terminal, answers);
    return;
  }
  terminal.text(
    `\ncomputed on ${why}; weights in the package: dlib-resnet\nVAL at FAR 1e-3 as published (Schroff et al. 2015, Table 3) or measured, accuracy on LFW of the publisher's weights; * layers unpublished`,
  );
  const advice = adviceFor(capabilities);
  if (advice) terminal.text(`\n${advice}`);
}

function machineText({ webgpu, wasm }: Capabilities): string {
  const yes = (value: boolean | undefined) => (value ? 'yes' : 'no');
  return table([
    ['Node', `${process.version}, ${process.platform} ${process.arch}`],
    [
      'WebGPU',
      webgpu.available ? `${webgpu.adapter}${webgpu.software ? ' (computes in software)' : ''}` : 'not available',
    ],
    ['', webgpu.why],
    ...(webgpu.available
      ? [
          ['', `f16 ${yes(webgpu.f16)}, timestamps ${yes(webgpu.timestamps)}`],
          ['', `known answers: ${webgpu.answers}`],
        ]
      : []),
    ['wasm', `SIMD ${yes(wasm.simd)}, relaxed SIMD ${yes(wasm.relaxedSimd)}, threads ${wasm.threads}`],
    ['', wasm.why],
  ]);
}

const surveyHeading = (time: boolean): string[] => [
  'network',
  'input',
  'parameters',
  'multiply-adds',
  ...BATCHES.map((batch) => `memory x${batch}`),
  ...(time ? ['time'] : []),
  'accuracy',
];

/** One line a network. */
function surveyRow(
  { name, input, parameters, multiplyAdds, memory, milliseconds, trouble }: NetworkSurvey,
  measured: readonly MeasuredNetwork[],
  time: boolean,
): string[] {
  const { validationRate, lfw } = published[name];
  const own = measured.find((network) => network.name === name);
  return [
    starred(name),
    `${input.width} x ${input.height}`,
    count(parameters),
    count(multiplyAdds),
    ...BATCHES.map((batch) => (memory[batch] == null ? 'too large' : megabytes(memory[batch]))),
    ...(time
      ? [
          milliseconds?.[1] === undefined
            ? trouble === undefined
              ? ''
              : 'no room'
            : `${milliseconds[1].toFixed(1)} ms`,
        ]
      : []),
    validationRate
      ? `VAL ${validationRate.percent.toFixed(1)} %`
      : own
        ? `VAL ${(100 * own.val).toFixed(1)} %, measured`
        : lfw
          ? `LFW ${(100 * lfw.accuracy).toFixed(2)} %`
          : '',
  ];
}

/** A row as wide as any network's will be. */
function lineOf(cells: readonly string[]): string {
  const widths = [19, 9, 11, 13, 9, 10, 9];
  return cells
    .map((cell, at) =>
      at < 2 || at === cells.length - 1 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0),
    )
    .join('  ')
    .trimEnd();
}

function withoutRows(name: NetworkName): object {
  const { rows: _, ...rest } = published[name];
  return rest;
}

/** Packaged weights, by what their card says of FAR 1e-3. */
async function measuredNetworks(): Promise<MeasuredNetwork[]> {
  const packaged = await modelOf('dlib-resnet');
  const point = packaged?.model.metadata.operatingPoints.find(({ far }) => Math.abs(Math.log10(far) + 3) < 0.01);
  if (!point) return [];
  const { multiplyAdds } = cost(built('dlib-resnet', {}).list);
  return [
    {
      name: 'dlib-resnet',
      multiplyAdds,
      val: point.val,
      source: point.source.replace(/, (all its pairs|largest threshold|threshold of best).*/, ''),
    },
  ];
}

/** What would make this machine faster. */
function adviceFor({ webgpu }: Capabilities): string | undefined {
  if (webgpu.available && !webgpu.software) return undefined;
  const drivers =
    process.platform === 'linux'
      ? ' On Linux the GPU needs its Vulkan driver (Debian: mesa-vulkan-drivers; NVIDIA: libvulkan1 and its own driver).'
      : '';
  return /package webgpu/.test(webgpu.why)
    ? `For the GPU install the optional package: npm install webgpu.${drivers}`
    : `The wasm backend computes here, as no hardware adapter was found.${drivers}`;
}

async function network({ terminal }: Context, name: NetworkName): Promise<void> {
  const packaged = await modelOf(name);
  const inPackage = packaged && { ...cardOf(packaged.model), sha256: packaged.sha256 };
  if (terminal.format !== 'text') {
    answer(terminal, { ...networkAnswer(name, {}), ...(inPackage && { model: inPackage }) });
    return;
  }
  terminal.text(networkText(name, terminal));
  if (packaged) terminal.text(`\nweights in the package:\n${modelText(packaged.model, packaged.sha256)}`);
}

/** The packaged model of this name, if there is one. */
async function modelOf(name: string): Promise<{ model: ModelFile; sha256: string } | undefined> {
  try {
    const { bytes } = await createNodeHost().readModel(name);
    return { model: readModelFile(bytes, name), sha256: await sha256(bytes) };
  } catch (error) {
    if (error instanceof FaceNetError && error.code === 'model') return undefined;
    throw error;
  }
}

async function file({ terminal }: Context, path: string): Promise<void> {
  const bytes = await readWholeFile(path, path, MAX_FILE_BYTES);
  const format = imageFormat(bytes);
  if (format !== undefined) {
    const { width, height } = await decodeImageInNode(bytes, { source: path });
    if (terminal.format === 'text')
      terminal.text(`${path}: ${format}, ${width} x ${height} upright, ${bytes.length} bytes`);
    else answer(terminal, { schema: 'facenet/image@1', path, format, width, height, bytes: bytes.length });
    return;
  }
  const model = readModelFile(bytes, path);
  const digest = await sha256(bytes);
  if (terminal.format === 'text') terminal.text(`${path}:\n${modelText(model, digest)}`);
  else answer(terminal, { schema: 'facenet/model@1', path, ...cardOf(model), sha256: digest });
}

const cardOf = ({ metadata, tensors }: ModelFile): object => ({ ...metadata, tensors: tensors.size });

function modelText({ metadata, tensors }: ModelFile, digest: string): string {
  const {
    network: name,
    dimensions,
    input,
    pixels,
    template,
    operatingPoints,
    licence,
    trainedOn,
    source,
    library,
    initialised,
  } = metadata;
  const points = template.points.map((point) => `(${point.join(', ')})`).join(' ');
  const rows = [
    ['network', `${name}, ${dimensions} numbers a face`],
    ['input', `${input.width} x ${input.height} ${input.colour}, template ${template.name} ${points}`.trimEnd()],
    [
      'pixels',
      'scale' in pixels
        ? `(byte - ${pixels.mean.every((mean) => mean === pixels.mean[0]) ? pixels.mean[0] : `(${pixels.mean.join(', ')})`}) * ${pixels.scale}`
        : 'each crop to mean 0, deviation 1',
    ],
    ...(initialised
      ? [
          [
            'NOT TRAINED',
            `${initialised.tensors.length} of ${tensors.size} tensors are random, by seed ${initialised.seed}: ${initialised.tensors.join(', ')}`,
          ],
        ]
      : []),
    ['licence', licence],
    ['trained on', trainedOn],
    ['source', source],
    ['written by', library],
    ['SHA-256', digest],
  ];
  const sorted = [...operatingPoints].sort((a, b) => b.far - a.far);
  const rate = (value: number) => value.toExponential(1);
  const lines = sorted.map(({ threshold, far, farInterval: [low, high], val }) => [
    `  ${threshold.toFixed(4)}`,
    rate(far),
    `${rate(low)} - ${rate(high)}`,
    `${(100 * val).toFixed(1)} %`,
  ]);
  const heading = ['  threshold', 'FAR', '95 % interval', 'VAL'];
  const decisions =
    lines.length === 0 ? 'not calibrated: give --threshold\n' : `decides at\n${table([heading, ...lines], [1, 3])}`;
  return `${table(rows)}${decisions}${sorted[0] ? `  (${sorted[0].source.replace(/, largest threshold.*?;|, threshold of best.*?;/, ';')})\n` : ''}`;
}

/** Everything about a network that follows from its definition. */
function networkAnswer(name: NetworkName, options: BuildOptions) {
  const { input, dimensions, source } = networks[name];
  const { list, memory } = built(name, options);
  const { parameters, statistics, multiplyAdds } = cost(list);
  return {
    schema: 'facenet/network@1',
    name,
    source,
    parameters,
    statistics,
    multiplyAdds,
    input,
    dimensions,
    memory: { activationBytes: memory.peak, weightBytes: 4 * (parameters + statistics) },
    layers: list.map((layer) => ({
      name: layer.name,
      operator: layer.operator,
      output: layer.output,
      ...(layer.kernel && { kernel: layer.kernel, stride: layer.stride }),
      parameters: layer.parameters,
      multiplyAdds: layer.multiplyAdds,
    })),
    published: published[name],
  };
}

function built(name: NetworkName, options: BuildOptions): { list: Layer[]; memory: { peak: number } } {
  const { input, build } = networks[name];
  const graph = new Graph();
  const y = build(graph.input('x', [BATCH, input.height, input.width, 3]), { ...options, mode: 'inference' });
  return { list: layers(graph), memory: activationMemory(graph, [y], 1) };
}

/** Our blocks beside the rows of the published table. */
function networkText(name: NetworkName, terminal: Context['terminal']): string {
  const { input, dimensions, source } = networks[name];
  const about = published[name];
  const rows = about.rows ?? [];
  // The paper's counts are without batch norm.
  const { list, memory } = built(name, rows.length > 0 ? { batchNorm: false } : {});
  const total = cost(list);
  const full = cost(built(name, {}).list);
  const compared = rows.length > 0 || about.parameters !== undefined || about.multiplyAdds !== undefined;
  const cells: string[][] = [
    [
      'block',
      'output',
      'kernel',
      'stride',
      'parameters',
      'multiply-adds',
      ...(compared ? ['published parameters', 'published multiply-adds'] : []),
    ],
  ];
  for (const [block, own] of blocks(list)) {
    const { parameters, multiplyAdds } = cost(own);
    const theirs = rows.find((row) => row.block === block);
    const output = own.at(-1)?.output.join(' x ') ?? '';
    const strides = own.flatMap(({ stride }) => stride ?? []);
    cells.push([
      block,
      output,
      distinct(own.map(({ kernel }) => kernel?.join('x'))),
      // Of a block the step it takes as a whole.
      strides.length > 0 ? String(Math.max(...strides)) : '',
      count(parameters),
      count(multiplyAdds),
      ...(compared ? [theirs?.parameters ?? '', theirs?.multiplyAdds ?? ''] : []),
    ]);
  }
  cells.push([
    'total',
    '',
    '',
    '',
    count(total.parameters),
    count(total.multiplyAdds),
    ...(compared ? [about.parameters ?? '', about.multiplyAdds ?? ''] : []),
  ]);
  const lines = [
    terminal.style('bold', `${name}: ${input.width} x ${input.height} -> ${dimensions} numbers`),
    `layers: ${source}; published figures: ${about.source}`,
    ...(about.layers === 'published'
      ? []
      : [`its layers are unpublished: ours are ${about.layers} to meet the totals`]),
    '',
    table(cells, [4, 5, 6, 7]).trimEnd(),
    '',
    ...(full.parameters === total.parameters
      ? []
      : [
          `without batch normalisation, as published; with it ${count(full.parameters)} parameters, ${count(full.multiplyAdds)} multiply-adds`,
        ]),
    `${megabytes(4 * (full.parameters + full.statistics))} of weights (f32), ${megabytes(memory.peak)} of activations a face before fusion`,
    ...(about.validationRate
      ? [
          `published: VAL ${about.validationRate.percent.toFixed(1)} % +- ${about.validationRate.standardError.toFixed(1)} at FAR 1e-3`,
        ]
      : []),
    ...(about.lfw
      ? [
          `published: ${(100 * about.lfw.accuracy).toFixed(2)} % +- ${(100 * about.lfw.standardDeviation).toFixed(2)} on LFW, with the publisher's weights`,
        ]
      : []),
  ];
  return lines.join('\n');
}

/** Each once, smallest first. */
const distinct = (kernels: readonly (string | undefined)[]): string =>
  [...new Set(kernels.filter((kernel) => kernel !== undefined))].sort().join(' ');

const count = (value: number): string => (value === 0 ? '' : value.toLocaleString('en'));
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

function answer(terminal: Context['terminal'], value: object): void {
  if (terminal.format === 'json') terminal.document(value);
  else terminal.line(value);
}
