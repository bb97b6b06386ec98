// How often test/gpu-crash.browser.ts crashes the GPU process, and whether in training too, which compiles for a minute: in the slow tier.
const all = process.env.FACENET_TIER === 'all';
export const expected = async (): Promise<{ crashes: number; training: boolean }> => ({
  crashes: all ? 20 : 2,
  training: all,
});
