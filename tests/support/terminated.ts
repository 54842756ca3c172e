/**
 * TLS and HTTP as the agent ends them, on a TCP port of this machine in place of a session.
 *
 * @module
 */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createSecureContext } from "node:tls";
import type { HttpHandler } from "../../src/agent/http/exchange.ts";
import { serveHttp1 } from "../../src/agent/http/http1_server.ts";
import { serveHttp2 } from "../../src/agent/http/http2_server.ts";
import { TlsTerminator } from "../../src/agent/tls/terminator.ts";
import { type Identity, makeCertificate } from "../../src/crypto/certificate.ts";
import type { SallyportError } from "../../src/errors.ts";
import { Faults } from "../../src/runtime/shared.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";

/** A port where TLS ends and HTTP is served. */
export interface TerminatedSite {
  readonly port: number;
  readonly identity: Identity;
  /** What became of handshakes that failed. */
  readonly failures: SallyportError[];
  readonly terminator: TlsTerminator;
  stop(): void;
}

/** Starts it for site.localhost. */
export async function startTerminatedSite(
  handler: HttpHandler,
  idleTimeoutMs = 60_000,
): Promise<TerminatedSite> {
  const runtime = await currentRuntime();
  const { clock } = runtime;
  const faults = new Faults();
  const identity = await makeCertificate({
    commonName: "site.localhost",
    names: ["site.localhost"],
    validDays: 3,
    wallMs: clock.wallMs(),
  });
  const context = createSecureContext({ cert: identity.certificatePem, key: identity.keyPem });
  const terminator = new TlsTerminator({
    clock,
    faults,
    choose: () => ({ context, alpnProtocols: ["h2", "http/1.1"] }),
  });
  const failures: SallyportError[] = [];
  const listener = await runtime.listen({
    host: "127.0.0.1",
    port: 0,
    accept: (conn) =>
      terminator.accept(conn, {
        failed: (error) => failures.push(error),
        secured: ({ stream, serverName, alpnProtocol }) => {
          const visitor = { address: conn.remote.host, port: conn.remote.port, serverName };
          const options = { stream, visitor, clock, faults, handler, idleTimeoutMs };
          if (alpnProtocol === "h2") serveHttp2(options);
          else serveHttp1(options);
        },
      }),
  });
  return {
    port: listener.address.port,
    identity,
    failures,
    terminator,
    stop: () => listener.close(),
  };
}

/** An HTTP server as a target, on a free port. */
export async function startTarget(
  handler: Parameters<typeof createServer>[1],
): Promise<{ readonly port: number; readonly server: Server; stop(): void }> {
  const server = createServer(handler as never);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    server,
    stop() {
      server.closeAllConnections?.();
      server.close();
    },
  };
}
