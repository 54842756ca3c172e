/**
 * TLS to a target, over an established connection.
 *
 * @module
 */
import { isIP } from "node:net";
import type { Duplex } from "node:stream";
import { connect, type DetailedPeerCertificate, type TLSSocket } from "node:tls";
import type { Bytes } from "../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../errors.ts";
import { toNodeDuplex } from "./node_duplex.ts";
import type { ByteStream, Clock } from "./port.ts";
import type { Faults } from "./shared.ts";
import { NodeStream } from "./node_stream.ts";
import { TlsIntake } from "./tls_intake.ts";

/** Rejects if a server isn't to be trusted; gets its certificates in DER, its own first. */
export type ChainJudge = (chain: readonly Bytes[]) => Promise<void>;

/** Options of {@link secureTarget}. */
interface SecureTargetOptions {
  readonly clock: Clock;
  readonly faults: Faults;
  /** The target's host. */
  readonly host: string;
  /** Whether its certificate must be valid for that host; if not, any is accepted, or those that the judge accepts. */
  readonly verify: boolean | ChainJudge;
  readonly timeoutMs: number;
}

/** Establishes TLS with a target. Rejects with `endpoint_unreachable`. */
export function secureTarget(stream: ByteStream, options: SecureTargetOptions): Promise<ByteStream> {
  const { clock, faults, host, verify, timeoutMs } = options;
  return new Promise((resolve, reject) => {
    const intake = new TlsIntake(stream);
    const duplex = toNodeDuplex(stream, intake);
    intake.start();
    const tls = connect({
      socket: duplex as never,
      rejectUnauthorized: verify === true,
      ALPNProtocols: ["http/1.1"],
      ...isIP(host) === 0 ? { servername: host } : { host },
    });
    const fail = (why: string, cause?: unknown) => {
      timer.cancel();
      tls.destroy();
      stream.abort();
      const message = `Cannot speak TLS with target ${host}: ${why}`;
      reject(new SallyportError("endpoint_unreachable", message, { side: "local", retryable: true, cause }));
    };
    const timer = clock.after(timeoutMs, () => fail(`no handshake in ${timeoutMs / 1000} s`));
    const failed = (error: Error) => fail(errorMessage(error), error);
    const closed = () => fail("it ended the connection");
    tls.on("error", failed);
    tls.once("close", closed);
    duplex.once("end", closed);
    const use = () => {
      timer.cancel();
      tls.off("error", failed);
      tls.off("close", closed);
      duplex.off("end", closed);
      tls.pause();
      resolve(
        new NodeStream(tls as unknown as Duplex, {
          ...{ clock, faults, carrier: duplex, intake },
          destroy: (hard) => {
            tls.destroy();
            if (hard) stream.abort();
          },
        }),
      );
    };
    tls.once("secureConnect", () => {
      if (typeof verify === "boolean") return use();
      verify(chainOf(tls)).then(use, failed);
    });
  });
}

/** What the server presented; a root is its own issuer. */
function chainOf(tls: TLSSocket): Bytes[] {
  const chain: Bytes[] = [];
  let at: DetailedPeerCertificate | undefined = tls.getPeerCertificate(true);
  const seen = new Set<string>();
  while (at?.raw !== undefined && !seen.has(at.fingerprint256)) {
    seen.add(at.fingerprint256);
    chain.push(new Uint8Array(at.raw));
    at = at.issuerCertificate;
  }
  return chain;
}
