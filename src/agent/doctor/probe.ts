/**
 * A visitor's TLS handshake and HTTP request, made to see how far they get.
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import { connect } from "node:tls";
import { errorMessage } from "../../errors.ts";
import { fetchOver } from "../../runtime/fetch_over.ts";
import { toNodeDuplex } from "../../runtime/node_duplex.ts";
import { type Bytes, type Conn, DIAL_TIMEOUT_MS, type Runtime } from "../../runtime/port.ts";
import type { HostPort } from "../../wire/ip/host_port.ts";
import { decodeAlert } from "../../wire/tls/tls_alert.ts";
import { watchFirstBytes } from "../services/first_bytes.ts";

/** A handshake or a request that takes longer is aborted. */
export const PROBE_TIMEOUT_MS = 10_000;

const CONTENT_ALERT = 21;
const CONTENT_HANDSHAKE = 22;

/** How far a visitor got. */
export type ProbeOutcome =
  /** TLS is established. */
  | {
    readonly kind: "secure";
    readonly certificate: X509Certificate | undefined;
    readonly trusted: boolean;
    /** Whether the server agreed on HTTP. */
    readonly isHttp: boolean;
  }
  /** A TLS alert in answer to the ClientHello. */
  | { readonly kind: "alert"; readonly description: number }
  /** Bytes that aren't TLS; their beginning as text. */
  | { readonly kind: "not_tls"; readonly begins: string }
  /** The connection ended without a byte. */
  | { readonly kind: "ended" }
  /** The TLS handshake began but did not complete. */
  | { readonly kind: "failed"; readonly why: string };

/** Requests `serverName` on a connection, which is closed afterwards. Never rejects. */
export function probeTls(runtime: Runtime, conn: Conn, serverName: string): Promise<ProbeOutcome> {
  return new Promise((resolve) => {
    let over = false;
    let began = false;
    const finish = (outcome: ProbeOutcome) => {
      if (over) return;
      over = true;
      timer.cancel();
      resolve(outcome);
      tls.destroy();
      conn.abort();
    };
    const timer = runtime.clock.after(
      PROBE_TIMEOUT_MS,
      () =>
        finish({ kind: "failed", why: `the handshake wasn't complete within ${PROBE_TIMEOUT_MS / 1000} s` }),
    );
    const saw = (first: Bytes | undefined) => {
      if (first === undefined) return finish({ kind: "ended" });
      const description = first[0] === CONTENT_ALERT ? decodeAlert(first.subarray(0, 7)) : undefined;
      if (description !== undefined) return finish({ kind: "alert", description });
      if (first[0] === CONTENT_HANDSHAKE) began = true;
      else finish({ kind: "not_tls", begins: printable(first) });
    };
    const duplex = toNodeDuplex(watchFirstBytes(conn, { saw }));
    const tls = connect({
      socket: duplex as never,
      servername: serverName,
      rejectUnauthorized: false,
      ALPNProtocols: ["h2", "http/1.1"],
    });
    const failed = (error?: Error) => {
      if (!began) return finish({ kind: "ended" });
      finish({ kind: "failed", why: error === undefined ? "the connection ended" : errorMessage(error) });
    };
    tls.on("error", failed);
    tls.once("close", () => failed());
    tls.once("secureConnect", () => {
      const { raw } = tls.getPeerCertificate() as { readonly raw?: Uint8Array };
      const certificate = raw === undefined ? undefined : new X509Certificate(raw);
      const isHttp = tls.alpnProtocol === "h2" || tls.alpnProtocol === "http/1.1";
      finish({ kind: "secure", certificate, trusted: tls.authorized, isHttp });
    });
  });
}

/** Requests the first page of `name` at an address; resolves with the reason if there is no answer. */
export async function probeHttp(runtime: Runtime, at: HostPort, name: string): Promise<Response | string> {
  const { clock } = runtime;
  const dial = () => runtime.dial({ ...at, timeoutMs: DIAL_TIMEOUT_MS });
  // Certificates are a step of their own.
  const ask = fetchOver({ clock, dial }, () => Promise.resolve());
  const late = new AbortController();
  const why = new Error(`no answer in ${PROBE_TIMEOUT_MS / 1000} s`);
  const timer = clock.after(PROBE_TIMEOUT_MS, () => late.abort(why));
  try {
    return await ask(new Request(`https://${name}/`, { method: "HEAD", signal: late.signal }));
  } catch (error) {
    return errorMessage(error);
  } finally {
    timer.cancel();
  }
}

function printable(bytes: Bytes): string {
  return new TextDecoder("latin1").decode(bytes.subarray(0, 24)).replace(/[^\x20-\x7e].*/s, "");
}
