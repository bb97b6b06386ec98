import type { Pixels } from '../images.ts';

/** Decoded pictures kept in memory, in bytes: 1 GiB. */
const CACHE_BYTES = 2 ** 30;

/** Files that are pictures by name. What macOS puts beside them ("._x.jpg") is none. */
export const isPictureName = (name: string): boolean =>
  !name.startsWith('._') && /\.(jpe?g|png|pnm|ppm|pgm|webp|avif|tiff?)$/i.test(name);

/** Code point order, so that a seed draws the same on every machine. */
export const byName = ({ name: a }: { readonly name: string }, { name: b }: { readonly name: string }): number =>
  a < b ? -1 : a > b ? 1 : 0;

/** People with their pictures, as training takes them. */
export interface PictureSet {
  /** Number of the person of each picture. */
  readonly labels: Int32Array;
  /** Names by number, code point for code point as the folders are called. */
  readonly names: readonly string[];
  readonly paths: readonly string[];
  read(index: number): Promise<{ pixels: Pixels }>;
  source(index: number): string;
}

/** Pictures that are read when they are drawn and kept as RGB while they fit. */
export function pictureSet(
  people: readonly { readonly name: string; readonly paths: readonly string[] }[],
  readPicture: (index: number) => Promise<Pixels>,
): PictureSet {
  const paths = people.flatMap((person) => person.paths);
  const cache = new Map<number, Pixels>();
  let kept = 0;
  return {
    labels: Int32Array.from(people.flatMap((person, number) => person.paths.map(() => number))),
    names: people.map(({ name }) => name),
    paths,
    source: (index) => paths[index] as string,
    async read(index) {
      let pixels = cache.get(index);
      if (!pixels) {
        pixels = withoutAlpha(await readPicture(index));
        if (kept + pixels.data.length <= CACHE_BYTES) {
          kept += pixels.data.length;
          cache.set(index, pixels);
        }
      }
      return { pixels };
    },
  };
}

function withoutAlpha({ data, width, height }: Pixels): Pixels {
  if (data.length === width * height * 3) return { data, width, height };
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    rgb[to] = data[from] as number;
    rgb[to + 1] = data[from + 1] as number;
    rgb[to + 2] = data[from + 2] as number;
  }
  return { data: rgb, width, height };
}
