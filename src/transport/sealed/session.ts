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
import { ConnSession } from "../conn_session.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";

/** The transport's name in logs and metrics. */
export const SEALED = "sealed";

/** Working memory that all sealed sessions of an edge or an agent share. */
export class SealedScratch {
  readonly frames: CreditScratch;
  readonly records: RecordScratch = new RecordScratch();
  /** For stream marks, pings and padding. */
  readonly random: RandomPool = new RandomPool(4096);

  /** @param memory counts what waits in the sessions; nobody does when absent. */
  constructor(memory?: MemoryBudget) {
    this.frames = new CreditScratch(memory);
  }
}

/** What the sessions of one edge or agent have in common. */
export interface SealedShared {
  readonly clock: Clock;
  readonly sodium: Sodium;
  readonly aeads: AeadChoice;
  readonly scratch: SealedScratch;
  readonly queueLimits?: QueueLimits;
  readonly receiveBudgetBytes?: number;
}

/** Both directions' records on a connection, and the session inside. */
export interface SealedRecords {
  readonly sealer: RecordSealer;
  readonly opener: RecordOpener;
  /** What the login's proof is bound to. */
  readonly channel: Bytes;
  /** Makes the session, once the edge has let the agent in. */
  session(): ConnSession;
}

/** What stands on a connection when both ends have the keys. */
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
  const session = () => {
    opener.maxBytes = SEALED_RECORD_MAX_BYTES;
    return new ConnSession({
      transport: SEALED,
      cipher: bulk.name,
      halfClose: true,
      conn,
      clock,
      codec: {
        seal: (plain) => sealer.seal(plain),
        open: (wire, mux) => opener.open(wire, (data) => mux.receive(data)),
        close: () => opener.close(),
      },
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
  };
  return { sealer, opener, channel: keys.channel, session };
}
