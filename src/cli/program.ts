import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { networks } from '../networks/networks.ts';
import { lossNames, minerNames } from '../train/phases.ts';
import { type AlignOptions, align } from './align.ts';
import { type BenchOptions, bench, benchSubjects, isBenchSubject } from './bench.ts';
import { type CalibrateCommandOptions, calibrate } from './calibrate.ts';
import { type ClusterCommandOptions, cluster } from './cluster.ts';
import { Context, type GlobalOptions } from './context.ts';
import { type ConvertCommandOptions, convert } from './convert.ts';
import { type DetectOptions, detect } from './detect.ts';
import { type EmbedOptions, embed } from './embed.ts';
import { type EnrollOptions, enroll } from './enroll.ts';
import { type EvaluateOptions, evaluate } from './evaluate.ts';
import { exitCodeOf, exitCodes } from './exit-code.ts';
import { type IdentifyOptions, identify } from './identify.ts';
import { type InfoOptions, info } from './info.ts';
import { Terminal } from './terminal.ts';
import { type TrainCommandOptions, train } from './train.ts';
import { type VerifyOptions, verify, verifyPairs } from './verify.ts';
import { packageVersion } from './version.ts';

interface OutputFlags {
  readonly json?: boolean;
  readonly jsonl?: boolean;
  readonly quiet?: boolean;
  readonly color: boolean;
}

/** Runs the command line; resolves to the exit code. Never rejects. */
export async function run(argv: readonly string[]): Promise<number> {
  const abort = new AbortController();
  const { signal } = abort;
  let code: number = exitCodes.done;
  let terminal = terminalFor({ color: true, json: argv.includes('--json'), jsonl: argv.includes('--jsonl') });
  const interrupt = (name: NodeJS.Signals): void => {
    if (signal.aborted) process.exit(name === 'SIGTERM' ? 143 : exitCodes.interrupted);
    abort.abort(name);
    terminal.note('facenet: stopping; once more to stop at once');
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  // Whoever read the answer has had enough of it (`| head`): 128 + SIGPIPE.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(141);
    throw error;
  });

  const program = commandLine((work) => async (...parameters: unknown[]) => {
    const flags = program.opts<GlobalOptions & OutputFlags>();
    terminal = terminalFor(flags);
    code = await work(new Context(flags, terminal, signal, process.stdin), ...parameters);
  });
  try {
    await program.parseAsync(argv, { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help and version are answers.
      if (error.exitCode === 0) return exitCodes.done;
      if (terminal.format !== 'text')
        terminal.line({ schema: 'facenet/error@1', error: { code: 'input', message: error.message } });
      return exitCodes.usage;
    }
    terminal.fail(error);
    if (signal.aborted) return signal.reason === 'SIGTERM' ? 143 : exitCodes.interrupted;
    return exitCodeOf(error);
  } finally {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
}

function terminalFor({ json, jsonl, quiet = false, color }: OutputFlags): Terminal {
  const colour = color && (process.env.NO_COLOR ?? '') === '' && process.env.TERM !== 'dumb';
  return new Terminal(process, { format: json ? 'json' : jsonl ? 'jsonl' : 'text', quiet, colour });
}

/** What commander calls: arguments, options, the command itself. */
type Work = (context: Context, ...parameters: never[]) => Promise<number>;
type Action = (...parameters: unknown[]) => Promise<void>;

function commandLine(
  action: (work: (context: Context, ...parameters: unknown[]) => Promise<number>) => Action,
): Command {
  const act = (work: Work) => action(work as (context: Context, ...parameters: unknown[]) => Promise<number>);
  const program = new Command('facenet')
    .description('FaceNet: whether two faces are one person, on the GPU or the CPU.')
    .version(packageVersion(), '--version', 'print the version')
    .helpOption('--help', 'print this')
    .exitOverride()
    .showSuggestionAfterError()
    .showHelpAfterError('(facenet --help says more)')
    .configureHelp({ showGlobalOptions: true })
    .addOption(new Option('--model <file or name>', 'weights').default('dlib-resnet'))
    .addOption(new Option('--backend <name>', 'what computes').choices(['auto', 'webgpu', 'wasm']).default('auto'))
    .option('--threads <n>', 'threads of the wasm backend', wholeNumber(1, 64))
    .option('--batch <n>', 'faces computed together', wholeNumber(1, 1024))
    .addOption(new Option('--precision <kind>', 'how weights are kept in memory').choices(['f32', 'f16']))
    .option('--tune', 'on WebGPU: measure which kernels are fastest on this device, once')
    .addOption(new Option('--json', 'answer as one JSON document').conflicts('jsonl'))
    .option('--jsonl', 'answer as JSON, a line per item as soon as it is ready')
    .option('--quiet', 'no progress, warnings or timings')
    .option('--no-color', 'no colours (also by the variable NO_COLOR)')
    .addHelpText('after', `\n${exitCodeText}`);

  photoOptions(program.command('embed'))
    .description('print or save a unit vector for every face')
    .argument('<photos...>', 'images, folders of images, or - for standard input (an image, or a list of paths)')
    .option('--out <file>', 'save to a file ending in .safetensors, .npy or .csv')
    .option('--skip-bad', 'leave out what cannot be used, and end with exit code 6')
    .action(act((context: Context, photos: string[], options: EmbedOptions) => embed(context, photos, options)));

  detectionOptions(program.command('detect'))
    .description('find faces: boxes, five points and quality, a line of JSON a photo with --jsonl')
    .argument('<photos...>', 'images, folders of images, or -')
    .option('--crops <dir>', 'write the faces, cut to the template of --model, as PNG')
    .option('--draw <dir>', 'write the photos with boxes and points, as PNG')
    .addOption(decoderOption())
    .option('--skip-bad', 'leave out what cannot be used, and end with exit code 6')
    .action(act((context: Context, photos: string[], options: DetectOptions) => detect(context, photos, options)));

  photoOptions(program.command('verify'))
    .description('say whether two faces are one person: exit code 0 same, 1 different')
    .argument('[a]', 'an image, or - for standard input')
    .argument('[b]', 'another image')
    .addOption(
      new Option('--threshold <t>', 'accept up to this squared distance (0 to 4)')
        .argParser(number(0, 4))
        .conflicts('far'),
    )
    .option('--far <rate>', 'accept at the threshold with this false accept rate', number(0, 1))
    .option('--pairs <file>', 'lines of two paths (- for standard input); answers a line of JSON each')
    .option('--skip-bad', 'with --pairs: go on after a photo that cannot be used')
    .action(
      act(
        async (
          context: Context,
          a: string | undefined,
          b: string | undefined,
          options: VerifyOptions & { pairs?: string },
          command: Command,
        ) => {
          const { pairs } = options;
          if (pairs !== undefined) {
            if (a !== undefined) command.error('error: --pairs takes the photos from its file; name none beside it');
            return verifyPairs(context, pairs, options);
          }
          if (a === undefined || b === undefined) return command.error('error: two photos to compare, or --pairs FILE');
          return verify(context, a, b, options);
        },
      ),
    );

  galleryOptions(photoOptions(program.command('enroll')))
    .description('add people to a gallery file')
    .argument('[label]', 'who it is')
    .argument('[photos...]', 'images of this person, folders of images, or -')
    .option('--dir <root>', 'a folder with a folder of images for each person, named like the person')
    .option('--int8', 'a new gallery keeps one byte a number: a quarter of the size, nearly no loss')
    .option('--skip-bad', 'leave out what cannot be used, and end with exit code 6')
    .action(
      act(
        async (
          context: Context,
          label: string | undefined,
          photos: string[],
          options: EnrollOptions,
          command: Command,
        ) => {
          if (
            (options.dir === undefined) === (label === undefined) ||
            (options.dir === undefined && photos.length === 0)
          )
            return command.error('error: LABEL and its photos, or --dir ROOT');
          return enroll(context, label, photos, options);
        },
      ),
    );

  galleryOptions(photoOptions(program.command('identify')))
    .description('say who the faces are: exit code 0 all known, 1 somebody unknown')
    .argument('<photos...>', 'images, folders of images, or -')
    .option('--limit <k>', 'people named for each face', wholeNumber(1, 1_000_000), 5)
    .addOption(
      new Option('--threshold <t>', 'accept up to this squared distance (0 to 4)')
        .argParser(number(0, 4))
        .conflicts('far'),
    )
    .option('--far <rate>', 'accept at the threshold with this false accept rate', number(0, 1))
    .addOption(
      new Option('--policy <name>', 'how templates of one person give one distance')
        .choices(['nearest', 'knn', 'mean', 'median', 'mean-distance'])
        .default('nearest'),
    )
    .option('--k <n>', 'templates that vote, with --policy knn', wholeNumber(1, 1_000_000), 5)
    .option('--skip-bad', 'leave out what cannot be used, and end with exit code 6')
    .action(act((context: Context, photos: string[], options: IdentifyOptions) => identify(context, photos, options)));

  photoOptions(program.command('cluster'))
    .description('group faces by person')
    .argument('<inputs...>', 'images, folders, -, or files of embeddings (.safetensors, .npy, .csv)')
    .addOption(
      new Option('--method <name>').choices(['agglomerative', 'chinese-whispers', 'dbscan']).default('agglomerative'),
    )
    .addOption(new Option('--linkage <name>').choices(['average', 'complete', 'single']).default('average'))
    .addOption(
      new Option('--threshold <t>', 'join up to this squared distance (0 to 4)')
        .argParser(number(0, 4))
        .conflicts('far'),
    )
    .option('--far <rate>', 'join at the threshold with this false accept rate', number(0, 1))
    .option('--min-size <n>', 'smaller groups are dissolved', wholeNumber(1, 2 ** 31 - 1), 3)
    .option('--seed <n>', 'for chinese-whispers', wholeNumber(0, 2 ** 32 - 1), 1)
    .option('--apart-by-photo', 'two faces of one photo never join')
    .addOption(new Option('--truth <what>', 'score the groups against names').choices(['folder', 'name']))
    .option('--report <file>', 'the groups with their pictures as an HTML page')
    .option('--link <dir>', 'make a folder for each group, with links to its photos')
    .option('--skip-bad', 'leave out what cannot be used, and end with exit code 6')
    .action(
      act((context: Context, inputs: string[], options: ClusterCommandOptions) => cluster(context, inputs, options)),
    );

  pairOptions(photoOptions(program.command('evaluate')))
    .description("measure a model on pairs: accuracy by LFW's protocol, VAL at FAR")
    .option('--folds <n>', 'where the list names none', wholeNumber(2, 10_000), 10)
    .option('--far <rates>', 'false accept rates, parted by commas', rates, [1e-1, 1e-2, 1e-3])
    .option('--groups <file>', 'CSV of picture or person, and group: figures for each group')
    .option('--report <file>', 'curves and the worst errors as an HTML page')
    .action(act((context: Context, options: EvaluateOptions) => evaluate(context, options)));

  pairOptions(photoOptions(program.command('calibrate')))
    .description('fit the threshold for a false accept rate on your own pairs')
    .requiredOption('--far <rate>', 'false accept rate', number(0, 1))
    .option('--write', 'store it in the model file (--model FILE)')
    .action(act((context: Context, options: CalibrateCommandOptions) => calibrate(context, options)));

  photoOptions(program.command('align'))
    .description('write what the model sees of every face, as PNG')
    .argument('<photos...>', 'images, folders of images, or -')
    .requiredOption('--out <file or folder>', 'a file ending in .png for one face, else a folder')
    .option('--skip-bad', 'leave out what cannot be used, and end with exit code 6')
    .action(act((context: Context, photos: string[], options: AlignOptions) => align(context, photos, options)));

  program
    .command('train')
    .description('train a network on a folder of people (DIR/person/*.jpg)')
    .argument('<dir or tar>', 'folder with one folder a person, or a tar archive of it')
    .addOption(new Option('--network <name>', 'what is trained').choices(Object.keys(networks)).default('nn4.small2'))
    .addOption(
      new Option('--from <model>', 'go on from the weights of a model, by name or file').conflicts([
        'width',
        'size',
        'dimensions',
      ]),
    )
    .option('--width <factor>', 'factor on the channels of every layer', number(0.05, 4), 1)
    .option('--size <pixels>', "side of the picture; default: the network's", wholeNumber(16, 1024))
    .option('--dimensions <n>', "length of an embedding; default: the network's", wholeNumber(1, 4096))
    .option('--no-lrn', 'leave out local response normalisation')
    .addOption(new Option('--loss <name>', 'distill needs --teacher').choices(lossNames).default('triplet'))
    .addOption(new Option('--miner <name>', 'which negatives a pair gets').choices(minerNames).default('semi-hard'))
    .option('--margin <m>', 'of squared distances', number(0, 4), 0.2)
    .option('--people <n>', 'people in a batch', wholeNumber(1, 65536), 45)
    .option('--per-person <n>', 'most pictures of each', wholeNumber(1, 65536), 40)
    .option('--extra-negatives <n>', 'pictures of others in a batch', wholeNumber(0, 65536), 0)
    .option('--micro-batch <n>', 'pictures computed together; default: the whole batch', wholeNumber(1, 65536))
    .addOption(new Option('--optimizer <name>').choices(['adagrad', 'adam', 'sgd']).default('adagrad'))
    .option('--learning-rate <rate>', 'default: 0.05 for adagrad, 0.001 for adam, 0.1 for sgd', number(0, 100))
    .addOption(
      new Option('--schedule <name>', 'how the rate goes on').choices(['constant', 'cosine']).default('constant'),
    )
    .option('--warmup <share>', 'share of the steps over which the rate grows from 0', number(0, 1), 0)
    .option('--weight-decay <rate>', 'decoupled from the gradient', number(0, 1), 0)
    .option('--clip-norm <norm>', 'largest norm of the whole gradient', number(0, 1e9), 0)
    .option('--ema <share>', 'keep a moving average of the weights, and write that as the model', number(0, 1))
    .option('--offline-every <n>', "steps between two searches of 'offline-hardest'", wholeNumber(1, 2 ** 31), 50)
    .option('--offline-batches <n>', 'size of the set that is searched, in batches', wholeNumber(1, 4096), 10)
    .option('--steps <n>', 'of the whole run, resumed or not', wholeNumber(1, 2 ** 31), 1000)
    .addOption(
      new Option('--phases <file>', 'a JSON list of phases in place of all options of a single one').conflicts([
        'loss',
        'miner',
        'margin',
        'people',
        'perPerson',
        'extraNegatives',
        'optimizer',
        'learningRate',
        'schedule',
        'warmup',
        'weightDecay',
        'clipNorm',
        'offlineEvery',
        'offlineBatches',
        'steps',
      ]),
    )
    .option('--teacher <file>', 'target embeddings of the same pictures, as embed --out writes them')
    .option('--validate <dir or tar>', 'people who are not trained on: accuracy and VAL on the way')
    .option('--evaluate-every <n>', 'steps between two looks at them', wholeNumber(1, 2 ** 31), 20)
    .addOption(new Option('--on-collapse <what>').choices(['stop', 'warn']).default('stop'))
    .option('--seed <n>', 'fixes weights, batches and changes of pictures', wholeNumber(0, 2 ** 53 - 1), 0)
    .option('--no-augment', 'train on the pictures as they are')
    .option('--checkpoint <file>', 'keep what --resume needs')
    .option('--every <n>', 'steps between checkpoints', wholeNumber(1, 2 ** 31), 100)
    .option('--resume <file>', 'go on from a checkpoint, with the same options')
    .option('--out <file>', 'the trained model (.safetensors)')
    .option('--half', 'write weights as float16')
    .option('--licence <text>', "terms of the pictures, for the model's card")
    .option('--report <file>', 'curves as an HTML page')
    .action(
      act(async (context: Context, folder: string, options: TrainCommandOptions, command: Command) => {
        if (options.out === undefined && options.checkpoint === undefined)
          return command.error('error: where the weights go: --out FILE or --checkpoint FILE');
        return train(context, folder, options);
      }),
    );

  program
    .command('convert')
    .description('turn weights of others into one model file')
    .argument(
      '<in>',
      'weights of PyTorch (.pt, .pth), Torch 7 (.t7), numpy (.npy, .npz), safetensors, a manifest of face-api.js (.json), or a folder of .csv, .npy or .pt',
    )
    .argument('<out>', 'the model file (.safetensors)')
    .addOption(
      new Option('--network <name>', 'what it is, where the names of the tensors do not tell').choices([
        ...Object.keys(networks),
        'mtcnn',
      ]),
    )
    .option('--allow-missing', 'fill missing tensors with random numbers, for training; the card says so')
    .option('--seed <n>', 'of these numbers', wholeNumber(0, 2 ** 53 - 1), 0)
    .option('--half', 'store weights as float16')
    .option('--force', 'replace OUT')
    .addOption(
      new Option(
        '--per-image',
        'each crop is shifted and scaled to mean 0, deviation 1 (facenet before 2018)',
      ).conflicts(['mean', 'scale']),
    )
    .option(
      '--mean <numbers>',
      'of bytes, one or three (in the order of --colour): input = (byte - mean) * scale',
      means,
    )
    .option('--scale <factor>', 'see --mean', number(1e-6, 1e6))
    .addOption(new Option('--colour <order>', 'order of the channels').choices(['rgb', 'bgr']))
    .option('--size <pixels>', 'side of the crop', wholeNumber(16, 1024))
    .addOption(
      new Option('--template <name>', 'where the points of a face lie in the crop').choices([
        'arcface',
        'dlib',
        'openface',
      ]),
    )
    .option('--margin <pixels>', "of crops that are a detector's box, in pixels of the crop", number(0, 4096))
    .addOption(new Option('--pools <kind>', 'of nn4.*').choices(['definition', 'unpadded', 'released']))
    .option('--licence <text>', "for the model's card")
    .option('--trained-on <text>', "for the model's card")
    .action(
      act((context: Context, from: string, to: string, options: ConvertCommandOptions) =>
        convert(context, from, to, options),
      ),
    );

  program
    .command('info')
    .description(
      'describe this machine and what every network costs on it (no argument), a network, a model file or an image',
    )
    .argument('[subject]', 'name or file')
    .option('--no-time', 'do not run the networks')
    .option('--report <file>', 'accuracy against multiply-adds as an HTML page')
    .action(
      act((context: Context, subject: string | undefined, options: InfoOptions) => info(context, subject, options)),
    );

  program
    .command('bench')
    .description('time a model or the search in galleries on this machine: milliseconds, GFLOP/s, GB/s')
    .argument(
      '[what]',
      'model: layer by layer (default); ops: kernel by kernel; search: galleries of 1,000 to 100,000 templates',
    )
    .argument('[model]', 'file or name, or a network without weights; default: that of --model')
    .option('--runs <n>', 'medians of so many', wholeNumber(1, 1000), 5)
    .option('--against <file>', 'compare with an earlier run: what --json printed, or the .json beside its report')
    .option('--report <file>', 'tables and a plot as an HTML page')
    .action(
      act(
        async (
          context: Context,
          what: string | undefined,
          model: string | undefined,
          options: BenchOptions,
          command: Command,
        ) => {
          if (isBenchSubject(what)) return bench(context, what, model, options);
          // A single word that names nothing to measure is the model.
          if (model !== undefined)
            command.error(`error: what is measured is one of ${benchSubjects.join(', ')}, got ${what} beside ${model}`);
          return bench(context, 'model', what, options);
        },
      ),
    );

  for (const command of program.commands) command.exitOverride().helpOption('--help', 'print this');
  return program;
}

const decoderOption = () => new Option('--decoder <name>', 'who decodes images').choices(['exact', 'sharp']);

function detectionOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--detector <file>',
        "what finds them: a detector file or URL, or MTCNN's three files parted by commas; default: tiny-face of a clone",
      ).conflicts(['aligned', 'landmarks']),
    )
    .option('--min-face <px>', 'smallest face looked for', number(1, 65_535))
    .option('--min-score <s>', 'least score of a face', number(0, 1))
    .option('--largest', 'of each photo the largest face only');
}

function photoOptions(command: Command): Command {
  return detectionOptions(command)
    .addOption(
      new Option('--detect', 'find the faces (also by naming a --detector)').conflicts(['aligned', 'landmarks']),
    )
    .addOption(
      new Option(
        '--landmarks <file>',
        'where the faces are: JSON { "photos": [{ "image", "faces": [{ "landmarks": [[x, y], ...] }] }] } or CSV',
      ).conflicts('aligned'),
    )
    .option('--aligned', "the images are crops to the model's template")
    .addOption(decoderOption());
}

function galleryOptions(command: Command): Command {
  return command
    .requiredOption('--gallery <file>', 'the gallery, a file ending in .safetensors')
    .option('--passphrase-file <file>', 'file with the passphrase that locks the gallery');
}

function pairOptions(command: Command): Command {
  return command
    .requiredOption('--pairs <file>', "LFW's pairs.txt, or CSV lines a,b,same[,fold[,group]] (- for standard input)")
    .requiredOption('--images <dir>', 'folder that the paths start from')
    .option('--skip-bad', 'leave out pairs of pictures that cannot be used, and end with exit code 6');
}

function rates(text: string): number[] {
  return text.split(',').map((part) => {
    const value = Number(part);
    if (part.trim() === '' || !(value > 0 && value < 1))
      throw new InvalidArgumentError('It must be rates between 0 and 1, parted by commas.');
    return value;
  });
}

function means(text: string): [number, number, number] {
  const values = text.split(',').map(Number);
  const [first = 0, second = first, third = first] = values;
  if (
    ![1, 3].includes(values.length) ||
    text.split(',').some((part) => part.trim() === '') ||
    !values.every(Number.isFinite)
  )
    throw new InvalidArgumentError('It must be one number, or three parted by commas.');
  return [first, second, third];
}

const exitCodeText = `Exit codes: 0 done, same; 1 different; 2 usage; 3 unreadable input; 4 wrong or corrupt model; 5 no usable
backend, out of memory; 6 finished, items left out; 70 internal error; 130 interrupted.`;

function wholeNumber(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < low || value > high)
      throw new InvalidArgumentError(`It must be a whole number from ${low} to ${high}.`);
    return value;
  };
}

function number(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= low && value <= high))
      throw new InvalidArgumentError(`It must be a number from ${low} to ${high}.`);
    return value;
  };
}
