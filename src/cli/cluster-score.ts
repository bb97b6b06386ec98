import { basename, dirname } from 'node:path';
import { FaceNetError } from '../errors.ts';
import { type BCubed, bCubed, normalisedMutualInformation } from '../faces/evaluation/clusters.ts';

/** How well the groups agree with what is known. */
export interface ClusterScore extends BCubed {
  readonly nmi: number;
  readonly people: number;
}

/** How well the groups agree with the people, in words. */
export function scoreSentence({ people, f, precision, recall, nmi }: ClusterScore): string {
  const share = (value: number) => value.toFixed(4);
  return `against ${people} people: B-cubed F ${share(f)} (precision ${share(precision)}, recall ${share(recall)}), normalised mutual information ${share(nmi)}`;
}

/** Who the faces are by the name of their folder or the list's name; scored over all faces, those in no group as groups of their own. */
export function scored(
  groups: Int32Array,
  faces: readonly { readonly image: string; readonly name?: string }[],
  truth: 'folder' | 'name',
): ClusterScore {
  const labels = faces.map(({ image, name }) => {
    if (truth === 'folder') return basename(dirname(image));
    if (name === undefined || name === '')
      throw new FaceNetError(
        'input',
        `--truth name: a name for every face, got none for ${image}. Name it in the list of faces.`,
      );
    return name;
  });
  return { ...bCubed(groups, labels), nmi: normalisedMutualInformation(groups, labels), people: new Set(labels).size };
}
