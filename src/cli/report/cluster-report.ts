import type { Clustering } from '../../faces/clustering.ts';
import type { OperatingPoint } from '../../node.ts';
import type { ClusterCommandOptions, ClusteredFace } from '../cluster.ts';
import { type ClusterScore, scoreSentence } from '../cluster-score.ts';
import { rowsBy } from '../rows-by.ts';
import { counted } from '../terminal.ts';
import { meaning } from '../verify.ts';
import { escapeHtml, page } from './html.ts';
import type { Thumbnails } from './thumbnails.ts';

/** Pictures on one page: beyond these a page grows to tens of megabytes. What is left out is said. */
const MOST_GROUPS = 200;
const MOST_FACES = 12;
const MOST_PAIRS = 24;
const MOST_ALONE = 24;

export interface ClusterReportInput {
  readonly faces: readonly ClusteredFace[];
  readonly found: Clustering;
  readonly score: ClusterScore | undefined;
  readonly line: { readonly threshold: number; readonly point?: OperatingPoint };
  readonly options: ClusterCommandOptions;
  /** Absent where only embeddings are known. */
  readonly thumbnails: Thumbnails | undefined;
}

/** The cluster sheet: each group with its pictures, its representative first, largest groups first; faces of no group; the pairs to ask about. */
export async function clusterReport(input: ClusterReportInput): Promise<string> {
  const { faces, found, score, line, options, thumbnails } = input;
  const groups = rowsBy(found.groups.length, (row) => {
    const group = found.groups[row] as number;
    return group < 0 ? undefined : group;
  });
  const sorted = [...groups].sort(([a, x], [b, y]) => y.length - x.length || a - b);
  const picture = async (row: number): Promise<string> => {
    const { image, face, name } = faces[row] as ClusteredFace;
    const source = await thumbnails?.of(image, face);
    const caption = escapeHtml(`${image}${name === undefined ? '' : ` (${name})`}`);
    return source === undefined
      ? `<span class="none">${caption}</span>`
      : `<img src="${source}" alt="${caption}" title="${caption}">`;
  };
  const pictures = async (rows: readonly number[]): Promise<string> => {
    const figures: string[] = [];
    for (const row of rows) figures.push(`<figure>${await picture(row)}</figure>`);
    return `<div class="faces">${figures.join('\n')}</div>`;
  };
  const parts: string[] = [];
  for (const [group, rows] of sorted.slice(0, MOST_GROUPS)) {
    const first = found.representatives[group] as number;
    const shown = [first, ...rows.filter((row) => row !== first)].slice(0, MOST_FACES);
    const more = rows.length > shown.length ? `, ${shown.length} shown` : '';
    parts.push(`<h2>group ${group}: ${counted(rows.length, 'face')}${more}</h2>`);
    parts.push(await pictures(shown));
  }
  if (sorted.length > MOST_GROUPS) parts.push(`<p>${sorted.length - MOST_GROUPS} smaller groups are not shown.</p>`);
  const alone = [...found.groups.keys()].filter((row) => (found.groups[row] as number) < 0);
  if (alone.length > 0) {
    const more = alone.length > MOST_ALONE ? `, ${MOST_ALONE} shown` : '';
    parts.push(`<h2>${counted(alone.length, 'face')} in no group${more}</h2>`);
    parts.push(await pictures(alone.slice(0, MOST_ALONE)));
  }
  const pairs = found.uncertain.length;
  if (pairs > 0) parts.push(`<h2>${counted(pairs, 'uncertain pair')}, those nearest to the threshold first</h2>`);
  for (const { a, b, distance } of found.uncertain.slice(0, MOST_PAIRS)) {
    const joined = found.groups[a] === found.groups[b] && (found.groups[a] as number) >= 0 ? 'joined' : 'apart';
    parts.push(
      `<div class="pair">${await picture(a)} ${await picture(b)}<br><small>${distance.toFixed(4)}, ${joined}</small></div>`,
    );
  }
  const { method, linkage, minSize } = options;
  const lines = [
    `${counted(faces.length, 'face')}, ${counted(found.count, 'group')} of ${minSize} and more, ${counted(alone.length, 'face')} in none; ${method}${method === 'agglomerative' ? `, ${linkage} linkage` : ''}, squared distance up to ${line.threshold.toFixed(4)}.`,
    ...(line.point ? [meaning(line.point)] : []),
    ...(score ? [`${scoreSentence(score)}.`] : []),
  ];
  return page('Groups of faces', lines, parts);
}
