/**
 * The two ends of the measurements beside: an edge's listener and an agent's dial, over QUIC or SniTun's TCP.
 *
 * @module
 */
import process from "node:process";
import { certificateFingerprint, makeCertificate } from "../../src/crypto/certificate.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { createToken, tryOpenToken } from "../../src/protocol/token/token.ts";
import { SendScratch } from "../../src/protocol/mux/snitun/sender.ts";
import type { Bytes, Runtime } from "../../src/runtime/port.ts";
import type { Session, SessionHandler } from "../../src/transport/port.ts";
import { listenQuic } from "../../src/transport/quic/accept.ts";
import { dialQuic } from "../../src/transport/quic/dial.ts";
import { acceptSnitun } from "../../src/transport/snitun/accept.ts";
import { dialSnitun } from "../../src/transport/snitun/dial.ts";

const HOST = "127.0.0.1";
const NAME = "a.test";
const RING = new FernetRing(["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]);

/** Accepts agents; gives what the agents' program is to be told: the certificate's fingerprint, or "ready". */
export async function listen(
  runtime: Runtime,
  transport: string,
  port: number,
  admitted: (session: Session) => SessionHandler,
): Promise<string> {
  const { clock } = runtime;
  const shared = {
    openToken: (token: Bytes) => tryOpenToken(RING, token, clock.wallMs() / 1000),
    authorize() {},
    admit: (_: unknown, session: Session) => admitted(session),
    refused(error: unknown) {
      console.error(error);
      process.exit(1);
    },
  };
  if (transport === "quic") {
    const identity = await makeCertificate({
      commonName: NAME,
      names: [NAME],
      validDays: 1,
      wallMs: clock.wallMs(),
    });
    await listenQuic({ runtime, host: HOST, port, identity, admission: shared });
    return certificateFingerprint(identity.certificatePem).toHex();
  }
  const scratch = new SendScratch();
  await runtime.listen({
    host: HOST,
    port,
    accept: (conn) => {
      const accepted = {
        conn,
        received: new Uint8Array(0),
        remote: conn.remote,
        acceptedAtMs: clock.nowMs(),
      };
      acceptSnitun({ ...accepted, alone: false, known() {}, left() {} }, { clock, scratch }, shared);
    },
  });
  return "ready";
}

/** Opens a session. */
export async function dial(
  runtime: Runtime,
  transport: string,
  port: number,
  told: string,
  admitted: (session: Session) => SessionHandler,
): Promise<Session> {
  const { clock } = runtime;
  const { token, claims } = createToken(RING, {
    hostname: NAME,
    ttlSeconds: 3600,
    nowMs: clock.wallMs(),
    protocolVersion: 2,
  });
  const shared = { runtime, host: HOST, port, token, admitted };
  if (transport === "quic") {
    return await dialQuic({ ...shared, aesKey: claims.aesKey, edgeFingerprint: Uint8Array.fromHex(told) });
  }
  const { aesKey, aesIv, cipher } = claims;
  const scratch = new SendScratch();
  return await dialSnitun({ ...shared, clock, scratch, aesKey, aesIv, cipher, protocolVersion: 2 });
}
