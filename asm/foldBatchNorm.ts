// foldBatchNorm: CPU twin of shaders/foldBatchNorm.wgsl. Runs once a model; thread 0 does it all.

// @ts-ignore: decorator
@inline
function factor(variance: usize, gamma: usize, at: usize, epsilon: f32): f32 {
  return (gamma ? load<f32>(gamma + at) : <f32>1.0) / sqrt<f32>(load<f32>(variance + at) + epsilon);
}

export function foldBatchNormFoldedWeight(
  weight: usize, variance: usize, gamma: usize, y: usize, rows: u32, columns: u32, epsilon: f32, thread: u32, threads: u32,
): void {
  if (thread != 0) return;
  for (let r: u32 = 0; r < rows; r++) {
    for (let c: u32 = 0; c < columns; c++) {
      const at = <usize>c << 2;
      store<f32>(y + at, load<f32>(weight + at) * factor(variance, gamma, at, epsilon));
    }
    weight += <usize>columns << 2;
    y += <usize>columns << 2;
  }
}

export function foldBatchNormFoldedBias(
  mean: usize, variance: usize, bias: usize, gamma: usize, beta: usize, y: usize, columns: u32, epsilon: f32, thread: u32, threads: u32,
): void {
  if (thread != 0) return;
  for (let c: u32 = 0; c < columns; c++) {
    const at = <usize>c << 2;
    const centred: f32 = (bias ? load<f32>(bias + at) : <f32>0.0) - load<f32>(mean + at);
    store<f32>(y + at, centred * factor(variance, gamma, at, epsilon) + (beta ? load<f32>(beta + at) : <f32>0.0));
  }
}
