/**
 * "Did you mean": finds the nearest of a set of words.
 *
 * @module
 */

/** The word nearest to `given`, if it is close enough to be a typo. */
export function nearest(given: string, words: Iterable<string>): string | undefined {
  let best: string | undefined;
  // A third of the letters may be wrong, at most three.
  let least = Math.min(3, Math.max(1, Math.floor(given.length / 3))) + 1;
  for (const word of words) {
    const far = distance(given.toLowerCase(), word.toLowerCase());
    if (far < least) [best, least] = [word, far];
  }
  return best;
}

/** ` Did you mean WORD?`, or nothing. */
export function didYouMean(given: string, words: Iterable<string>): string {
  const word = nearest(given, words);
  return word === undefined ? "" : ` Did you mean ${word}?`;
}

/** Letters to insert, delete, replace or swap with their neighbour (optimal string alignment). */
function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 3) return 4;
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (before[j - 2] ?? 0) + 1);
      }
      next.push(cost);
    }
    [before, row] = [row, next];
  }
  return row[b.length] ?? 0;
}
