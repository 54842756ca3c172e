/**
 * Join links: where an agent enrols, and its single-use code: `https://master.example.org/#CODE`.
 *
 * @module
 */

/** A link's parts. */
export interface JoinLink {
  /** The session master's base URL, without a slash at its end. */
  readonly master: string;
  readonly code: string;
}

/** Writes a link. */
export function formatJoinLink({ master, code }: JoinLink): string {
  return `${master.replace(/\/+$/, "")}/#${code}`;
}

/** Reads a link; undefined for malformed text. */
export function parseJoinLink(text: string): JoinLink | undefined {
  const [place = "", code = "", ...more] = text.split("#");
  if (more.length > 0 || !/^[\w-]{16,128}$/.test(code) || !URL.canParse(place)) return undefined;
  const url = new URL(place);
  if ((url.protocol !== "https:" && url.protocol !== "http:") || url.search !== "" || url.username !== "") {
    return undefined;
  }
  return { master: `${url.origin}${url.pathname}`.replace(/\/+$/, ""), code };
}
