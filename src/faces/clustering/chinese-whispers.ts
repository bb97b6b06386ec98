import { Philox } from '../../graph/philox.ts';
import type { Units } from './constraints.ts';
import type { NeighbourGraph } from './neighbour-graph.ts';

/** The most rounds; as a rule nothing changes after about ten. */
const mostRounds = 100;

/**
 * Chinese whispers (Biemann 2006) as dlib runs it for faces: every pair within the threshold is an edge of weight 1; in each round, in a freshly
 * shuffled order, each unit takes the label that most of its edges lead to (of equals its own, then the lowest), until a round changes
 * nothing. A unit never takes a label of which some holder must stay apart from it. The same seed gives the same groups.
 */
export function chineseWhispers(graph: NeighbourGraph, units: Units, threshold: number, seed: number): void {
  const n = units.count;
  const { starts, others } = adjacency(graph, units, threshold);
  const labels = Uint32Array.from({ length: n }, (_, i) => i);
  const holders = new Map<number, Set<number>>();
  if (units.constrained) for (let unit = 0; unit < n; unit++) holders.set(unit, new Set([unit]));
  const order = labels.slice();
  const random = new Philox(seed, 0xc417e5e);
  for (let round = 0; round < mostRounds; round++) {
    random.shuffle(order);
    let changes = 0;
    for (const unit of order) {
      const votes = new Map<number, number>();
      for (let e = starts[unit]!; e < starts[unit + 1]!; e++) {
        const label = labels[others[e]!]!;
        votes.set(label, (votes.get(label) ?? 0) + 1);
      }
      const own = labels[unit]!;
      let best = own;
      let most = votes.get(own) ?? 0;
      for (const [label, count] of votes) {
        if (count < most || (count === most && (best === own || label > best))) continue;
        if (units.constrained && mustStayApart(units, unit, holders.get(label)!)) continue;
        best = label;
        most = count;
      }
      if (best === own) continue;
      labels[unit] = best;
      changes++;
      if (units.constrained) {
        holders.get(own)!.delete(unit);
        holders.get(best)!.add(unit);
      }
    }
    if (changes === 0) break;
  }
  const first = new Map<number, number>();
  for (let unit = 0; unit < n; unit++) {
    const start = first.get(labels[unit]!);
    if (start === undefined) first.set(labels[unit]!, unit);
    else units.merge(start, unit);
  }
}

function mustStayApart(units: Units, unit: number, holders: Set<number>): boolean {
  for (const other of holders) if (other !== unit && units.conflict(unit, other)) return true;
  return false;
}

/** Edges between units, both ways. Units of several faces may share several edges: each has its vote. */
function adjacency(
  graph: NeighbourGraph,
  units: Units,
  threshold: number,
): { starts: Uint32Array; others: Uint32Array } {
  const starts = new Uint32Array(units.count + 1);
  const each = (use: (a: number, b: number) => void): void => {
    for (let edge = 0; edge < graph.distance.length; edge++) {
      const [a, b] = [units.ofFace[graph.a[edge]!]!, units.ofFace[graph.b[edge]!]!];
      if (graph.distance[edge]! > threshold || a === b || units.conflict(a, b)) continue;
      use(a, b);
    }
  };
  each((a, b) => {
    starts[a + 1]!++;
    starts[b + 1]!++;
  });
  for (let unit = 0; unit < units.count; unit++) starts[unit + 1]! += starts[unit]!;
  const next = starts.slice(0, units.count);
  const others = new Uint32Array(starts[units.count]!);
  each((a, b) => {
    others[next[a]!++] = b;
    others[next[b]!++] = a;
  });
  return { starts, others };
}
