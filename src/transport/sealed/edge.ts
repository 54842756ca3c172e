/**
 * The sealed transport as an edge has it.
 *
 * @module
 */
import { chooseAeads } from "../../crypto/aead.ts";
import type { KeyPair, Sodium } from "../../crypto/sodium.ts";
import { AnsweredFlights } from "../../protocol/handshake/sealed_edge.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";
import { mayComeFirst } from "../../wire/sealed/sealed_messages.ts";
import type { EdgeTransport } from "../edge_transport.ts";
import { acceptSealed, type AcceptSealedOptions, type FallbackProtocol } from "./accept.ts";
import { SEALED, SealedScratch } from "./session.ts";

/** What {@link sealedTransport} takes. */
export interface SealedTransportOptions {
  /** libsodium, as {@link loadSodium} gives it. */
  readonly sodium: Sodium;
  /** The edge's long-term key; agents pin its public half. */
  readonly keys: KeyPair;
  /** Queue figures of its sessions; the defaults when absent. */
  readonly queueLimits?: QueueLimits;
  /** Takes what comes to a port for sealed agents alone and isn't one's: transfers of version 1. */
  readonly fallback?: FallbackProtocol;
}

/** Lets agents in by the sealed transport, over TCP. */
export function sealedTransport(options: SealedTransportOptions): EdgeTransport {
  const { fallback, ...identity } = options;
  let shared: Omit<AcceptSealedOptions, "fallback"> | undefined;
  return {
    name: SEALED,
    takes: mayComeFirst,
    accept: (connection, { runtime, admission }) => {
      shared ??= {
        ...identity,
        clock: runtime.clock,
        aeads: chooseAeads(identity.sodium, runtime),
        scratch: new SealedScratch(runtime.memory),
        answered: new AnsweredFlights(),
      };
      acceptSealed(connection, { ...shared, ...connection.alone ? { fallback } : {} }, admission);
    },
    ...fallback === undefined ? {} : { close: (graceMs) => fallback.close(graceMs) },
  };
}
