/**
 * What is fuzzed: a function of bytes, and what must hold of it whatever the bytes are.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";
import { SallyportError } from "../../src/errors.ts";

/** Something that reads bytes of strangers. */
export interface Target {
  readonly name: string;
  /** Valid inputs to begin with. */
  readonly seeds: readonly Bytes[];
  /**
   * Reads an input that comes in these pieces, and says what came of it in a few words; inputs with the same words are
   * taken for the same. May throw a `SallyportError` with a code other than `internal`, and nothing else.
   */
  run(pieces: readonly Bytes[]): string;
  /** The answer may depend on where the input is cut: the protocol says so. */
  readonly cutsMatter?: boolean;
  /** It looks at a whole input alone. */
  readonly whole?: boolean;
}

/** Runs a target; errors that it may throw are part of the answer. Throws what it must not throw. */
export function answerOf(target: Target, pieces: readonly Bytes[]): string {
  try {
    return target.run(pieces);
  } catch (error) {
    if (!(error instanceof SallyportError) || error.code === "internal") throw error;
    return `${error.code}: ${error.message}`;
  }
}

/** The input in pieces, each a copy, so that nothing is kept of a view. */
export function pieces(input: Bytes, places: readonly number[]): Bytes[] {
  const all: Bytes[] = [];
  let from = 0;
  for (const at of [...places, input.length]) {
    if (at > from || (at === input.length && all.length === 0)) all.push(input.slice(from, at));
    from = Math.max(from, at);
  }
  return all;
}

/** An answer without its numbers and names, but with its sentences: inputs that go the same way have the same one. */
export function signatureOf(answer: string): string {
  const plain = answer.replace(/"(?:[^"\\]|\\.)*"/g, (text) => SENTENCE.test(text) ? text : '""');
  return plain.replace(/\d+/g, "0").slice(0, 200);
}

/** Several plain words: an error's, not an input's. */
const SENTENCE = /^"[\w ,.:;'()/-]{12,}"$/;
