/**
 * The edge's sealed transport.
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

/** Options of {@link sealedTransport}. */
export interface SealedTransportOptions {
  /** libsodium, from {@link loadSodium}. */
  readonly sodium: Sodium;
  /** The edge's long-term key; agents pin its public half. */
  readonly keys: KeyPair;
  /** Queue limits of its sessions. Defaults apply when absent. */
  readonly queueLimits?: QueueLimits;
  /** Handles connections to a port dedicated to sealed agents that aren't from one: transfers of version 1. */
  readonly fallback?: FallbackProtocol;
}

/** Accepts agents over the sealed transport, over TCP. */
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
