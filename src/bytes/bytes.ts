/** A byte buffer that is not shared memory, as the native calls of both runtimes want it. */
export type Bytes = Uint8Array<ArrayBuffer>;
