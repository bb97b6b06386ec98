import type { Profile } from '../facenet-gpu.ts';
import type { Plan } from '../plan/plan.ts';

/** Time per kernel of one batch of a plan: medians of `runs` profiles after one that warms up. */
export async function profilePlan(plan: Plan, batch: number | undefined, runs: number): Promise<Profile> {
  await plan.profile(batch);
  const measured: Awaited<ReturnType<Plan['profile']>>[] = [];
  for (let run = 0; run < runs; run++) measured.push(await plan.profile(batch));
  const { steps, timing } = measured[0] as (typeof measured)[number];
  const layers = steps.map((step, index) => {
    const times = measured.map(({ milliseconds }) => milliseconds[index] as number).sort((x, y) => x - y);
    const bytes = Object.values(step.tensors).reduce(
      (sum, tensor) => sum + (tensor ? tensor.elements * (tensor.dtype === 'u8' ? 1 : 4) : 0),
      0,
    );
    return {
      name: step.label,
      operator: `${step.operator}.${step.kernel}`,
      milliseconds: times[times.length >> 1] as number,
      multiplyAdds: step.multiplyAdds,
      bytes,
    };
  });
  const milliseconds = layers.reduce((sum, layer) => sum + layer.milliseconds, 0);
  const multiplyAdds = layers.reduce((sum, layer) => sum + layer.multiplyAdds, 0);
  return { milliseconds, gflops: (2 * multiplyAdds) / (milliseconds * 1e6), layers, timing };
}
