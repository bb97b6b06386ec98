/** Comma-separated values by RFC 4180: fields may be quoted, quotes doubled, lines end in LF or CRLF. */
import { FaceNetError } from '../errors.ts';

/**
 * Rows of fields. A last line without an end counts; an empty file has no rows.
 * @throws FaceNetError 'input' for a quote inside a bare field, text behind a closing quote, or an unfinished field.
 */
export function* parseCsv(text: string, source: string): Generator<string[]> {
  const refuse = (rule: string, line: number): FaceNetError =>
    new FaceNetError(
      'input',
      `${source}: ${rule}, got another at line ${line}. Quote the field and double its quotes.`,
    );
  let line = 1;
  for (let at = text.startsWith('\ufeff') ? 1 : 0; at < text.length; ) {
    const row: string[] = [];
    const first = line;
    for (;;) {
      if (text[at] === '"') {
        let field = '';
        let from = at + 1;
        for (;;) {
          const end = text.indexOf('"', from);
          if (end < 0) throw refuse('a quoted field has an end', first);
          field += text.slice(from, end);
          if (text[end + 1] !== '"') {
            at = end + 1;
            break;
          }
          field += '"';
          from = end + 2;
        }
        line += field.split('\n').length - 1;
        row.push(field);
      } else {
        const rest = /[^,\r\n"]*/y;
        rest.lastIndex = at;
        const [field] = rest.exec(text) as RegExpExecArray;
        at += field.length;
        row.push(field);
      }
      if (text[at] !== ',') break;
      at++;
    }
    if (text[at] === '\r' && text[at + 1] === '\n') at++;
    if (at < text.length && text[at] !== '\n') throw refuse('a comma or the end of the line behind a field', first);
    at++;
    line++;
    yield row;
  }
}

/** One line, with its end; fields are quoted where they must be. */
export function csvLine(fields: readonly string[]): string {
  return `${fields.map((field) => (/[",\r\n\ufeff]|^\s|\s$/.test(field) ? `"${field.replaceAll('"', '""')}"` : field)).join(',')}\n`;
}
