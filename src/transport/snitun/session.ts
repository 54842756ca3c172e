/**
 * The session of SniTun over TCP, at both ends.
 *
 * @module
 */
import type { CipherName, HeaderLibrary } from "../../crypto/header_cipher.ts";
import { type MuxOptions, MuxSession } from "../../protocol/mux/snitun/session.ts";
import type { SendScratch } from "../../protocol/mux/snitun/sender.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";
import type { Clock, Conn } from "../../runtime/port.ts";
import { ConnSession } from "../conn_session.ts";

/** The transport's name in logs and metrics. */
export const SNITUN = "snitun";

/** State shared by the sessions of one edge or agent. */
export interface SnitunShared {
  readonly clock: Clock;
  readonly scratch: SendScratch;
  /** Ciphers used instead of node:crypto's. */
  readonly library?: HeaderLibrary;
  readonly queueLimits?: QueueLimits;
  readonly receiveBudgetBytes?: number;
  readonly largeFramesPerSecond?: number;
}

/** A session on a connection whose challenge has been answered. */
export function snitunSession(
  options: SnitunShared,
  conn: Conn,
  cipher: CipherName,
  own: Pick<MuxOptions, "role" | "protocolVersion" | "sealer" | "opener">,
): ConnSession {
  const { clock, scratch, queueLimits, receiveBudgetBytes, largeFramesPerSecond } = options;
  const shared = { scratch, queueLimits, receiveBudgetBytes, largeFramesPerSecond };
  const mux = (host: MuxOptions["host"]) => new MuxSession({ ...shared, ...own, host });
  return new ConnSession({ transport: SNITUN, cipher, halfClose: false, conn, clock, mux });
}
