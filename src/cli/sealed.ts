/**
 * Sets up the sealed and curve transports for the edge's commands; both identify the edge by the same key.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Config } from "../config/config.ts";
import { type KeyPair, loadSodium, type Sodium } from "../crypto/sodium.ts";
import { errorMessage } from "../errors.ts";
import { nativeCodePermitted } from "../runtime/deno/permissions.ts";
import type { CliIo } from "./io.ts";
import type { FoundKey, Keys } from "./keys.ts";
import { isSingleFile } from "./single_file.ts";

/** An edge's key for sealed agents. */
export interface SealedPart {
  readonly sodium: Sodium;
  readonly found: FoundKey<KeyPair>;
}

/**
 * Loads libsodium and the edge's key. Without libsodium the edge runs without sealed agents, unless they have a
 * separate listener.
 */
export async function findSealed(
  keys: Keys,
  config: Pick<Config, "sealedListen" | "curveListen" | "libsodium">,
  io: CliIo,
): Promise<SealedPart | undefined> {
  let sodium;
  try {
    sodium = await loadSodium(libsodiumBuild(config.libsodium), {
      warn: (message) => io.err(`Warning: ${message}`),
    });
  } catch (error) {
    if (config.sealedListen.length + config.curveListen.length > 0) throw error;
    io.err(`Warning: no sealed transport: ${errorMessage(error)}`);
    return undefined;
  }
  const found = await keys.edge(sodium);
  return { sodium, found };
}

/**
 * The build of libsodium to load: WebAssembly, without a permission prompt, if any is accepted and native code isn't
 * permitted, or isn't in the single file that the program is.
 */
export function libsodiumBuild(set: Config["libsodium"] = "any"): "native" | "wasm" | undefined {
  if (set !== "any") return set;
  return nativeCodePermitted() && !isSingleFile() ? undefined : "wasm";
}

/** The edge's public key for a start message. */
export function sealedFacts(part: SealedPart | undefined): (readonly [string, string])[] {
  if (part === undefined) return [];
  const slower = "as WebAssembly, slower: native code isn't permitted or can't be loaded";
  return [
    ["edge's public key", Buffer.from(part.found.value.publicKey).toString("base64url")],
    ...part.sodium.name === "wasm" ? [["libsodium", slower] as const] : [],
  ];
}
