/**
 * The whole way of visitors through an edge and an agent with one service, in one process: from accept to the endpoint's
 * first byte and to the last close.
 *
 * @module
 */
import { ServiceTable } from "../../src/agent/services/table.ts";
import { serviceDefaults } from "../../src/agent/services/service.ts";
import { parseTarget } from "../../src/agent/services/target.ts";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { type CipherName, headerLibrary } from "../../src/crypto/header_cipher.ts";
import type { SystemCiphers } from "../../src/crypto/system_ciphers.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { createEdge } from "../../src/edge/edge.ts";
import { SendScratch } from "../../src/protocol/mux/snitun/sender.ts";
import { createToken } from "../../src/protocol/token/token.ts";
import type { Conn } from "../../src/runtime/port.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { dialSnitun } from "../../src/transport/snitun/dial.ts";
import { clientHello } from "../../tests/support/client_hello.ts";
import { fernetKey } from "../../tests/support/tokens.ts";
import { type Asked, Loopback } from "./loopback.ts";

const NAME = "home.example.org";
const EDGE_PORT = 8443;
const ENDPOINT_PORT = 443;
const HELLO: Bytes = new Uint8Array(clientHello(NAME));
const FIRST_BYTE: Bytes = new Uint8Array(1);
const GOODBYE: Bytes = new Uint8Array(31);

/** An edge, an agent and an endpoint. */
export interface Tunnel {
  readonly asked: Asked;
  /** One visitor: hello, the endpoint's first byte, goodbye, all closed. */
  visit(): Promise<void>;
  /** A visitor that stays. */
  open(): Promise<OpenVisitor>;
}

/** A visitor whose endpoint sends back what it gets. */
export interface OpenVisitor {
  /** There and back. */
  echo(chunk: Bytes): Promise<void>;
}

/** Sets all up. `ciphers` are none by default, since counts must not depend on what a machine has installed. */
export async function startTunnel(cipher: CipherName, ciphers?: SystemCiphers): Promise<Tunnel> {
  const network = new Loopback();
  const runtime = network.runtime(ciphers);
  const ring = new FernetRing([fernetKey()]);
  const edge = createEdge({ runtime, ring, log: silentLogger });
  await edge.listen({ host: "127.0.0.1", port: EDGE_PORT });
  await runtime.listen({ host: "127.0.0.1", port: ENDPOINT_PORT, accept: endpoint });
  const services = new ServiceTable({ runtime, log: silentLogger });
  services.apply([
    serviceDefaults({ names: [NAME], targets: [parseTarget(`127.0.0.1:${ENDPOINT_PORT}`)] }),
  ]);
  const token = createToken(ring, { hostname: NAME, cipher, nowMs: Date.now(), ttlSeconds: 3600 });
  const dialled = dialSnitun({
    ...{ runtime, clock: runtime.clock, scratch: new SendScratch(), host: "127.0.0.1", port: EDGE_PORT },
    ...{ token: token.token, ...token.claims, library: headerLibrary(runtime.systemCiphers()) },
    admitted: () => ({
      stream: (stream) => void services.connector(stream),
      streamClosed() {},
      streamRefused() {},
      ended() {},
    }),
  });
  await network.settle();
  await dialled;
  await network.settle();
  const dial = () => runtime.dial({ host: "127.0.0.1", port: EDGE_PORT, timeoutMs: 1_000 });
  return {
    asked: network.asked,
    async visit(): Promise<void> {
      const dialling = dial();
      await network.settle();
      const visitor = new Visitor(await dialling);
      visitor.conn.write(HELLO);
      await network.settle();
      if (visitor.receivedBytes === 0 || !visitor.closed) throw new Error("the visitor got no answer");
    },
    async open(): Promise<OpenVisitor> {
      const dialling = dial();
      await network.settle();
      const visitor = new Visitor(await dialling, true);
      visitor.conn.write(HELLO);
      await network.settle();
      return {
        async echo(chunk: Bytes): Promise<void> {
          const before = visitor.receivedBytes;
          visitor.conn.write(chunk);
          await network.settle();
          if (visitor.receivedBytes - before !== chunk.length) throw new Error("the echo is cut short");
        },
      };
    },
  };
}

/** Says a byte to a ClientHello, sends back what follows, and ends at a goodbye, as TLS servers do. */
function endpoint(conn: Conn): void {
  let greeted = false;
  conn.attach({
    data(chunk) {
      if (greeted && chunk.length === GOODBYE.length) return conn.closeWrite();
      conn.write(greeted ? chunk : FIRST_BYTE);
      greeted = true;
    },
    end: () => conn.closeWrite(),
    drain() {},
    close() {},
  });
}

class Visitor {
  readonly conn: Conn;
  receivedBytes = 0;
  closed = false;

  constructor(conn: Conn, stays = false) {
    this.conn = conn;
    conn.attach({
      data: (chunk) => {
        this.receivedBytes += chunk.length;
        if (stays || this.receivedBytes > 1) return;
        conn.write(GOODBYE);
        conn.closeWrite();
      },
      end: () => conn.closeWrite(),
      drain() {},
      close: () => void (this.closed = true),
    });
  }
}
