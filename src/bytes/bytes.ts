/** A byte buffer that is not shared memory, as the native calls of both runtimes want it. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** A view of `bytes` from `from` to `to`: the array itself if that is all of it, since each view is an object. */
export function part(bytes: Bytes, from: number, to: number = bytes.length): Bytes {
  return from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to);
}

/** Concatenates the parts, into a new buffer. */
export function concat(parts: readonly Uint8Array[]): Bytes {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Whether `prefix` stands at index `at` of `bytes`. Not for secrets: the time it takes depends on them. */
export function startsWith(bytes: ArrayLike<number>, prefix: ArrayLike<number>, at = 0): boolean {
  for (let index = 0; index < prefix.length; index++) {
    if (bytes[at + index] !== prefix[index]) return false;
  }
  return true;
}

/** Whether two arrays hold the same bytes. Not for secrets: the time it takes depends on them. */
export function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && startsWith(one, other);
}
