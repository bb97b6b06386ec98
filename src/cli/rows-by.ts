/** Rows 0..count - 1 by a key, in order; rows without a key are left out. */
export function rowsBy<K>(count: number, keyOf: (row: number) => K | undefined): Map<K, number[]> {
  const found = new Map<K, number[]>();
  for (let row = 0; row < count; row++) {
    const key = keyOf(row);
    if (key === undefined) continue;
    const rows = found.get(key);
    if (rows) rows.push(row);
    else found.set(key, [row]);
  }
  return found;
}
