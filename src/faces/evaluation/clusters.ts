import { FaceNetError } from '../../errors.ts';

/** How well groups agree with people, each face judged by itself (Bagga and Baldwin 1998). */
export interface BCubed {
  /** Mean share of a face's group that is of its person. */
  readonly precision: number;
  /** Mean share of a face's person that is in its group. */
  readonly recall: number;
  readonly f: number;
}

/** B-cubed precision, recall and F. Faces in no group (-1) count as groups of their own. Throws 'input' for empty or unequal lists. */
export function bCubed(groups: ArrayLike<number>, labels: ArrayLike<number | string>): BCubed {
  const { cells, groupSizes, labelSizes, n } = contingency(groups, labels);
  let precision = 0;
  let recall = 0;
  for (const { group, label, count } of cells) {
    precision += (count * count) / groupSizes.get(group)!;
    recall += (count * count) / labelSizes.get(label)!;
  }
  precision /= n;
  recall /= n;
  return { precision, recall, f: (2 * precision * recall) / (precision + recall) };
}

/**
 * Normalised mutual information: 2 I(groups; labels) / (H(groups) + H(labels)), in [0, 1]; 1 when both put everything in one place.
 * Faces in no group (-1) count as groups of their own.
 */
export function normalisedMutualInformation(groups: ArrayLike<number>, labels: ArrayLike<number | string>): number {
  const { cells, groupSizes, labelSizes, n } = contingency(groups, labels);
  const entropy = (sizes: Map<unknown, number>) => {
    let sum = 0;
    for (const size of sizes.values()) sum -= (size / n) * Math.log(size / n);
    return sum;
  };
  const total = entropy(groupSizes) + entropy(labelSizes);
  if (total === 0) return 1;
  let information = 0;
  for (const { group, label, count } of cells) {
    information += (count / n) * Math.log((count * n) / (groupSizes.get(group)! * labelSizes.get(label)!));
  }
  return Math.min(1, Math.max(0, (2 * information) / total));
}

/** How many faces each group shares with each person. */
function contingency(groups: ArrayLike<number>, labels: ArrayLike<number | string>) {
  const n = groups.length;
  if (n === 0 || labels.length !== n) {
    throw new FaceNetError(
      'input',
      `clustering score: needs as many groups as labels and at least one, got ${n} and ${labels.length}. Pass both in the order of the faces.`,
    );
  }
  const groupSizes = new Map<number, number>();
  const labelSizes = new Map<number | string, number>();
  const table = new Map<number, Map<number | string, number>>();
  let alone = -1;
  for (let i = 0; i < n; i++) {
    const group = groups[i]! < 0 ? alone-- : groups[i]!;
    const label = labels[i]!;
    groupSizes.set(group, (groupSizes.get(group) ?? 0) + 1);
    labelSizes.set(label, (labelSizes.get(label) ?? 0) + 1);
    let row = table.get(group);
    if (!row) table.set(group, (row = new Map()));
    row.set(label, (row.get(label) ?? 0) + 1);
  }
  const cells = [...table].flatMap(([group, row]) => [...row].map(([label, count]) => ({ group, label, count })));
  return { cells, groupSizes, labelSizes, n };
}
