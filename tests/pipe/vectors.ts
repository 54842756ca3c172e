/**
 * The sessions that were recorded with the C programs (`tests/vectors/sodium-tcp.json`), as types.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Bytes } from "../../src/bytes/bytes.ts";

/** A recorded session; every string of bytes is hex. */
export interface RecordedSession {
  readonly client: string;
  readonly client_secret: string | null;
  readonly client_public: string;
  readonly login: string;
  readonly passphrase: string;
  readonly auth: { readonly plain: string; readonly wire: string };
  readonly helo: { readonly plain: string; readonly wire: string };
  readonly client_rx_key: string;
  readonly client_tx_key: string;
  readonly pdus: readonly {
    readonly sender: "client" | "server";
    readonly type: number;
    readonly body: string;
    readonly wire: string;
  }[];
  readonly sink: string;
}

/** The whole file. */
export interface Recorded {
  readonly server_secret: string;
  readonly server_public: string;
  readonly sessions: readonly [RecordedSession, RecordedSession];
}

/** Reads the recorded sessions. */
export async function readRecorded(): Promise<Recorded> {
  const here = dirname(fileURLToPath(import.meta.url));
  return JSON.parse(await readFile(join(here, "../vectors/sodium-tcp.json"), "utf8")) as Recorded;
}

/** Bytes from hex. */
export function hex(text: string): Bytes {
  return new Uint8Array((text.match(/../g) ?? []).map((byte) => parseInt(byte, 16)));
}

/** Hex of bytes. */
export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
