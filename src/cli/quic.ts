/**
 * Sets up the QUIC transport for the edge's commands: the certificate by which agents recognise the edge.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { Config } from "../config/config.ts";
import { certificateFingerprint, fingerprintText, type Identity } from "../crypto/certificate.ts";
import { SallyportError } from "../errors.ts";
import type { Runtime } from "../runtime/port.ts";
import type { CliIo } from "./io.ts";
import type { Keys } from "./keys.ts";

/** An edge's certificate. */
export interface QuicPart {
  readonly identity: Identity;
  readonly fingerprint: Bytes;
}

/** The edge's certificate, if it listens for QUIC. */
export async function findQuic(
  keys: Keys,
  config: Pick<Config, "quicListen">,
): Promise<QuicPart | undefined> {
  if (config.quicListen.length === 0) return undefined;
  const { value: identity } = await keys.certificate();
  return { identity, fingerprint: certificateFingerprint(identity.certificatePem) };
}

/** Warns if a key log for Wireshark is requested but not supported. */
export async function warnOfKeyLog(io: CliIo, runtime: Runtime): Promise<void> {
  if ((io.env.SSLKEYLOGFILE ?? "") === "" || (await runtime.quic()).capabilities.keyLog) return;
  io.err(
    "Warning: SSLKEYLOGFILE is set, but nothing is written there: this runtime's QUIC doesn't export secrets",
  );
}

/** Refuses to listen for QUIC if strangers could stop the process through it, unless the settings consent. */
export async function checkQuicConsent(
  config: Pick<Config, "quicListen" | "quicOnBun">,
  runtime: Runtime,
): Promise<void> {
  if (config.quicListen.length === 0 || config.quicOnBun === "accept-risk") return;
  if ((await runtime.quic()).capabilities.withstandsFloods) return;
  const why =
    `Cannot use --quic-listen on ${runtime.name} ${runtime.version}: its QUIC lets anybody stop the edge ` +
    "for every visitor with a few hundred packets a second. Run the edge on Deno, leave QUIC out, or accept that " +
    "risk with --quic-on-bun accept-risk";
  throw new SallyportError("config_invalid", why, { side: "config" });
}

/** Its fingerprint for a start message. */
export function quicFacts(part: QuicPart | undefined): (readonly [string, string])[] {
  return part === undefined ? [] : [["edge's certificate", fingerprintText(part.fingerprint)]];
}
