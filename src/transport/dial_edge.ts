/**
 * Opens the connection to an edge, before the handshake.
 *
 * @module
 */
import { isIP } from "node:net";
import { errorMessage, SallyportError } from "../errors.ts";
import { permitted } from "../runtime/dial_by_name.ts";
import type { Address, AddressJudge, Conn, Runtime } from "../runtime/port.ts";
import type { HandshakeRequest } from "./client_handshake.ts";
import { DIAL_TIMEOUT_MS } from "../runtime/port.ts";

/** The edge to dial, and the options common to every transport. */
export interface DialEdgeOptions extends HandshakeRequest {
  readonly runtime: Runtime;
  /** The edge. */
  readonly host: string;
  readonly port: number;
  /** Which addresses of the host may be dialled. Defaults to all. */
  readonly permits?: AddressJudge | undefined;
}

/** Dials an edge; rejects with `edge_unreachable`, or the signal's reason. */
export function dialEdge(
  { runtime, host, port, permits, signal }: Pick<
    DialEdgeOptions,
    "runtime" | "host" | "port" | "permits" | "signal"
  >,
): Promise<Conn> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(signal?.reason);
    if (signal?.aborted) return giveUp();
    signal?.addEventListener("abort", giveUp, { once: true });
    runtime.dial({ host, port, timeoutMs: DIAL_TIMEOUT_MS, peerSpeaks: true, permits }).then((conn) => {
      signal?.removeEventListener("abort", giveUp);
      if (signal?.aborted) conn.abort();
      else resolve(conn);
    }, (cause) => {
      signal?.removeEventListener("abort", giveUp);
      reject(unreachable({ host, port }, cause));
    });
  });
}

/** The address at which to dial an edge over UDP: the first that is permitted. Rejects with `edge_unreachable`. */
export async function addressOfEdge(
  { runtime, host, port, permits }: Pick<DialEdgeOptions, "runtime" | "host" | "port" | "permits">,
): Promise<string> {
  if (isIP(host) !== 0) return host;
  try {
    return permitted(await runtime.resolve(host), { host, permits })[0]!;
  } catch (cause) {
    throw unreachable({ host, port }, cause);
  }
}

function unreachable({ host, port }: Address, cause: unknown): SallyportError {
  const why = `Cannot reach edge ${host}:${port}: ${errorMessage(cause)}`;
  return new SallyportError("edge_unreachable", why, { side: "network", retryable: true, cause });
}
