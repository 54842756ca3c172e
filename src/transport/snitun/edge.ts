/**
 * SniTun as an edge has it.
 *
 * @module
 */
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";
import { SendScratch } from "../../protocol/mux/snitun/sender.ts";
import { TOKEN_FIRST_BYTE } from "../../protocol/token/token_reader.ts";
import type { EdgeTransport } from "../edge_transport.ts";
import { acceptSnitun } from "./accept.ts";
import { SNITUN } from "./session.ts";

/** What {@link snitunTransport} takes. */
export interface SnitunTransportOptions {
  /** SniTun's queue figures; the reference's when absent. */
  readonly queueLimits?: QueueLimits;
  /** Frames of 8 KiB or more that an agent may send a second; 0 or absent for no limit. */
  readonly throttling?: number;
}

/** Lets agents in by SniTun over TCP, ours and the reference's. */
export function snitunTransport(options: SnitunTransportOptions = {}): EdgeTransport {
  let scratch: SendScratch | undefined;
  const { queueLimits, throttling: largeFramesPerSecond } = options;
  return {
    name: SNITUN,
    takes: (firstByte) => firstByte === TOKEN_FIRST_BYTE,
    accept: (connection, { runtime, admission }) => {
      scratch ??= new SendScratch(runtime.memory);
      const shared = { clock: runtime.clock, scratch, queueLimits, largeFramesPerSecond };
      acceptSnitun(connection, shared, admission);
    },
  };
}
