import { expect, test } from 'vitest';
test('x', async () => { const {create} = await import('webgpu'); const gpu = create([]); const a = await gpu.requestAdapter(); expect(a?.info.isFallbackAdapter).toBe(true); console.log(a?.info.vendor, a?.info.architecture) ; });
