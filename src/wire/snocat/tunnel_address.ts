/**
 * Addresses inside a tunnel: segments in text, `/proxy-tcp/tcp/80` (docs/protocols/snocat.md, Addresses).
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";

/**
 * The segments of an address. Empty text has none; otherwise `/` precedes each segment, which may be empty. `\/` and
 * `\\` are escapes for `/` and `\`; there are no others. Throws `address_invalid`.
 *
 * @example
 * ```ts
 * parseTunnelAddress("/proxy-tcp/tcp/80"); // ["proxy-tcp", "tcp", "80"]
 * parseTunnelAddress("/"); // [""]
 * parseTunnelAddress(""); // []
 * ```
 */
export function parseTunnelAddress(text: string): string[] {
  if (text === "") return [];
  if (!text.startsWith("/")) throw invalid("it doesn't start with /");
  const segments: string[] = [];
  let segment = "";
  for (let i = 1; i < text.length; i++) {
    const character = text[i]!;
    if (character === "/") {
      segments.push(segment);
      segment = "";
    } else if (character === "\\") {
      const escaped = text[++i];
      if (escaped !== "/" && escaped !== "\\") {
        throw invalid("a backslash stands before something other than / and \\");
      }
      segment += escaped;
    } else segment += character;
  }
  segments.push(segment);
  return segments;
}

/** The text of an address, which {@link parseTunnelAddress} parses back into the same segments. */
export function formatTunnelAddress(segments: readonly string[]): string {
  return segments.map((segment) => "/" + segment.replace(/[/\\]/g, "\\$&")).join("");
}

function invalid(why: string): SallyportError {
  return new SallyportError("address_invalid", `Cannot parse tunnel address: ${why}`, { side: "peer" });
}
