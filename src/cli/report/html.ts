/** Text as HTML: names may hold anything. */
export const escapeHtml = (text: string): string =>
  text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;')
    // HTML has no place for other control characters.
    .replace(/(?![\t\n])\p{Cc}/gu, '\ufffd');

/** A page without scripts and without anything from outside; `parts` are HTML. */
export function page(title: string, lines: readonly string[], parts: readonly string[]): string {
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width">',
    `<title>${escapeHtml(title)}</title>`,
    `<style>${style}</style>`,
    `<h1>${escapeHtml(title)}</h1>`,
    ...lines.map((line) => `<p>${escapeHtml(line)}</p>`),
    ...parts,
  ].join('\n');
}

const style = [
  'body{font:15px/1.45 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#222;background:#fff}',
  'h2{font-size:1.1em;margin:1.6em 0 .3em}svg{width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:#444}',
  'table{border-collapse:collapse;margin:.5em 0}td,th{padding:.15em .8em .15em 0;text-align:right;font-variant-numeric:tabular-nums}',
  'th:first-child,td:first-child{text-align:left}th{font-weight:600;border-bottom:1px solid #bbb}',
  '.faces{display:flex;flex-wrap:wrap;gap:8px}.faces figure{margin:0;width:96px}.pair{display:inline-block;margin:0 16px 12px 0;vertical-align:top}',
  'img{width:96px;height:96px;object-fit:cover;background:#eee;display:inline-block}',
  '.none{width:96px;height:96px;background:#eee;color:#777;font-size:11px;display:inline-block;overflow:hidden}',
  'figcaption{font-size:11px;line-height:1.3;overflow-wrap:anywhere;color:#444}',
  '@media(prefers-color-scheme:dark){body{color:#ddd;background:#171717}text,figcaption{fill:#bbb;color:#bbb}svg line{stroke:#333}',
  'th{border-color:#555}img,.none{background:#333}circle,polyline,polygon,text[style]{filter:brightness(1.6)}}',
].join('');

/** A table; the first column is text, the others are numbers. */
export function htmlTable(rows: readonly (readonly string[])[]): string {
  const [head, ...body] = rows;
  const cells = (row: readonly string[], tag: string) =>
    row.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('');
  return `<table><tr>${cells(head ?? [], 'th')}</tr>${body.map((row) => `<tr>${cells(row, 'td')}</tr>`).join('\n')}</table>`;
}

/** The whole file: a page with its data inside. */
export function withData(html: string, json: string): string {
  // "</script>" or "<!--" in a name must not end the element.
  const inside = json.replaceAll('<', '\\u003c');
  return `${html}\n<script type="application/json" id="data">${inside}</script>\n</html>\n`;
}
