import { FaceNetError } from '../../errors.ts';

/** One line of a list of pairs. */
export interface ListedPair {
  /** Path of each image, relative to the folder of images. */
  readonly a: string;
  readonly b: string;
  readonly same: boolean;
  readonly fold?: number;
  readonly group?: string;
  /** The people, where the format names them. */
  readonly people?: readonly [string, string];
}

export interface PairList {
  readonly pairs: ListedPair[];
  /** How many folds there are; 0 when the file has none. */
  readonly folds: number;
  /** Path pattern of an image, for messages about files that are not there. */
  readonly pattern: string;
}

/** The longest list that is read. */
const mostLines = 10_000_000;

/**
 * Reads LFW's pairs.txt: a line "folds <tab> pairs of each kind" (or only the latter, as in pairsDevTrain.txt: one fold), then for each
 * fold so many lines "name n1 n2" (same) and so many "name1 n1 name2 n2" (different). Paths become name/name_0001<suffix>.
 * Throws 'input' with the line's number in the text and in `.index` (from 1).
 */
export function readLfwPairs(text: string, suffix = '.jpg'): PairList {
  const lines = linesOf(text);
  const header = fieldsOf(lines[0] ?? '');
  const numbers = header.map(wholeNumber);
  if (header.length < 1 || header.length > 2 || numbers.some((value) => !(value >= 1))) {
    throw bad(1, 'must be "folds <tab> pairs of each kind"', lines[0] ?? '');
  }
  const [folds, each] = numbers.length === 2 ? [numbers[0]!, numbers[1]!] : [1, numbers[0]!];
  const expected = folds * each * 2;
  let end = lines.length;
  while (end > 1 && lines[end - 1]!.trim() === '') end--;
  if (end - 1 !== expected) {
    throw new FaceNetError(
      'input',
      `pairs file: must hold ${folds} x 2 x ${each} = ${expected} pairs after the first line, got ${end - 1}. The file is cut or its first line is wrong.`,
    );
  }
  const pairs = lines.slice(1, end).map((line, i): ListedPair => {
    const same = i % (2 * each) < each;
    const fields = fieldsOf(line);
    if (fields.length !== (same ? 3 : 4))
      throw bad(i + 2, same ? 'must be "name n1 n2" of one person' : 'must be "name1 n1 name2 n2" of two people', line);
    const [nameA, nameB] = [fields[0]!, same ? fields[0]! : fields[2]!];
    const [numberA, numberB] = [fields[1]!, same ? fields[2]! : fields[3]!];
    return {
      a: imagePath(nameA, numberA, suffix, i + 2),
      b: imagePath(nameB, numberB, suffix, i + 2),
      same,
      fold: Math.floor(i / (2 * each)),
      people: [nameA, nameB],
    };
  });
  return { pairs, folds, pattern: `name/name_0001${suffix}` };
}

function imagePath(name: string, number: string, suffix: string, line: number): string {
  const value = wholeNumber(number);
  if (!(value >= 0 && value <= 9999)) throw bad(line, 'image numbers must be whole numbers up to 9999', number);
  if (name === '.' || name === '..' || /[/\\\0]/.test(name)) throw bad(line, 'names must be folder names', name);
  return `${name}/${name}_${String(value).padStart(4, '0')}${suffix}`;
}

/**
 * Reads lines "a,b,same[,fold[,group]]" (comma, or tab if the first line holds one), quotes as in RFC 4180, `same` as 1/0 or
 * true/false. Folds are whole numbers from 0. A first line whose third field is none of these is a heading.
 */
export function readPairsCsv(text: string): PairList {
  const first = text.slice(0, Math.max(0, text.search(/[\r\n]|$/)));
  const rows = csvRows(text.replace(/^\ufeff/, ''), first.includes('\t') ? '\t' : ',');
  const pairs: ListedPair[] = [];
  rows.forEach(({ fields, line }, row) => {
    if (fields.length === 1 && fields[0]!.trim() === '') return;
    if (fields.length < 3 || fields.length > 5)
      throw bad(line, 'must have the fields a, b, same and perhaps fold and group', fields.join(','));
    const [a, b, kind, fold, group] = fields.map((field, i) => (i < 2 || i === 4 ? field : field.trim()));
    const same = readSame(kind!);
    if (same === undefined) {
      if (row === 0) return;
      throw bad(line, 'the third field must be 1, 0, true or false', kind!);
    }
    if (a === '' || b === '' || /\0/.test(a! + b!)) throw bad(line, 'both images must be named', `${a},${b}`);
    const number = fold === undefined || fold === '' ? undefined : wholeNumber(fold);
    if (number !== undefined && !(number >= 0 && number < 10_000))
      throw bad(line, 'folds must be whole numbers from 0 to 9,999', fold!);
    pairs.push({
      a: a!,
      b: b!,
      same,
      ...(number !== undefined && { fold: number }),
      ...(group !== undefined && group !== '' && { group }),
    });
  });
  if (pairs.length === 0)
    throw new FaceNetError('input', 'pairs file: must hold at least one pair, got none. Lines read "a,b,same".');
  const folded = pairs.filter((pair) => pair.fold !== undefined).length;
  if (folded > 0 && folded < pairs.length) {
    throw new FaceNetError(
      'input',
      `pairs file: either all pairs or none must name a fold, got ${folded} of ${pairs.length}. Complete the fourth column.`,
    );
  }
  return {
    pairs,
    folds: folded === 0 ? 0 : pairs.reduce((most, { fold }) => Math.max(most, fold! + 1), 0),
    pattern: 'the first two columns',
  };
}

/** Reads either format: LFW's when the first line is one or two numbers. */
export function readPairs(text: string, suffix = '.jpg'): PairList {
  const header = fieldsOf(linesOf(text.slice(0, 200))[0] ?? '');
  return header.length >= 1 && header.length <= 2 && header.every((field) => wholeNumber(field) >= 0)
    ? readLfwPairs(text, suffix)
    : readPairsCsv(text);
}

function readSame(text: string): boolean | undefined {
  switch (text.toLowerCase()) {
    case '1':
    case 'true':
      return true;
    case '0':
    case 'false':
      return false;
    default:
      return undefined;
  }
}

function linesOf(text: string): string[] {
  const lines = text.replace(/^\ufeff/, '').split(/\r\n|\n|\r/);
  if (lines.length > mostLines)
    throw new FaceNetError('input', `pairs file: must have at most ${mostLines} lines, got ${lines.length}. Split it.`);
  return lines;
}

/** LFW separates by tabs; files that went through an editor by blanks. */
function fieldsOf(line: string): string[] {
  return (line.includes('\t') ? line.split('\t').map((field) => field.trim()) : line.trim().split(/ +/)).filter(
    (field) => field !== '',
  );
}

function wholeNumber(text: string): number {
  return /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
}

function csvRows(text: string, separator: string): { fields: string[]; line: number }[] {
  const rows: { fields: string[]; line: number }[] = [];
  let fields: string[] = [];
  let line = 1;
  let start = 1;
  let at = 0;
  for (;;) {
    let field = '';
    if (text[at] === '"') {
      const from = line;
      for (at++; ; at++) {
        const close = text.indexOf('"', at);
        if (close < 0) throw bad(from, 'quotes must be closed', text.slice(at, at + 40));
        const part = text.slice(at, close);
        field += part;
        line += part.split('\n').length - 1;
        at = close + 1;
        if (text[at] !== '"') break;
        field += '"';
      }
      if (at < text.length && text[at] !== separator && text[at] !== '\n' && text[at] !== '\r')
        throw bad(line, 'a closing quote must end its field', text.slice(at, at + 40));
    } else {
      const from = at;
      while (at < text.length && text[at] !== separator && text[at] !== '\n' && text[at] !== '\r') at++;
      field = text.slice(from, at);
    }
    fields.push(field);
    if (text[at] === separator) {
      at++;
      continue;
    }
    rows.push({ fields, line: start });
    if (rows.length > mostLines)
      throw new FaceNetError('input', `pairs file: must have at most ${mostLines} lines, got more. Split it.`);
    if (at >= text.length) return rows;
    at += text[at] === '\r' && text[at + 1] === '\n' ? 2 : 1;
    line++;
    start = line;
    fields = [];
  }
}

function bad(line: number, rule: string, got: string): FaceNetError {
  const shown = got.length > 60 ? `${got.slice(0, 60)}...` : got;
  return new FaceNetError(
    'input',
    `pairs file, line ${line}: ${rule}, got ${JSON.stringify(shown)}. Correct this line.`,
    { index: line },
  );
}
