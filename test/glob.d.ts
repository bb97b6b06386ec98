/** Modules found by pattern; done by vitest and by test/bundle.mjs. */
interface ImportMeta {
  glob<Module>(pattern: string, options: { eager: true }): Record<string, Module>;
}
