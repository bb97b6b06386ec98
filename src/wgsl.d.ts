/** A shader's text. esbuild (`loader: text`) and the plugin in vitest.config.ts provide it. */
declare module '*.wgsl' {
  const source: string;
  export default source;
}
