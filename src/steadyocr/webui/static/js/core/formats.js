// A page as text, Markdown or CSV, from what is on the screen now. The same rules as the server's page_formats.

const MARKDOWN_SPECIAL = /[\\\x60*_{}[\]<>#|~&]/g;
const MARKDOWN_START = /^(\d+(?=[.)](?:\s|$))|(?=[-+](?:\s|$)|(?:-+|=+)$))/;
// A spreadsheet would run these as formulas, full-width signs included.
const FORMULA_STARTS = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

const text = (page) => (page.text ? `${page.text}\n` : '');

const markdown = (page) =>
  page.lines
    .filter((line) => line.text)
    .map((line) => {
      const escaped = line.text.trim().replace(MARKDOWN_SPECIAL, '\\$&');
      return `${escaped.replace(MARKDOWN_START, '$1\\')}  \n`;
    })
    .join('');

const cell = (value) => {
  const written = value === null || value === undefined ? '' : String(value);
  return /[",\r\n]/.test(written) ? `"${written.replaceAll('"', '""')}"` : written;
};

const harmless = (value) => (FORMULA_STARTS.some((start) => value.startsWith(start)) ? `'${value}` : value);

function csv(page) {
  const head = ['id', 'x1', 'y1', 'x2', 'y2', 'x3', 'y3', 'x4', 'y4', 'score', 'text', 'text_score'];
  const rows = page.lines.map((line) => [
    line.id,
    ...line.quad.flat(),
    line.score,
    harmless(line.text ?? ''),
    line.text_score,
  ]);
  return [head, ...rows].map((row) => `${row.map(cell).join(',')}\r\n`).join('');
}

export const renderers = {
  json: { suffix: 'json', type: 'application/json', render: (page) => `${JSON.stringify(page, null, 2)}\n` },
  text: { suffix: 'txt', type: 'text/plain', render: text },
  markdown: { suffix: 'md', type: 'text/markdown', render: markdown },
  csv: { suffix: 'csv', type: 'text/csv', render: (page) => `\ufeff${csv(page)}` },
};

/** A page with other lines, found with these options; its text is made anew. */
export function withLines(page, lines, options = {}) {
  const full = lines.map((line) => ({ ...line, text: line.text ?? '' }));
  return { ...page, options: { ...page.options, ...options }, lines: full, text: full.map((line) => line.text).filter(Boolean).join('\n') };
}
