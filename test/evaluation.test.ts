import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  areaUnderRoc,
  bCubed,
  bestThreshold,
  calibrate,
  clopperPearson,
  decide,
  detCurve,
  equalErrorRate,
  evaluateAllPairs,
  evaluatePairs,
  evaluateVersions,
  falseAcceptRate,
  foldAccuracy,
  groupReports,
  normalisedMutualInformation,
  pairDistances,
  pointFor,
  rocCurve,
  splitEvaluation,
  squaredDistance,
  summarise,
  type VectorSet,
  valAtFar,
  validationRate,
  wilson,
} from '../src/evaluate.ts';
import { bootstrapRates, identifiedPairs, percentileInterval } from '../src/faces/evaluation/bootstrap.ts';
import { allowedFalseAccepts, thresholdWithin } from '../src/faces/evaluation/rates.ts';
import { incompleteBeta, logGamma, normalQuantile } from '../src/faces/evaluation/statistics.ts';
import { checkedOperatingPoint, type OperatingPoint } from '../src/faces/operating-point.ts';
import { Philox } from '../src/graph/philox.ts';
import cases from './cases/evaluation.json' with { type: 'json' };

const [ev01, ev02, ev04, ev06] = cases.cases as unknown as [
  RatesCase,
  RatesCase & { resolution: number; mustReport: string },
  FoldCase,
  Record<string, number> & { accuracies: number[] },
];
interface RatesCase {
  same: number[];
  different: number[];
  targets: {
    targetFar: number;
    thresholdFrom: number;
    thresholdBelow: number | 'Infinity';
    trueAccepts: number;
    val: number;
    falseAccepts: number;
    far: number;
  }[];
  pointsOfTheCurve: { d: number; val: number; far: number }[];
}
interface FoldCase {
  folds: ([number, number] | null)[][];
  expected: {
    fold: number;
    pairsTested: number;
    trainAccuracy: number;
    thresholdFrom: number;
    thresholdBelow: number;
    testAccuracies: number[];
  }[];
  meanAccuracy: number;
  mustReport: string;
}

/** Distances with many ties, the two kinds overlapping. */
function tiedDistances(count: number, seed: number): { same: number[]; different: number[] } {
  const random = new Philox(seed);
  const same: number[] = [];
  const different: number[] = [];
  for (let i = 0; i < count; i++) {
    const value = (random.uniform() + random.uniform()) / 2;
    if (i % 10 === 0) same.push(Math.round(value * 1500) / 1000);
    else different.push(Math.round((value * 3 + 0.4) * 1000) / 1000);
  }
  return { same, different };
}

const countWhere = (values: readonly number[], accept: (value: number) => boolean) =>
  values.reduce((n, value) => n + (accept(value) ? 1 : 0), 0);

describe('VAL and FAR', () => {
  test.each([
    ['EV-01', ev01],
    ['EV-02', ev02],
  ] as const)('%s: the largest threshold within the target', (_, { same, different, targets }) => {
    for (const expected of targets) {
      const rates = valAtFar(pairDistances(same, different), expected.targetFar);
      expect(rates.thresholdFrom).toBe(expected.thresholdFrom);
      expect(rates.thresholdBelow).toBe(Number(expected.thresholdBelow));
      expect(rates.trueAccepts).toBe(expected.trueAccepts);
      expect(rates.falseAccepts).toBe(expected.falseAccepts);
      expect(rates.val).toBe(expected.val);
      expect(rates.far).toBe(expected.far);
      expect(rates.threshold >= rates.thresholdFrom && rates.threshold < rates.thresholdBelow).toBe(true);
    }
  });

  test('EV-01: the whole curve', () => {
    const pairs = pairDistances(ev01.same, ev01.different);
    expect(rocCurve(pairs)).toEqual(ev01.pointsOfTheCurve.map(({ d, val, far }) => ({ threshold: d, val, far })));
    for (const { d, val, far } of ev01.pointsOfTheCurve) {
      expect(validationRate(pairs, d)).toBe(val);
      expect(falseAcceptRate(pairs, d)).toBe(far);
    }
  });

  test('EV-02: says that the target cannot be resolved', () => {
    const rates = valAtFar(pairDistances(ev02.same, ev02.different), 0.001);
    expect(rates.note).toBe(ev02.mustReport);
    expect(rates.resolution).toBe(ev02.resolution);
    expect(valAtFar(pairDistances(ev02.same, ev02.different), 0.2).note).toBeUndefined();
  });

  test('EV-07: one kind of pair only: its rate is known, the other is an error', () => {
    const pairs = pairDistances([0.1, 0.2], []);
    expect(validationRate(pairs, 0.15)).toBe(0.5);
    expect(() => falseAcceptRate(pairs, 0.15)).toThrow(/pairs of two people/);
    expect(() => valAtFar(pairs, 0.1)).toThrow(/pairs of two people/);
    expect(() => validationRate(pairDistances([], [1]), 1)).toThrow(/pairs of one person/);
    expect(() => areaUnderRoc(pairs)).toThrow(/pairs of two people/);
    expect(() => equalErrorRate(pairs)).toThrow(/pairs of two people/);
  });

  test('100,000 distances with ties: counts equal a plain count', () => {
    const { same, different } = tiedDistances(100_000, 7);
    const pairs = pairDistances(same, different);
    const distinct = [...new Set([...same, ...different])].sort((a, b) => a - b);
    expect(distinct.length).toBeLessThan(4000);
    const falseAccepts = new Map<number, number>();
    for (const value of different) falseAccepts.set(value, (falseAccepts.get(value) ?? 0) + 1);
    for (const far of [0, 1e-6, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.999, 1]) {
      const rates = valAtFar(pairs, far);
      // The largest observed distance that may be the threshold, found by trying one after the other.
      let best = Number.NEGATIVE_INFINITY;
      let accepted = 0;
      for (const d of distinct) {
        accepted += falseAccepts.get(d) ?? 0;
        if (accepted > far * different.length) break;
        best = d;
      }
      expect(rates.thresholdFrom).toBe(best);
      expect(rates.trueAccepts).toBe(countWhere(same, (value) => value <= rates.threshold));
      expect(rates.falseAccepts).toBe(countWhere(different, (value) => value <= rates.threshold));
    }
    // AUC and EER from a histogram of the distinct values.
    const curve = rocCurve(pairs);
    expect(curve.map(({ threshold }) => threshold)).toEqual(distinct);
    const at = distinct[1234]!;
    expect(curve[1234]).toEqual({
      threshold: at,
      val: countWhere(same, (v) => v <= at) / same.length,
      far: countWhere(different, (v) => v <= at) / different.length,
    });
    let area = 0;
    let before = { val: 0, far: 0 };
    let crossed = Number.NaN;
    for (const point of curve) {
      area += ((point.far - before.far) * (point.val + before.val)) / 2;
      if (Number.isNaN(crossed) && point.far + point.val >= 1) {
        // Bisection along the segment.
        let [low, high] = [0, 1];
        for (let i = 0; i < 60; i++) {
          const t = (low + high) / 2;
          const far = before.far + t * (point.far - before.far);
          if (far + before.val + t * (point.val - before.val) >= 1) high = t;
          else low = t;
        }
        crossed = before.far + high * (point.far - before.far);
      }
      before = point;
    }
    expect(areaUnderRoc(pairs)).toBeCloseTo(area, 12);
    expect(equalErrorRate(pairs)).toBeCloseTo(crossed, 12);
    const thin = rocCurve(pairs, 50);
    expect(thin.length).toBeGreaterThan(25);
    expect(thin.length).toBeLessThan(110);
    expect(thin[thin.length - 1]).toMatchObject({ val: 1, far: 1 });
  });

  test('AUC by definition on EV-01: pairs of pairs, ties half', () => {
    let twice = 0;
    for (const s of ev01.same) for (const d of ev01.different) twice += s < d ? 2 : s === d ? 1 : 0;
    expect(areaUnderRoc(pairDistances(ev01.same, ev01.different))).toBe(twice / 160);
    expect(areaUnderRoc(pairDistances(ev02.same, ev02.different))).toBe(1);
    expect(equalErrorRate(pairDistances(ev02.same, ev02.different))).toBe(0);
    expect(equalErrorRate(pairDistances([1, 1], [1]))).toBe(0.5);
    expect(equalErrorRate(pairDistances([2], [1]))).toBe(1);
  });

  test('targets that are whole numbers of pairs but for rounding', () => {
    expect(0.29 * 100).not.toBe(29);
    expect(allowedFalseAccepts(0.29, 100)).toBe(29);
    expect(allowedFalseAccepts(0.1, 8_455_365)).toBe(845_536);
    for (const far of [-0.1, 1.1, Number.NaN]) expect(() => allowedFalseAccepts(far, 10)).toThrow(/FAR/);
  });

  test('a threshold lies inside its interval even between neighbouring numbers', () => {
    const below = 0.3 + 2 ** -54;
    expect(thresholdWithin(0.3, below)).toBe(0.3);
    expect(thresholdWithin(0.2, 0.3)).toBeCloseTo(0.25, 12);
    expect(thresholdWithin(0.7, Number.POSITIVE_INFINITY)).toBe(0.7);
    expect(thresholdWithin(Number.NEGATIVE_INFINITY, 0.5)).toBe(0.25);
    expect(thresholdWithin(Number.NEGATIVE_INFINITY, 0)).toBe(-1);
    // The nearest pair is one of two people, at distance 0: at FAR 0 nothing may be accepted.
    const rates = valAtFar(pairDistances([0, 1], [0, 2]), 0);
    expect(rates).toMatchObject({ trueAccepts: 0, falseAccepts: 0, threshold: -1 });
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, -0.1])('a distance of %d is refused with its index', (bad) => {
    expect(() => pairDistances([0.1, bad], [1])).toThrow(expect.objectContaining({ code: 'input', index: 1 }));
    expect(() => pairDistances([0.1], [1, 2, bad])).toThrow(expect.objectContaining({ index: 2 }));
  });

  test('DET: error rates and their normal deviates', () => {
    const det = detCurve(rocCurve(pairDistances(ev01.same, ev01.different)));
    expect(det.map(({ threshold }) => threshold)).toEqual([0.3, 0.5, 0.7, 0.8]);
    expect(det[0]!.x).toBeCloseTo(-1.2815515655446004, 10);
    expect(det[0]!.y).toBe(0);
    expect(det[2]!.falseRejectRate).toBe(0.125);
  });
});

describe('folds', () => {
  const folds = ev04.folds.map((fold) =>
    fold.map((pair) => (pair ? { distance: pair[0], same: pair[1] === 1 } : { distance: null, same: true })),
  );

  test('EV-04: a missing pair stays in its fold', () => {
    const result = foldAccuracy(folds);
    result.folds.forEach((fold, i) => {
      const expected = ev04.expected[i]!;
      expect(fold.pairsTested).toBe(expected.pairsTested);
      expect(fold.trainAccuracy).toBeCloseTo(expected.trainAccuracy, 11);
      expect(fold.thresholdFrom).toBe(expected.thresholdFrom);
      expect(fold.thresholdBelow).toBe(expected.thresholdBelow);
      expect(fold.accuracy).toBeCloseTo(expected.testAccuracies[0]!, 11);
    });
    expect(result.mean).toBeCloseTo(ev04.meanAccuracy, 11);
    expect(result.note).toBe(ev04.mustReport);
  });

  test('EV-06: mean, both deviations and the standard error; the best fold is only the largest', () => {
    const summary = summarise(ev06.accuracies);
    expect(summary.mean).toBeCloseTo(ev06.mean!, 12);
    expect(summary.populationDeviation).toBeCloseTo(ev06.populationStd!, 12);
    expect(summary.sampleDeviation).toBeCloseTo(ev06.sampleStd!, 12);
    expect(summary.standardError).toBeCloseTo(ev06.sem!, 12);
    expect(summary.largest).toBe(ev06.maximum);
    expect(() => summarise([])).toThrow(/at least one/);
    expect(() => summarise([1, Number.NaN])).toThrow(expect.objectContaining({ index: 1 }));
  });

  test('the best threshold equals trying every distance', () => {
    const { same, different } = tiedDistances(3000, 3);
    const pairs = [
      ...same.map((distance) => ({ distance, same: true })),
      ...different.map((distance) => ({ distance, same: false })),
    ];
    const accuracy = (threshold: number) =>
      countWhere(same, (d) => d <= threshold) + countWhere(different, (d) => d > threshold);
    const distinct = [...new Set([...same, ...different])].sort((a, b) => a - b);
    const most = Math.max(...distinct.map(accuracy));
    const best = bestThreshold(pairs);
    expect(best.trainAccuracy).toBe(most / 3000);
    expect(accuracy(best.threshold)).toBe(most);
    const winners = distinct.filter((d) => accuracy(d) === most);
    expect(best.thresholdFrom).toBe(winners[0]);
    expect(best.thresholdBelow).toBe(distinct.find((d) => d > winners[winners.length - 1]!));
  });

  test('of equally good stretches the widest is taken, of equally wide the lowest', () => {
    // Accepting up to 0.1 or up to 0.3 is equally right; above 0.3 lies more room.
    const pairs = [
      { distance: 0.1, same: true },
      { distance: 0.2, same: false },
      { distance: 0.3, same: true },
      { distance: 0.8, same: false },
    ];
    expect(bestThreshold(pairs)).toMatchObject({ thresholdFrom: 0.1, thresholdBelow: 0.8, threshold: 0.55 });
  });

  test('folds without pairs are left out; fewer than two with pairs are an error', () => {
    const gone = folds[1]!.map((pair) => ({ ...pair, distance: null }));
    const result = foldAccuracy([folds[0]!, gone, folds[2]!]);
    expect(result.count).toBe(2);
    expect(result.note).toBe('4 of 12 pairs skipped, fold 1');
    expect(() => foldAccuracy([folds[0]!, gone])).toThrow(/at least two/);
    expect(() => foldAccuracy([[{ distance: Number.NaN, same: true }], folds[0]!])).toThrow(/fold 0/);
  });
});

describe('statistics', () => {
  // scipy 1.17: beta.ppf(.025, k, n - k + 1), beta.ppf(.975, k + 1, n - k).
  test.each([
    [0, 100, 0, 0.03621669264517641],
    [3, 2700, 0.00022919646318644423, 0.003243671803077014],
    [1, 5, 0.0050507633794680575, 0.7164179361180895],
    [5, 5, 0.4781762498950185, 1],
    [8437, 8_455_365, 0.0009766588605728283, 0.001019340030788218],
    [50, 100, 0.39832112950330095, 0.601678870496699],
  ])('Clopper-Pearson %d of %d', (k, n, low, high) => {
    const interval = clopperPearson(k, n);
    expect(Math.abs(interval[0] - low)).toBeLessThanOrEqual(1e-8 * low);
    expect(Math.abs(interval[1] - high)).toBeLessThanOrEqual(1e-8 * high);
  });

  test('Wilson, incomplete beta, log gamma, normal quantile against scipy', () => {
    expect(wilson(3, 2700)[0]).toBeCloseTo(0.00037794839138374575, 12);
    expect(wilson(3, 2700)[1]).toBeCloseTo(0.0032618577772022513, 12);
    expect(incompleteBeta(0.3, 2, 5)).toBeCloseTo(0.579825, 12);
    expect(incompleteBeta(0.999, 800, 3)).toBeCloseTo(0.9523758547128038, 10);
    expect(incompleteBeta(0.001, 8438, 8_446_928)).toBeCloseTo(0.5763791915696022, 7);
    for (const [x, value] of [
      [1e-3, 6.907178885383853],
      [0.5, 0.5723649429247],
      [1, 0],
      [2, 0],
      [15.5, 26.536914491115613],
      [1e7, 151180949.36947393],
    ] as const) {
      expect(Math.abs(logGamma(x) - value)).toBeLessThanOrEqual(1e-13 * Math.max(1, value));
    }
    for (const [p, z] of [
      [1e-300, -37.0470962993612],
      [1e-6, -4.753424308822899],
      [1e-3, -3.090232306167813],
      [0.0013, -3.0114537584997843],
      [0.0015, -2.9677379253417833],
      [0.1, -1.2815515655446004],
      [0.4999, -0.0002506628300880075],
      [0.5, 0],
      [0.975, 1.959963984540054],
      [0.9999999, 5.199337582290661],
    ] as const) {
      expect(Math.abs(normalQuantile(p) - z), `p = ${p}`).toBeLessThanOrEqual(1e-9 * Math.max(1e-3, Math.abs(z)));
    }
    expect(normalQuantile(0)).toBe(Number.NEGATIVE_INFINITY);
    expect(() => normalQuantile(1.1)).toThrow(/probability/);
  });

  test('counts that are none are refused', () => {
    for (const [k, n] of [
      [1, 0],
      [-1, 5],
      [6, 5],
      [0.5, 5],
      [0, Number.NaN],
    ] as const)
      expect(() => clopperPearson(k, n)).toThrow(/successes/);
    expect(() => wilson(1, 5, 1)).toThrow(/confidence/);
  });
});

describe('bootstrap over identities', () => {
  const random = new Philox(5);
  const people = 12;
  const images = Array.from({ length: 40 }, () => random.below(people));
  const list = images.flatMap((a, i) =>
    images
      .slice(i + 1)
      .map((b) => ({ a, b, distance: Math.round(((a === b ? 0.5 : 1.2) + random.uniform()) * 50) / 50 })),
  );
  const side = (same: boolean) => {
    const chosen = list.filter(({ a, b }) => (a === b) === same);
    return identifiedPairs(
      chosen.map(({ distance }) => distance),
      chosen.map(({ a }) => a),
      chosen.map(({ b }) => b),
    );
  };
  const input = { identities: people, same: side(true), different: side(false) };

  test('equals a plain bootstrap that writes out every weighted pair', () => {
    const fars = [0.3, 0.01, 0, 0.1, 0.5, 1];
    const thresholds = [1.5, 1.3];
    const found = bootstrapRates(input, fars, thresholds, { replicates: 60, seed: 9, confidence: 0.3 });
    const draw = new Philox(9, 0xb007);
    const vals: number[][] = fars.map(() => []);
    const rates: number[][] = thresholds.map(() => []);
    for (let replicate = 0; replicate < 60; replicate++) {
      const times = new Array<number>(people).fill(0);
      for (let i = 0; i < people; i++) times[draw.below(people)]!++;
      const same = list
        .filter(({ a, b }) => a === b)
        .flatMap(({ a, distance }) => Array<number>(times[a]!).fill(distance));
      const different = list
        .filter(({ a, b }) => a !== b)
        .flatMap(({ a, b, distance }) => Array<number>(times[a]! * times[b]!).fill(distance));
      const pairs = pairDistances(same, different);
      fars.forEach((far, i) => vals[i]!.push(valAtFar(pairs, far).val));
      thresholds.forEach((threshold, i) => rates[i]!.push(falseAcceptRate(pairs, threshold)));
    }
    expect(found.replicates).toBe(60);
    expect(found.val).toEqual(vals.map((values) => percentileInterval(values, 0.3)));
    expect(found.far).toEqual(rates.map((values) => percentileInterval(values, 0.3)));
  });

  test('the same seed gives the same intervals, another seed others; they hold the estimate', () => {
    const options = { replicates: 200, seed: 3 };
    expect(bootstrapRates(input, [0.1], [1.4], options)).toEqual(bootstrapRates(input, [0.1], [1.4], options));
    expect(bootstrapRates(input, [0.1], [1.4], { ...options, seed: 4 })).not.toEqual(
      bootstrapRates(input, [0.1], [1.4], options),
    );
    const pairs = pairDistances(input.same.distance, input.different.distance);
    const { val } = valAtFar(pairs, 0.1);
    const [low, high] = bootstrapRates(input, [0.1], [], options).val[0]!;
    expect(low <= val && val <= high && low < high).toBe(true);
  });

  test('percentiles are order statistics rounded outwards', () => {
    const values = Array.from({ length: 101 }, (_, i) => 100 - i);
    expect(percentileInterval(values, 0.9)).toEqual([5, 95]);
    expect(percentileInterval(values, 0.95)).toEqual([2, 98]);
  });

  test('pairs of one kind or one person only are refused', () => {
    const none = identifiedPairs([], [], []);
    expect(() => bootstrapRates({ ...input, different: none }, [0.1], [])).toThrow(/both kinds/);
    expect(() => bootstrapRates(input, [0.1], [], { replicates: 3 })).toThrow(/replicates/);
  });
});

/** Unit vectors about one centre a person. */
function people(
  count: number,
  identities: number,
  seed: number,
  spread = 1.2,
  dimensions = 16,
): { vectors: VectorSet; labels: string[] } {
  const random = new Philox(seed);
  const centres = Array.from({ length: identities }, () =>
    Array.from({ length: dimensions }, () => random.uniform() - 0.5),
  );
  const data = new Float32Array(count * dimensions);
  const labels: string[] = [];
  for (let i = 0; i < count; i++) {
    const person = i < identities ? i : random.below(identities);
    const vector = centres[person]!.map((value) => value + spread * (random.uniform() - 0.5));
    const length = Math.hypot(...vector);
    vector.forEach((value, k) => {
      data[i * dimensions + k] = value / length;
    });
    labels.push(`person ${person}`);
  }
  return { vectors: { data, count, dimensions }, labels };
}

function everyPair({ data, count, dimensions }: VectorSet, labels: readonly string[]) {
  const row = (i: number) => data.subarray(i * dimensions, (i + 1) * dimensions);
  const same: number[] = [];
  const different: number[] = [];
  for (let i = 0; i < count; i++)
    for (let j = i + 1; j < count; j++)
      (labels[i] === labels[j] ? same : different).push(squaredDistance(row(i), row(j)));
  return pairDistances(same, different);
}

describe('all pairs', () => {
  test('equals the evaluation of the written-out list, ties and equal faces included', async () => {
    const { vectors, labels } = people(300, 40, 1);
    // Equal faces of one person and of two people; a group of faces in one point.
    vectors.data.copyWithin(5 * 16, 0, 16);
    for (let i = 50; i < 60; i++) vectors.data.copyWithin(i * 16, 7 * 16, 8 * 16);
    const fars = [0, 1e-4, 1e-3, 0.01, 0.1, 0.5, 1];
    const expected = everyPair(vectors, labels);
    const found = await evaluateAllPairs(vectors, labels, { fars, replicates: 50 });
    expect(found.samePairs).toBe(expected.same.length);
    expect(found.differentPairs).toBe(expected.different.length);
    fars.forEach((far, i) => expect(found.valAtFar[i]).toMatchObject({ ...valAtFar(expected, far) }));
    expect(found.areaUnderRoc).toBe(areaUnderRoc(expected));
    expect(found.equalErrorRate).toBe(equalErrorRate(expected));
    for (const { threshold, val, far } of found.roc) {
      expect(val).toBe(validationRate(expected, threshold));
      expect(far).toBe(falseAcceptRate(expected, threshold));
    }
    expect(found.roc[found.roc.length - 1]).toMatchObject({ val: 1, far: 1 });
    const { binsPerUnit, same, different } = found.histogram;
    const inBin = (values: Float64Array, bin: number) =>
      countWhere([...values], (d) => d <= (bin + 1) / binsPerUnit && (bin === 0 || d > bin / binsPerUnit));
    for (const bin of [0, 20, 40, 64]) {
      expect(same[bin]).toBe(inBin(expected.same, bin));
      expect(different[bin]).toBe(inBin(expected.different, bin));
    }
    expect(different.reduce((a, b) => a + b)).toBe(expected.different.length);
  });

  test('intervals equal those of the bootstrap over the written-out list', async () => {
    const { vectors, labels } = people(120, 15, 2);
    const numbers = labels.map((label) => [...new Set(labels)].indexOf(label));
    const pairs = numbers.flatMap((a, i) => numbers.slice(i + 1).map((b, k) => ({ a, b, i, j: i + 1 + k })));
    const row = (i: number) => vectors.data.subarray(i * 16, (i + 1) * 16);
    const side = (same: boolean) => {
      const chosen = pairs.filter(({ a, b }) => (a === b) === same);
      return identifiedPairs(
        chosen.map(({ i, j }) => squaredDistance(row(i), row(j))),
        chosen.map(({ a }) => a),
        chosen.map(({ b }) => b),
      );
    };
    const fars = [1e-3, 0.01, 0.1];
    const found = await evaluateAllPairs(vectors, labels, { fars, replicates: 80, seed: 6 });
    const expected = bootstrapRates(
      { identities: 15, same: side(true), different: side(false) },
      fars,
      found.valAtFar.map(({ threshold }) => threshold),
      { replicates: 80, seed: 6 },
    );
    expect(found.valAtFar.map(({ valInterval }) => valInterval)).toEqual(expected.val);
    found.valAtFar.forEach(({ farInterval }, i) => {
      expect(farInterval![0]).toBeLessThanOrEqual(expected.far[i]![0]);
      expect(farInterval![1]).toBeGreaterThanOrEqual(expected.far[i]![1]);
    });
    expect(found.valAtFar[2]!.farInterval).toEqual(expected.far[2]);
  });

  test('two versions of a network: each alone, and every pair of one vector of each', async () => {
    const { vectors: first, labels } = people(150, 25, 4);
    // The second version turns the first a little, and not all faces alike.
    const data = Float32Array.from(first.data, (value, i) => value + 0.03 * Math.sin(i));
    for (let row = 0; row < data.length; row += 16) {
      const length = Math.hypot(...data.subarray(row, row + 16));
      for (let i = row; i < row + 16; i++) data[i]! /= length;
    }
    const second: VectorSet = { ...first, data };
    const at = ({ data: all }: VectorSet, i: number) => all.subarray(i * 16, (i + 1) * 16);
    const sides = { same: [] as number[], different: [] as number[] };
    const people2 = { same: [] as number[][], different: [] as number[][] };
    const numbers = labels.map((label) => [...new Set(labels)].indexOf(label));
    for (let i = 0; i < 150; i++)
      for (let j = 0; j < 150; j++) {
        if (i === j) continue;
        const side = labels[i] === labels[j] ? 'same' : 'different';
        sides[side].push(squaredDistance(at(first, i), at(second, j)));
        people2[side].push([numbers[i]!, numbers[j]!]);
      }
    const fars = [1e-3, 0.01, 0.1];
    const found = await evaluateVersions(first, second, labels, { fars, replicates: 60, seed: 2 });
    const expected = pairDistances(sides.same, sides.different);
    expect([found.mixed.samePairs, found.mixed.differentPairs]).toEqual([sides.same.length, sides.different.length]);
    fars.forEach((far, i) => expect(found.mixed.valAtFar[i]).toMatchObject({ ...valAtFar(expected, far) }));
    expect(found.mixed.areaUnderRoc).toBe(areaUnderRoc(expected));
    expect(found.mixed.equalErrorRate).toBe(equalErrorRate(expected));
    const identified = (side: 'same' | 'different') =>
      identifiedPairs(
        sides[side],
        people2[side].map(([a]) => a!),
        people2[side].map(([, b]) => b!),
      );
    const intervals = bootstrapRates(
      { identities: 25, same: identified('same'), different: identified('different') },
      fars,
      found.mixed.valAtFar.map(({ threshold }) => threshold),
      { replicates: 60, seed: 2 },
    );
    expect(found.mixed.valAtFar.map(({ valInterval }) => valInterval)).toEqual(intervals.val);
    for (const [version, evaluation] of [
      [first, found.first],
      [second, found.second],
    ] as const)
      expect(evaluation.areaUnderRoc).toBe(areaUnderRoc(everyPair(version, labels)));
    const fewer = { ...second, data: data.subarray(16), count: 149 };
    await expect(evaluateVersions(first, fewer, labels)).rejects.toMatchObject({ code: 'mismatch' });
  });

  test('distances may come from elsewhere, asked for in blocks', async () => {
    const { vectors, labels } = people(90, 9, 3);
    let calls = 0;
    const rows = async (first: number, last: number) => {
      calls++;
      const block = new Float32Array((last - first) * 90);
      for (let i = first; i < last; i++)
        for (let j = 0; j < 90; j++) block[(i - first) * 90 + j] = Math.abs(i - j) / 50;
      return block;
    };
    const found = await evaluateAllPairs(vectors, labels, { rows, intervals: false, fars: [0.1] });
    const [same, different]: [number[], number[]] = [[], []];
    for (let i = 0; i < 90; i++)
      for (let j = i + 1; j < 90; j++) (labels[i] === labels[j] ? same : different).push(Math.fround((j - i) / 50));
    expect(found.valAtFar[0]).toMatchObject({
      ...valAtFar(pairDistances(same, different), 0.1),
      valInterval: null,
      farInterval: null,
    });
    expect(calls).toBe(2);
  });

  test('faces in one point: everything is a tie', async () => {
    const vectors: VectorSet = { data: new Float32Array(40).fill(Math.SQRT1_2), count: 20, dimensions: 2 };
    const labels = Array.from({ length: 20 }, (_, i) => i % 5);
    const found = await evaluateAllPairs(vectors, labels, { fars: [0.1, 1], replicates: 20 });
    expect(found.areaUnderRoc).toBe(0.5);
    expect(found.equalErrorRate).toBe(0.5);
    expect(found.valAtFar[0]).toMatchObject({ val: 0, far: 0 });
    expect(found.valAtFar[1]).toMatchObject({ val: 1, far: 1 });
  });

  test('bad input and aborts are typed', async () => {
    const { vectors, labels } = people(20, 4, 4);
    await expect(evaluateAllPairs(vectors, labels.slice(1))).rejects.toThrow(/19 for 20/);
    await expect(
      evaluateAllPairs(
        vectors,
        labels.map(() => 'one'),
      ),
    ).rejects.toThrow(/pairs of two people/);
    await expect(
      evaluateAllPairs(
        vectors,
        labels.map((_, i) => i),
      ),
    ).rejects.toThrow(/pairs of one person/);
    await expect(evaluateAllPairs({ data: new Float32Array(0), count: 0, dimensions: 3 }, [])).rejects.toMatchObject({
      code: 'input',
    });
    await expect(evaluateAllPairs(vectors, labels, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'aborted',
    });
    await expect(
      evaluateAllPairs(vectors, labels, { rows: () => new Float64Array(400).fill(Number.NaN) }),
    ).rejects.toThrow(/between rows 0 and 1/);
    await expect(evaluateAllPairs(vectors, labels, { rows: () => [] })).rejects.toMatchObject({ code: 'internal' });
    vectors.data[33] = Number.NaN;
    await expect(evaluateAllPairs(vectors, labels)).rejects.toMatchObject({ code: 'input', index: 2 });
  });

  test('five splits share no person, and give the mean with its standard error', async () => {
    const { vectors, labels } = people(200, 30, 8);
    const found = await splitEvaluation(vectors, labels, { far: 0.01 });
    expect(found.splits).toHaveLength(5);
    expect(found.splits.reduce((sum, { images }) => sum + images, 0)).toBe(200);
    expect(found.splits.reduce((sum, split) => sum + split.people, 0)).toBe(30);
    const sizes = found.splits.map(({ images }) => images);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThan(12);
    expect(found.mean).toBe(summarise(found.splits.map(({ val }) => val)).mean);
    expect(found.standardError).toBeGreaterThan(0);
    expect(await splitEvaluation(vectors, labels, { far: 0.01 })).toEqual(found);
    const byImages = await splitEvaluation(vectors, labels, { far: 0.01, by: 'images' });
    expect(byImages.splits.map(({ images }) => images)).toEqual([40, 40, 40, 40, 40]);
    expect(byImages.splits.reduce((sum, split) => sum + split.people, 0)).toBeGreaterThan(30);
    await expect(splitEvaluation(vectors, labels, { splits: 1 })).rejects.toThrow(/splits/);
  });
});

const shared = process.env.FACENET_SHARED ?? '../shared';
const embeddings = join(shared, 'data/embeddings');
if (!existsSync(embeddings))
  console.warn(
    `SKIPPED: the OpenFace embeddings are absent: ${embeddings}. Set FACENET_SHARED to the folder that holds data/embeddings.`,
  );
describe.skipIf(!existsSync(embeddings))('OpenFace embeddings of LFW images', () => {
  const file = existsSync(embeddings)
    ? readFileSync(join(embeddings, 'openface-nn4.small2.v1-lfw.safetensors'))
    : Buffer.alloc(8);
  const start = 8 + Number(file.readBigUInt64LE(0));

  test('VAL at FAR and AUC are those of their README', async () => {
    const header = JSON.parse(file.toString('utf8', 8, start)) as {
      embeddings: { shape: [number, number]; data_offsets: [number, number] };
    };
    const [count, dimensions] = header.embeddings.shape;
    const data = new Float32Array(
      file.buffer.slice(
        file.byteOffset + start + header.embeddings.data_offsets[0],
        file.byteOffset + start + header.embeddings.data_offsets[1],
      ),
    );
    const labels = readFileSync(join(embeddings, 'labels.csv'), 'utf8')
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.split(',')[1]!);
    const pairs = everyPair({ data, count, dimensions }, labels);
    expect([pairs.same.length, pairs.different.length]).toEqual([4251, 352_339]);
    const stated = [
      [0.1, 35_233, 1.170027857, 0.928017],
      [0.01, 3523, 0.740112511, 0.665961],
      [0.001, 352, 0.503380967, 0.348389],
      [0.0001, 35, 0.360612486, 0.150788],
    ] as const;
    for (const [far, k, d, val] of stated) {
      // The README takes the k-th smallest distance itself for the threshold.
      const threshold = pairs.different[k - 1]!;
      expect(threshold.toFixed(9)).toBe(d.toFixed(9));
      expect(validationRate(pairs, threshold).toFixed(6)).toBe(val.toFixed(6));
      const rates = valAtFar(pairs, far);
      expect(rates.falseAccepts).toBe(k);
      expect(rates.thresholdFrom).toBeGreaterThanOrEqual(threshold);
    }
    expect(areaUnderRoc(pairs).toFixed(4)).toBe('0.9722');
    const streamed = await evaluateAllPairs({ data, count, dimensions }, labels, {
      fars: stated.map(([far]) => far),
      intervals: false,
    });
    streamed.valAtFar.forEach((rates) => expect(rates).toMatchObject({ ...valAtFar(pairs, rates.targetFar) }));
    expect(streamed.areaUnderRoc).toBe(areaUnderRoc(pairs));
    expect(streamed.equalErrorRate).toBe(equalErrorRate(pairs));
  });
});

describe('lists of pairs', () => {
  const random = new Philox(12);
  const list = Array.from({ length: 200 }, (_, i) => {
    const same = i % 2 === 0;
    return {
      distance: (same ? 0.3 : 0.9) + random.uniform() * 0.8,
      same,
      group: i % 3 === 0 ? '__proto__' : 'adults',
      people: (same ? [`p${i % 20}`, `p${i % 20}`] : [`p${i % 20}`, `p${(i + 3) % 20}`]) as [string, string],
    };
  });
  const distances = (same: boolean) => list.filter((pair) => pair.same === same).map(({ distance }) => distance);

  test('one report of everything', () => {
    const report = evaluatePairs(list, { fars: [0.1, 0.001], source: 'a test', replicates: 100 });
    const pairs = pairDistances(distances(true), distances(false));
    expect(report.auc).toBe(areaUnderRoc(pairs));
    expect(report.eer).toBe(equalErrorRate(pairs));
    expect(report.valAtFar[0]).toMatchObject({
      val: valAtFar(pairs, 0.1).val,
      threshold: valAtFar(pairs, 0.1).threshold,
      pairs: 200,
      targetFar: 0.1,
    });
    expect(report.valAtFar[0]!.source).toMatch(/^a test; .*bootstrap/);
    const [low, high] = report.valAtFar[0]!.valInterval!;
    expect(low <= report.valAtFar[0]!.val && report.valAtFar[0]!.val <= high).toBe(true);
    expect(report.notes).toEqual(['target FAR 0.001 is below the resolution 0.01']);
    expect(report.foldResults.folds).toHaveLength(10);
    expect(report.foldResults.folds.every(({ pairsTested }) => pairsTested === 20)).toBe(true);
    expect(report.accuracy).toBe(report.foldResults.mean);
    expect(Object.keys(report.groups).sort()).toEqual(['__proto__', 'adults']);
    expect(JSON.parse(JSON.stringify(report)).groups.adults).toHaveLength(2);
  });

  test('pairs without people have Clopper-Pearson intervals and no interval of VAL', () => {
    const report = evaluatePairs(
      list.map(({ people: _, ...pair }) => pair),
      { fars: [0.1] },
    );
    expect(report.valAtFar[0]!.valInterval).toBeNull();
    expect(report.valAtFar[0]!.farInterval).toEqual(clopperPearson(report.valAtFar[0]!.far * 100, 100));
  });

  test('EV-05: nothing readable shows the first path and the pattern', () => {
    const gone = list.map((pair) => ({ ...pair, distance: null, path: 'x/x_0001.png' }));
    expect(() => evaluatePairs(gone, { pattern: 'name/name_0001.jpg' })).toThrow(
      /0 of 200; the first path tried was x\/x_0001.png, expected name\/name_0001.jpg/,
    );
    expect(() => evaluatePairs([])).toThrow(/0 of 0/);
  });

  test('named folds stay; missing pairs are counted', () => {
    const folded = list.map((pair, i) => ({ ...pair, fold: i % 4, distance: i === 6 ? null : pair.distance }));
    const report = evaluatePairs(folded, { fars: [0.1], replicates: 20 });
    expect(report.skipped).toBe(1);
    expect(report.foldResults.folds.map(({ pairsTested }) => pairsTested)).toEqual([50, 50, 49, 50]);
    expect(report.notes[0]).toBe('1 of 200 pairs skipped, fold 2');
    expect(() => evaluatePairs([{ ...folded[0]! }, { distance: 1, same: false }])).toThrow(/1 of 2/);
    expect(() => evaluatePairs(folded.map((pair) => ({ ...pair, fold: 0.5 })))).toThrow(/whole numbers/);
  });

  test('groups are counted at the common threshold', () => {
    const reports = groupReports(
      [
        { distance: 0.2, same: true, group: 'a' },
        { distance: 0.9, same: true, group: 'a' },
        { distance: 0.4, same: false, group: 'a' },
        { distance: 1, same: false, group: 'a' },
        { distance: 0.1, same: true, group: 'b' },
      ],
      0.5,
      [0.5],
    );
    expect(reports.get('a')).toMatchObject({
      samePairs: 2,
      differentPairs: 2,
      val: 0.5,
      far: 0.5,
      points: [{ val: 1, far: 0.5 }],
    });
    expect(reports.get('b')).toMatchObject({ val: 1, far: null, farInterval: null, points: [] });
  });
});

describe('operating points', () => {
  const pairs = pairDistances(ev01.same, ev01.different);

  test('calibrate fits the threshold and states the interval and its kind', () => {
    const point = calibrate(pairs, { far: 0.2, source: 'EV-01' });
    expect(point).toMatchObject({ threshold: 0.75, far: 0.2, val: 0.875, pairs: 18, targetFar: 0.2 });
    expect(point.farInterval).toEqual(clopperPearson(2, 10));
    expect(point.source).toMatch(/EV-01; .*Clopper-Pearson/);
    expect(calibrate(pairs, { far: 0.01, source: '' }).note).toMatch(/below the resolution 0.1/);
    for (const far of [0, 1, Number.NaN]) expect(() => calibrate(pairs, { far, source: '' })).toThrow(/FAR/);
  });

  test('decisions are taken at the point of the FAR asked for, never a looser one', () => {
    const points = [0.5, 0.1, 0.2].map((far) => calibrate(pairs, { far, source: '' }));
    expect(pointFor({ far: 0.2 }, points).targetFar).toBe(0.2);
    expect(pointFor({ far: 0.3 }, points).targetFar).toBe(0.2);
    expect(pointFor({ far: 0.5 }, points).targetFar).toBe(0.5);
    for (const far of [0.05, 0.6, Number.NaN])
      expect(() => pointFor({ far }, points)).toThrow(expect.objectContaining({ code: 'not-calibrated' }));
    expect(() => pointFor({}, points)).toThrow(/0.001/);
    expect(() => pointFor({}, [])).toThrow(expect.objectContaining({ code: 'not-calibrated' }));
    expect(decide(0.75, pointFor({ far: 0.2 }, points)).same).toBe(true);
    expect(decide(0.7500001, pointFor({ far: 0.2 }, points)).same).toBe(false);
    expect(() => decide(Number.NaN, points[0]!)).toThrow(/finite/);
  });

  test('a threshold of the user has bounds, or says that nothing is known', () => {
    const points = [calibrate(pairs, { far: 0.2, source: 'EV-01' })];
    expect(pointFor({ threshold: 0.5 }, points)).toMatchObject({
      threshold: 0.5,
      far: 0.2,
      farInterval: [0, points[0]!.farInterval[1]],
    });
    expect(pointFor({ threshold: 0.75 }, points)).toBe(points[0]);
    expect(pointFor({ threshold: 1.1 }, points)).toMatchObject({
      far: 1,
      farInterval: [0, 1],
      source: expect.stringMatching(/^not calibrated/),
    });
    for (const threshold of [-0.1, 4.1, Number.NaN]) expect(() => pointFor({ threshold }, points)).toThrow(/0 to 4/);
  });

  test('points read back from metadata are checked', () => {
    const point = calibrate(pairs, { far: 0.01, source: 'x' });
    expect(checkedOperatingPoint(JSON.parse(JSON.stringify(point)))).toEqual(point);
    const bad: Partial<Record<keyof OperatingPoint, unknown>>[] = [
      { threshold: 'x' },
      { threshold: 5 },
      { far: 2 },
      { farInterval: [0] },
      { val: null },
      { pairs: -1 },
      { source: 3 },
      { targetFar: 'a' },
    ];
    for (const change of bad)
      expect(() => checkedOperatingPoint({ ...point, ...change }), JSON.stringify(change)).toThrow(
        expect.objectContaining({ code: 'model' }),
      );
    expect(() => checkedOperatingPoint(null)).toThrow(/operating point/);
  });
});

describe('clusters against people', () => {
  test('B-cubed by its definition', () => {
    const groups = [0, 0, 0, 1, 1, 2, -1, -1];
    const labels = ['a', 'a', 'b', 'b', 'b', 'a', 'c', 'c'];
    let precision = 0;
    let recall = 0;
    groups.forEach((group, i) => {
      const mates = groups.map((_, j) => j).filter((j) => i === j || (group >= 0 && groups[j] === group));
      const kin = labels.map((_, j) => j).filter((j) => labels[j] === labels[i]);
      const both = mates.filter((j) => kin.includes(j)).length;
      precision += both / mates.length / 8;
      recall += both / kin.length / 8;
    });
    const found = bCubed(groups, labels);
    expect(found.precision).toBeCloseTo(precision, 12);
    expect(found.recall).toBeCloseTo(recall, 12);
    expect(found.f).toBeCloseTo((2 * precision * recall) / (precision + recall), 12);
    expect(bCubed([0, 0, 1], ['a', 'a', 'b'])).toEqual({ precision: 1, recall: 1, f: 1 });
  });

  test('NMI: worked values', () => {
    expect(normalisedMutualInformation([0, 0, 1, 1], ['a', 'a', 'b', 'b'])).toBeCloseTo(1, 12);
    expect(normalisedMutualInformation([0, 1, 0, 1], ['a', 'a', 'b', 'b'])).toBeCloseTo(0, 12);
    expect(normalisedMutualInformation([0, 0], ['a', 'a'])).toBe(1);
    // I = ln 2 / ... : groups {2, 2} against labels {2, 1, 1}: I = ln 2, H = ln 2 and 1.5 ln 2.
    expect(normalisedMutualInformation([0, 0, 1, 1], ['a', 'a', 'b', 'c'])).toBeCloseTo(2 / 2.5, 12);
    expect(() => bCubed([], [])).toThrow(/at least one/);
    expect(() => normalisedMutualInformation([0], ['a', 'b'])).toThrow(/1 and 2/);
  });
});
