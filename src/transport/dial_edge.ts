/**
 * Opens the connection to an edge, before the handshake.
 *
 * @module
 */
import { errorMessage, SallyportError } from "../errors.ts";
import type { Conn, Runtime } from "../runtime/port.ts";
import type { HandshakeRequest } from "./client_handshake.ts";
import { DIAL_TIMEOUT_MS } from "../runtime/port.ts";

/** The edge to dial, and the options common to every transport. */
export interface DialEdgeOptions extends HandshakeRequest {
  readonly runtime: Runtime;
  /** The edge. */
  readonly host: string;
  readonly port: number;
}

/** Dials an edge; rejects with `edge_unreachable`, or the signal's reason. */
export function dialEdge(
  { runtime, host, port, signal }: Pick<DialEdgeOptions, "runtime" | "host" | "port" | "signal">,
): Promise<Conn> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(signal?.reason);
    if (signal?.aborted) return giveUp();
    signal?.addEventListener("abort", giveUp, { once: true });
    runtime.dial({ host, port, timeoutMs: DIAL_TIMEOUT_MS, peerSpeaks: true }).then((conn) => {
      signal?.removeEventListener("abort", giveUp);
      if (signal?.aborted) conn.abort();
      else resolve(conn);
    }, (cause) => {
      signal?.removeEventListener("abort", giveUp);
      const why = `Cannot reach edge ${host}:${port}: ${errorMessage(cause)}`;
      reject(new SallyportError("edge_unreachable", why, { side: "network", retryable: true, cause }));
    });
  });
}
