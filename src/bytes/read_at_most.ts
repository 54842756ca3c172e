import { type Bytes, concat } from "./bytes.ts";

/** Reads a stream to its end; undefined if it has more than `maxBytes`. The caller then cancels the reader. */
export async function readAtMost(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  maxBytes: number,
): Promise<Bytes | undefined> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return concat(chunks);
    size += value.length;
    if (size > maxBytes) return undefined;
    chunks.push(value);
  }
}
