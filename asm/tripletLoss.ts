// tripletLoss: CPU twin of shaders/tripletLoss.wgsl. Threads split the anchors; an anchor's sums run over ascending pairs.
import { exp4 } from './exponential';
import { first, last } from './vector';

const EVERY_NEGATIVE: i32 = -3;
const EVERY_SEMI_HARD: i32 = -4;

/** ln(1 + e) for 0 <= e <= 1 by 2 atanh(e / (2 + e)); the terms left out are below 2^-26 of it. */
function logOnePlus(e: f32): f32 {
  const t: f32 = e / (<f32>2.0 + e), q: f32 = t * t;
  return <f32>2.0 * t * (<f32>1.0 + q * (<f32>(1.0 / 3.0) + q * (<f32>0.2 + q * (<f32>(1.0 / 7.0) + q * (<f32>(1.0 / 9.0)
    + q * (<f32>(1.0 / 11.0) + q * <f32>(1.0 / 13.0)))))));
}

// @ts-ignore: decorator
@inline
function exponential(x: f32): f32 {
  return f32x4.extract_lane(exp4(f32x4.splat(x)), 0);
}

function termLoss(positive: f32, negative: f32, margin: f32, softMargin: u32, scale: f32): f32 {
  if (!softMargin) return max<f32>(positive - negative + margin, 0);
  const z: f32 = scale * (positive - negative);
  return max<f32>(z, 0) + logOnePlus(exponential(-abs<f32>(z)));
}

/** Derivative of termLoss by the positive distance; by the negative one it is the same with the other sign. */
function slope(positive: f32, negative: f32, margin: f32, softMargin: u32, scale: f32): f32 {
  if (!softMargin) return positive - negative + margin > 0 ? <f32>1.0 : <f32>0.0;
  const z: f32 = scale * (positive - negative), e: f32 = exponential(-abs<f32>(z));
  return scale * (z >= 0 ? <f32>1.0 : e) / (<f32>1.0 + e);
}

/** Whether a code for more than one negative stands for this one. */
// @ts-ignore: decorator
@inline
function isChosen(code: i32, positive: f32, negative: f32, margin: f32): bool {
  return code == EVERY_NEGATIVE || (code == EVERY_SEMI_HARD && negative > positive && negative < positive + margin);
}

/** perAnchor[a] = loss, triplets, active, pairs, distances of its pairs, distances to strangers, number of strangers, 0. */
export function tripletLossAnchors(
  distances: usize, labels: usize, choice: usize, perAnchor: usize, count: u32, margin: f32, softMargin: u32, scale: f32,
  thread: u32, threads: u32,
): void {
  const end = last(count, thread, threads);
  for (let a = first(count, thread, threads); a < end; a++) {
    const row = distances + ((<usize>a * count) << 2), codes = choice + ((<usize>a * count) << 2);
    const label = load<i32>(labels + (<usize>a << 2));
    let loss: f32 = 0, triplets: f32 = 0, active: f32 = 0, pairs: f32 = 0, near: f32 = 0, far: f32 = 0, strangers: f32 = 0;
    for (let p: u32 = 0; p < count; p++) {
      const positive: f32 = load<f32>(row + (<usize>p << 2));
      if (load<i32>(labels + (<usize>p << 2)) != label) {
        far += positive;
        strangers += 1;
        continue;
      }
      if (p == a) continue;
      pairs += 1;
      near += positive;
      const code = load<i32>(codes + (<usize>p << 2));
      if (code >= 0) {
        const term: f32 = termLoss(positive, load<f32>(row + (<usize>code << 2)), margin, softMargin, scale);
        loss += term;
        triplets += 1;
        if (term > 0) active += 1;
      } else if (code <= EVERY_NEGATIVE) {
        for (let n: u32 = 0; n < count; n++) {
          const negative: f32 = load<f32>(row + (<usize>n << 2));
          if (load<i32>(labels + (<usize>n << 2)) == label || !isChosen(code, positive, negative, margin)) continue;
          const term: f32 = termLoss(positive, negative, margin, softMargin, scale);
          loss += term;
          triplets += 1;
          if (term > 0) active += 1;
        }
      }
    }
    const to = perAnchor + (<usize>a << 5);
    v128.store(to, f32x4(loss, triplets, active, pairs));
    v128.store(to, f32x4(near, far, strangers, 0), 16);
  }
}

/** 1 / count; 0 of nothing, so that a mean over no triplets is 0. */
function reciprocal(count: f32): f32 {
  return count > 0 ? <f32>1.0 / count : <f32>0.0;
}

/** Sums over the anchors, in order, then the numbers of the summary. */
export function tripletLossCombine(perAnchor: usize, result: usize, count: u32, reduction: u32, thread: u32, threads: u32): void {
  if (thread > 0) return;
  let losses = f32x4.splat(0), means = losses;
  for (let a: u32 = 0; a < count; a++) {
    losses = f32x4.add(losses, v128.load(perAnchor + (<usize>a << 5)));
    means = f32x4.add(means, v128.load(perAnchor + (<usize>a << 5), 16));
  }
  const triplets: f32 = f32x4.extract_lane(losses, 1), active: f32 = f32x4.extract_lane(losses, 2), pairs: f32 = f32x4.extract_lane(losses, 3);
  const strangers: f32 = f32x4.extract_lane(means, 2);
  const factor: f32 = reduction == 0 ? <f32>1.0 : reciprocal(reduction == 1 ? triplets : active);
  v128.store(result, f32x4(f32x4.extract_lane(losses, 0) * factor, triplets, active, pairs));
  v128.store(result, f32x4(f32x4.extract_lane(means, 0) * reciprocal(pairs), f32x4.extract_lane(means, 1) * reciprocal(strangers), factor, strangers), 16);
}

export function tripletLossForward(summary: usize, result: usize, thread: u32, threads: u32): void {
  if (thread == 0) store<f32>(result, load<f32>(summary));
}

/** ddistances[a, p] = factor * dy * sum of slopes of the triplets with this pair; [a, n] minus that of those with this negative. */
export function tripletLossDistanceGradient(
  distances: usize, labels: usize, choice: usize, summary: usize, dy: usize, ddistances: usize,
  count: u32, margin: f32, softMargin: u32, scale: f32, thread: u32, threads: u32,
): void {
  const factor: f32 = load<f32>(dy) * load<f32>(summary, 24);
  const end = last(count, thread, threads);
  for (let a = first(count, thread, threads); a < end; a++) {
    const row = distances + ((<usize>a * count) << 2), codes = choice + ((<usize>a * count) << 2);
    const result = ddistances + ((<usize>a * count) << 2);
    const label = load<i32>(labels + (<usize>a << 2));
    memory.fill(result, 0, <usize>count << 2);
    for (let p: u32 = 0; p < count; p++) {
      if (p == a || load<i32>(labels + (<usize>p << 2)) != label) continue;
      const code = load<i32>(codes + (<usize>p << 2));
      const positive: f32 = load<f32>(row + (<usize>p << 2));
      let sum: f32 = 0;
      if (code >= 0) {
        sum = slope(positive, load<f32>(row + (<usize>code << 2)), margin, softMargin, scale);
        const at = result + (<usize>code << 2);
        store<f32>(at, load<f32>(at) - factor * sum);
      } else if (code <= EVERY_NEGATIVE) {
        for (let n: u32 = 0; n < count; n++) {
          const negative: f32 = load<f32>(row + (<usize>n << 2));
          if (load<i32>(labels + (<usize>n << 2)) == label || !isChosen(code, positive, negative, margin)) continue;
          const weight: f32 = slope(positive, negative, margin, softMargin, scale), at = result + (<usize>n << 2);
          sum += weight;
          store<f32>(at, load<f32>(at) - factor * weight);
        }
      }
      store<f32>(result + (<usize>p << 2), factor * sum);
    }
  }
}
