import type { Measurement } from '../bench.ts';
import { type Comparison, comparisonTable } from '../bench-against.ts';
import { escapeHtml, htmlTable, page } from './html.ts';

/** The page of `facenet bench`: plot and table, and the earlier run that it is compared with. */
export function benchReport(
  { title, summary, how, legend, plot, table }: Measurement,
  comparison: Comparison | undefined,
): string {
  const parts = [plot(), htmlTable(table)];
  if (comparison) {
    const { file, model, why } = comparison;
    parts.push(`<h2>${escapeHtml(`Against ${file}: ${model}; ${why}`)}</h2>`, htmlTable(comparisonTable(comparison)));
  }
  return page(title, [summary, how, legend], parts);
}
