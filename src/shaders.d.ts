/** Text of every file in shaders/, by stem. Made by the bundler from the folder's contents. */
declare module 'facenet-gpu:shaders' {
  export const shaders: Readonly<Record<string, string>>;
}

declare module 'facenet-gpu:late-shaders' {
  export const shaders: Readonly<Record<string, string>>;
}
