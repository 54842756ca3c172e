/**
 * The edge's SniTun transport.
 *
 * @module
 */
import { headerLibrary } from "../../crypto/header_cipher.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";
import { SendScratch } from "../../protocol/mux/snitun/sender.ts";
import { TOKEN_FIRST_BYTE } from "../../protocol/token/token_reader.ts";
import type { EdgeTransport } from "../edge_transport.ts";
import { acceptSnitun } from "./accept.ts";
import { SNITUN, type SnitunShared } from "./session.ts";

/** Options of {@link snitunTransport}. */
export interface SnitunTransportOptions {
  /** SniTun's queue limits. Defaults to the reference implementation's. */
  readonly queueLimits?: QueueLimits;
  /** Frames of 8 KiB or more that an agent may send per second; 0 or absent for no limit. */
  readonly throttling?: number;
}

/** Accepts agents over SniTun over TCP, Sallyport's and the reference's. */
export function snitunTransport(options: SnitunTransportOptions = {}): EdgeTransport {
  let shared: SnitunShared | undefined;
  const { queueLimits, throttling: largeFramesPerSecond } = options;
  return {
    name: SNITUN,
    takes: (firstByte) => firstByte === TOKEN_FIRST_BYTE,
    accept: (connection, { runtime, admission }) => {
      shared ??= {
        ...{ clock: runtime.clock, queueLimits, largeFramesPerSecond },
        scratch: new SendScratch(runtime.memory),
        library: headerLibrary(runtime.systemCiphers()),
      };
      acceptSnitun(connection, shared, admission);
    },
  };
}
