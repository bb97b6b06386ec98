import { type EmbeddingsFile, readEmbeddings, readEmbeddingsCsv, readEmbeddingsNpy } from '../io/embeddings-file.ts';
import { readWholeFile } from '../io/node/image-files.ts';

/** Embeddings of a file by its ending: .safetensors, .npy or else .csv, with the JSON beside it. @throws 'input' for one that cannot be read. */
export async function embeddingsIn(path: string, limit: number): Promise<EmbeddingsFile> {
  const bytes = await readWholeFile(path, path, limit);
  const beside = async (): Promise<string | undefined> => {
    const json = await readWholeFile(`${path}.json`, `${path}.json`, limit).catch(() => undefined);
    return json && new TextDecoder().decode(json);
  };
  return /\.safetensors$/i.test(path)
    ? readEmbeddings(bytes, path)
    : /\.npy$/i.test(path)
      ? readEmbeddingsNpy(bytes, await beside(), path)
      : readEmbeddingsCsv(new TextDecoder().decode(bytes), await beside(), path);
}
