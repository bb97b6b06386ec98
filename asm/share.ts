// How threads split a matrix product.
import { first, last } from './vector';

// What `share` found for this thread: rows and panels, from (inclusive) and to (exclusive).
export let rowsFrom: u32 = 0, rowsTo: u32 = 0, panelsFrom: u32 = 0, panelsTo: u32 = 0;

/**
 * Splits rows x panels over threads: rows as long as every thread gets enough of them, panels where weights are the larger part of
 * what is read. The least estimated time wins; nothing here changes a result. The answer is in the four globals above.
 */
export function share(thread: u32, threads: u32, rows: u32, panels: u32): void {
  let best = f32.MAX_VALUE, groups: u32 = 1;
  const units = (rows + 5) / 6;
  for (let g: u32 = 1; g <= min<u32>(threads, panels); g++) {
    const rowGroups = min<u32>(threads / g, units);
    const unitShare = <f32>((units + rowGroups - 1) / rowGroups);
    const panelShare = <f32>((panels + g - 1) / g);
    // Cycles per unit of depth: 12 columns x 6 rows take about 10; a panel's line of weights, 48 bytes from far away, takes about 8;
    // copying and reading 6 rows about 6.
    const time: f32 = unitShare * panelShare * 10 + panelShare * 8 + unitShare * 6;
    if (time < best) {
      best = time;
      groups = g;
    }
  }
  const rowGroups = min<u32>(threads / groups, units);
  if (rows == 0 || thread >= groups * rowGroups) {
    rowsFrom = rowsTo = panelsFrom = panelsTo = 0;
    return;
  }
  const r = thread / groups, p = thread % groups;
  rowsFrom = first(units, r, rowGroups) * 6;
  rowsTo = min<u32>(rows, last(units, r, rowGroups) * 6);
  panelsFrom = first(panels, p, groups);
  panelsTo = last(panels, p, groups);
}

