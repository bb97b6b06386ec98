import { join } from 'node:path';
import { FaceNetError } from '../errors.ts';
import { evaluatePairs } from '../faces/evaluation/pairs.ts';
import { parseCsv } from '../io/csv.ts';
import { readWholeFile } from '../io/node/image-files.ts';
import type { OperatingPoint } from '../node.ts';
import type { Context, PhotoOptions } from './context.ts';
import { evaluationText, type OwnPoint } from './evaluation-text.ts';
import { exitCodes } from './exit-code.ts';
import { type MeasuredPair, measurePairs, pairLine, readPairList } from './pair-list.ts';
import { evaluationReport } from './report/evaluation-report.ts';
import { checkReport, writeReport } from './report/page.ts';
import { Thumbnails } from './report/thumbnails.ts';

export interface EvaluateOptions extends PhotoOptions {
  readonly pairs: string;
  readonly images: string;
  readonly folds: number;
  readonly far: readonly number[];
  /** CSV of picture or person, and group. */
  readonly groups?: string;
  readonly report?: string;
}

/** Largest file of groups that is read. */
const MAX_GROUPS_BYTES = 2 ** 28;

/** `facenet evaluate`: LFW's protocol on a list of pairs, VAL at FAR with intervals, and the model's own thresholds. */
export async function evaluate(context: Context, options: EvaluateOptions): Promise<number> {
  const { terminal } = context;
  const { images, folds, far, report } = options;
  if (report !== undefined) await checkReport(report);
  const reading = await context.reading(options);
  const list = await readPairList(options.pairs, images, context);
  const groupOf = options.groups === undefined ? undefined : await readGroups(options.groups);
  return context.withModel(async (net) => {
    const measured = await measurePairs(net, list, images, reading, context);
    const pairs = groupOf ? measured.map((pair) => withGroup(pair, groupOf)) : measured;
    const result = evaluatePairs(pairs, { folds, fars: far, source: options.pairs, pattern: list.pattern });
    const own = net.model.points.map((point) => atPoint(point, pairs));
    const { groupReports, foldResults, roc, det, ...figures } = result;
    const document = {
      schema: 'facenet/evaluate@1',
      pairsFile: options.pairs,
      model: net.model.name,
      fingerprint: net.fingerprint,
      backend: net.backend,
      ...figures,
      groupReports: Object.fromEntries(groupReports),
      foldResults,
      ownPoints: own,
      roc,
      det,
      skippedPairs: pairs.filter(({ error }) => error).map(pairLine),
    };
    if (report !== undefined) {
      const about = `${net.model.name} (${net.fingerprint}) on ${options.pairs}; ${net.why}`;
      const thumbnails = new Thumbnails(net, reading, []);
      const picture = (path: string) => thumbnails.of(join(images, path));
      await writeReport(report, await evaluationReport(result, own, pairs, about, picture), document);
    }
    if (terminal.format === 'json') terminal.document(document);
    else if (terminal.format === 'jsonl') {
      for (const pair of pairs) terminal.line(pairLine(pair));
      terminal.line(document);
    } else terminal.text(evaluationText(result, own));
    for (const note of result.notes) terminal.note(`note: ${note}`);
    return result.skipped > 0 ? exitCodes.skipped : exitCodes.done;
  });
}

function atPoint({ threshold, source }: OperatingPoint, pairs: readonly MeasuredPair[]): OwnPoint {
  const count = { same: 0, different: 0, accepted: 0, mistaken: 0 };
  for (const { distance, same } of pairs) {
    if (distance === null) continue;
    count[same ? 'same' : 'different']++;
    if (distance <= threshold) count[same ? 'accepted' : 'mistaken']++;
  }
  const { same, different, accepted, mistaken } = count;
  const accuracy = (accepted + different - mistaken) / (same + different);
  return { threshold, source, accuracy, val: accepted / same, far: mistaken / different };
}

/** Reads CSV lines of a picture's path or a person's name, and a group. */
async function readGroups(path: string): Promise<ReadonlyMap<string, string>> {
  const text = new TextDecoder().decode(await readWholeFile(path, path, MAX_GROUPS_BYTES)).replace(/^\ufeff/, '');
  const groups = new Map<string, string>();
  let line = 0;
  for (const row of parseCsv(text, path)) {
    line++;
    const [subject, group] = row;
    if (row.length < 2 || !subject || !group)
      throw new FaceNetError(
        'input',
        `${path}: lines "picture or person,group", got ${row.length} fields in line ${line}.`,
        { index: line },
      );
    groups.set(subject, group);
  }
  return groups;
}

/** A pair within a group is the group's; one across two groups is counted under both names. */
function withGroup(pair: MeasuredPair, groups: ReadonlyMap<string, string>): MeasuredPair {
  const [a, b] = ([0, 1] as const).map(
    (side) => groups.get(side === 0 ? pair.a : pair.b) ?? groups.get(pair.people?.[side] ?? ''),
  );
  if (a === undefined || b === undefined) return pair;
  return { ...pair, group: a === b ? a : [a, b].sort().join(' / ') };
}
