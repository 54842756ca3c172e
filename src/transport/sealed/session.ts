/**
 * The session of the sealed transport, at both ends: the credit dialect in records.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { MemoryBudget } from "../../bytes/memory_budget.ts";
import type { AeadChoice } from "../../crypto/aead.ts";
import { RandomPool } from "../../crypto/random.ts";
import type { Sodium } from "../../crypto/sodium.ts";
import type { SealedKeys } from "../../protocol/handshake/sealed_keys.ts";
import {
  RecordOpener,
  RecordScratch,
  RecordSealer,
  SEALED_RECORD_MAX_BYTES,
} from "../../protocol/records/sealed_records.ts";
import { CreditScratch } from "../../protocol/mux/credit/sender.ts";
import { CreditSession } from "../../protocol/mux/credit/session.ts";
import type { Clock, Conn } from "../../runtime/port.ts";
import { type ConnCodec, ConnSession } from "../conn_session.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";

/** The transport's name in logs and metrics. */
export const SEALED = "sealed";

/** Working memory shared by all sealed sessions of an edge or an agent. */
export class SealedScratch {
  readonly frames: CreditScratch;
  readonly records: RecordScratch = new RecordScratch();
  /** For stream marks, pings and padding. */
  readonly random: RandomPool = new RandomPool(4096);

  /** @param memory counts bytes buffered in the sessions. Defaults to no accounting. */
  constructor(memory?: MemoryBudget) {
    this.frames = new CreditScratch(memory);
  }
}

/** State shared by the sessions of one edge or agent. */
export interface SealedShared {
  readonly clock: Clock;
  readonly sodium: Sodium;
  readonly aeads: AeadChoice;
  readonly scratch: SealedScratch;
  readonly queueLimits?: QueueLimits;
  readonly receiveBudgetBytes?: number;
}

/** The records of both directions of a connection, and the session inside. */
export interface SealedRecords {
  readonly sealer: RecordSealer;
  readonly opener: RecordOpener;
  /** The channel binding of the login's proof. */
  readonly channel: Bytes;
  /** The records as a session's codec, once the peer is admitted: they may have the full length from now on. */
  codec(): ConnCodec;
  /** Creates the session, once the edge has admitted the agent. */
  session(): ConnSession;
}

/** Creates a connection's records once both ends have the keys. */
export function sealedRecords(
  shared: SealedShared,
  conn: Conn,
  role: "agent" | "edge",
  keys: SealedKeys,
): SealedRecords {
  const { clock, sodium, aeads, scratch, queueLimits, receiveBudgetBytes } = shared;
  const bulk = keys.aes && aeads.aes !== undefined ? aeads.aes : aeads.chacha;
  const other = role === "edge" ? "agent" : "edge";
  const ciphers = { sodium, small: aeads.small, bulk };
  const sealer = new RecordSealer({ ...ciphers, key: keys[role] }, scratch.records, scratch.random);
  const opener = new RecordOpener({ ...ciphers, key: keys[other] }, scratch.records);
  const codec = (): ConnCodec => {
    opener.maxBytes = SEALED_RECORD_MAX_BYTES;
    return {
      seal: (plain) => sealer.seal(plain),
      open: (wire, mux) => opener.open(wire, (data) => mux.receive(data)),
      close: () => opener.close(),
    };
  };
  const session = () =>
    new ConnSession({
      transport: SEALED,
      cipher: bulk.name,
      halfClose: true,
      conn,
      clock,
      codec: codec(),
      mux: (host) =>
        new CreditSession({
          role,
          host,
          scratch: scratch.frames,
          random: scratch.random,
          queueLimits,
          receiveBudgetBytes,
        }),
    });
  return { sealer, opener, channel: keys.channel, codec, session };
}
