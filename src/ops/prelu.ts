import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, requireEqual, rows, type Shape, size } from '../graph/shape.ts';

const strided = ['x', 'y', 'dy', 'dx'];
const params = (x: Shape) => ({ rows: rows(x), columns: columns(x) });

function check(entry: string, x: Shape, slope: Shape | undefined, dy: Shape | undefined): void {
  if (slope) requireEqual(entry, 'slope', slope, [columns(x)]);
  if (dy) requireEqual(entry, 'dy', dy, x);
}

const forward: Entry<Attributes> = {
  inputs: ['x', 'slope'],
  output: 'y',
  strided,
  shape({ x, slope }) {
    check('prelu', x as Shape, slope, undefined);
    return x as Shape;
  },
  params: ({ x }) => params(x as Shape),
  launch: ({ x }) => ({ invocations: size(x as Shape) }),
  gradient: ({ y, dy, inputs: { x, slope }, needs }) => ({
    x: needs('x') ? y.graph.apply(preluOperator, 'inputGradient', { x, slope, dy }) : undefined,
    slope: needs('slope') ? y.graph.apply(preluOperator, 'slopeGradient', { x, dy }) : undefined,
  }),
};

/** dx = dy where x > 0, slope * dy elsewhere. */
const inputGradient: Entry<Attributes> = {
  inputs: ['x', 'slope', 'dy'],
  output: 'dx',
  strided,
  shape({ x, slope, dy }) {
    check('prelu.inputGradient', x as Shape, slope, dy);
    return x as Shape;
  },
  params: forward.params,
  launch: forward.launch,
};

/** dslope[c] = sum over the rows with x <= 0 of x * dy. */
const slopeGradient: Entry<Attributes> = {
  inputs: ['x', 'dy'],
  output: 'dslope',
  strided,
  shape({ x, dy }) {
    check('prelu.slopeGradient', x as Shape, undefined, dy);
    return [columns(x as Shape)];
  },
  params: forward.params,
  launch: ({ x }) => ({ workgroups: [columns(x as Shape)] }),
};

export const preluOperator = defineOperator({
  name: 'prelu',
  params: { rows: 'u32', columns: 'u32' },
  entries: { forward, inputGradient, slopeGradient },
});

/**
 * x where x > 0, slope * x elsewhere, with one learned slope per channel.
 *
 * x [..., channels], slope [channels] -> y of x's shape. The gradient at x = 0 is that of the negative side.
 * Source: He et al. 2015, "Delving Deep into Rectifiers", section 2.1. @throws 'input' when slope is not [channels].
 */
export function prelu(x: Value, slope: Value): Value {
  return x.graph.apply(preluOperator, 'forward', { x, slope });
}
