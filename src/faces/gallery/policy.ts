import { squaredDistance, type VectorSet } from '../distance.ts';
import { normalised } from './entry.ts';
import { type Nearest, NearestHeap, rowDistance, type SearchedVectors, type VectorSearch } from './search.ts';
import type { TemplateTable } from './template-table.ts';

/**
 * How a person's templates give one distance:
 * - `nearest`: the smallest of them;
 * - `knn`: people are ordered by how many of the k nearest templates of all are theirs (then by the nearest); the distance is the nearest;
 * - `mean`: distance to the mean of the templates, brought to length 1;
 * - `median`: distance to the median of the templates, number by number, brought to length 1: outliers weigh less;
 * - `mean-distance`: mean of the distances.
 * A person whose mean or median is zero is represented by the first template.
 */
export type GalleryPolicy = 'nearest' | 'knn' | 'mean' | 'median' | 'mean-distance';

/** People from best to worst match. */
export interface Ranked {
  readonly label: string;
  readonly distance: number;
}

/** The representation that `mean` and `median` search instead of the templates: one vector a person, in the order of people. */
export function personVectors(
  table: TemplateTable,
  policy: 'mean' | 'median',
): { vectors: VectorSet; labels: string[] } {
  const labels = [...table.labels()];
  const data = new Float32Array(labels.length * table.dimensions);
  labels.forEach((label, person) => data.set(personVector(table, label, policy), person * table.dimensions));
  return { vectors: { data, count: labels.length, dimensions: table.dimensions }, labels };
}

function personVector(table: TemplateTable, label: string, policy: 'mean' | 'median'): Float32Array {
  const rows = table.rowsOf(label).map((row) => table.vector(row));
  const middle = Float64Array.from({ length: table.dimensions }, (_, k) =>
    policy === 'mean' ? rows.reduce((sum, row) => sum + row[k]!, 0) : median(rows.map((row) => row[k]!)),
  );
  return normalised(middle) ?? rows[0]!;
}

function median(values: number[]): number {
  values.sort((a, b) => a - b);
  const half = values.length >> 1;
  return values.length % 2 === 1 ? values[half]! : (values[half - 1]! + values[half]!) / 2;
}

/** How many templates are asked for first, so that `limit` people are likely among them. */
export const firstTemplates = (limit: number): number => Math.max(16, 4 * limit);

/**
 * The `limit` nearest people by their nearest template. Asks for ever more templates until enough people are among them, so that it stays
 * exact whatever number one person has.
 */
export async function nearestPeople(
  query: Float32Array,
  table: TemplateTable,
  search: VectorSearch,
  limit: number,
): Promise<Ranked[]> {
  for (let k = firstTemplates(limit); ; k *= 8) {
    const found = exactDistances(query, table.searched(), await search.nearest(query, Math.min(k, table.size)));
    const people = new Map<string, number>();
    found.rows.forEach((row, i) => {
      if (!people.has(table.label(row))) people.set(table.label(row), found.distances[i]!);
    });
    if (people.size >= limit || k >= table.size)
      return [...people].slice(0, limit).map(([label, distance]) => ({ label, distance }));
  }
}

/** People by their votes among the k nearest templates. */
export async function votedPeople(
  query: Float32Array,
  table: TemplateTable,
  search: VectorSearch,
  k: number,
  limit: number,
): Promise<Ranked[]> {
  const found = exactDistances(query, table.searched(), await search.nearest(query, Math.min(k, table.size)));
  const people = new Map<string, { votes: number; distance: number }>();
  found.rows.forEach((row, i) => {
    const label = table.label(row);
    const person = people.get(label);
    if (person) person.votes++;
    else people.set(label, { votes: 1, distance: found.distances[i]! });
  });
  // Sorting keeps the order of equal ones, which is that of their nearest templates.
  return [...people]
    .sort(([, a], [, b]) => b.votes - a.votes)
    .slice(0, limit)
    .map(([label, { distance }]) => ({ label, distance }));
}

/** People by the mean distance of their templates: one pass over all of them. */
export function peopleByMeanDistance(query: Float32Array, table: TemplateTable, limit: number): Ranked[] {
  const labels = [...table.labels()];
  const searched = table.searched();
  const best = new NearestHeap(Math.min(limit, labels.length));
  labels.forEach((label, person) => {
    const rows = table.rowsOf(label);
    best.offer(person, rows.reduce((sum, row) => sum + rowDistance(query, searched, row), 0) / rows.length);
  });
  const { rows, distances } = best.sorted();
  return Array.from(rows, (person, i) => ({ label: labels[person]!, distance: distances[i]! }));
}

/** Distances of found rows anew by float64 differences (a device's are rounded), and the order that follows. */
export function exactDistances(query: Float32Array, searched: SearchedVectors, { rows }: Nearest): Nearest {
  const heap = new NearestHeap(rows.length);
  for (const row of rows) heap.offer(row, rowDistance(query, searched, row));
  return heap.sorted();
}

/** Distance of a query to one person by a policy. `knn` judges one person by the nearest template. */
export function distanceToPerson(
  query: Float32Array,
  table: TemplateTable,
  label: string,
  policy: GalleryPolicy,
): number {
  const distances = table.rowsOf(label).map((row) => rowDistance(query, table.searched(), row));
  switch (policy) {
    case 'nearest':
    case 'knn':
      return Math.min(...distances);
    case 'mean-distance':
      return distances.reduce((sum, distance) => sum + distance, 0) / distances.length;
    case 'mean':
    case 'median':
      return squaredDistance(query, personVector(table, label, policy));
    default:
      return policy satisfies never;
  }
}
