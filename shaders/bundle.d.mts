import type { Plugin as EsbuildPlugin } from 'esbuild';

export function esbuildShaders(options?: { release?: boolean }): EsbuildPlugin;
export function viteShaders(): { name: string; resolveId(id: string): string | null; load(id: string): string | null };
