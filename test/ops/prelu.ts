import { prelu, preluOperator } from '../../src/ops/prelu.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;

export const spec: OperatorSpec = {
  operator: preluOperator,
  inputs: ['x', 'slope'],
  build: ({ x, slope }) => prelu(x!, slope!),
  forward: ({ x, slope }) => x!.map((v, i) => (v > 0 ? v : slope![i % slope!.length]! * v)),
  gradient({ x, slope }, dy) {
    const dslope = new Float64Array(slope!.length);
    x!.forEach((v, i) => {
      if (v <= 0) dslope[i % slope!.length]! += v * dy[i]!;
    });
    return { x: dy.map((d, i) => (x![i]! > 0 ? d : slope![i % slope!.length]! * d)), slope: dslope };
  },
  // One product; dslope: its sum over the rows, 256 partial sums in one order or another, so at most 256 + rows / 256 additions.
  bound(what, shapes) {
    const rows = shapes.x!.slice(0, -1).reduce((a, b) => a * b, 1);
    return (what === 'dslope' ? Math.min(rows, 256) + Math.ceil(rows / 256) + 9 : 1) * UNIT;
  },
  magnitude(what, { x, slope }, dy) {
    if (what !== 'dslope') return 0;
    const sums = new Float64Array(slope!.length);
    x!.forEach((v, i) => {
      sums[i % sums.length]! += Math.abs(Math.min(v, 0) * dy[i]!);
    });
    return Math.max(...sums);
  },
  cases: [
    { why: 'one element', shapes: { x: [1, 1], slope: [1] } },
    { why: 'an odd number of channels', shapes: { x: [2, 3, 2, 7], slope: [7] } },
    { why: 'more rows than the tree is wide', shapes: { x: [2, 15, 20, 5], slope: [5] } },
    { why: 'channels by four, rows that fill no strip', shapes: { x: [2, 5, 5, 12], slope: [12] } },
    { why: '16 channels and a tail', shapes: { x: [5, 22], slope: [22] } },
    {
      why: 'no negative value: no gradient for the slope',
      shapes: { x: [3, 4], slope: [4] },
      fill: { x: (_, uniform) => Math.abs(uniform()) },
    },
    {
      why: 'zeros take the negative side',
      shapes: { x: [2, 5], slope: [5] },
      fill: { x: (i, uniform) => (i % 2 ? 0 : uniform()) },
    },
    { why: 'a channel range', shapes: { x: [3, 2, 2, 6], slope: [6] }, slices: ['x'] },
  ],
};
