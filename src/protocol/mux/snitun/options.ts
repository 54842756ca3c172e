/**
 * Options of a SniTun session.
 *
 * @module
 */
import type { Opener, Role, Sealer } from "../../../crypto/header_cipher.ts";
import type { MuxHost } from "../host.ts";
import type { SendScratch } from "./sender.ts";
import type { QueueLimits } from "../queue_limits.ts";

/** Options of a SniTun session. */
export interface MuxOptions {
  readonly role: Role;
  readonly protocolVersion: 0 | 1 | 2;
  readonly sealer: Sealer;
  readonly opener: Opener;
  readonly host: MuxHost;
  readonly scratch: SendScratch;
  readonly queueLimits?: QueueLimits;
  /** Received bytes that the session may hold; {@link SESSION_RECEIVE_BUDGET_BYTES} when absent. */
  readonly receiveBudgetBytes?: number;
  /** Large frames that the peer may send a second; 0 or absent for no limit. */
  readonly largeFramesPerSecond?: number;
}
