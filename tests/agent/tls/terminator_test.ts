/** TLS over streams, by this runtime's own stack. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import { describe, it } from "node:test";
import { connect as connectTls, createSecureContext } from "node:tls";
import {
  type AcceptOptions,
  type HelloFacts,
  TLS_HANDSHAKE_DEADLINE_MS,
  TLS_HANDSHAKES_MAX,
  type TlsAnswer,
  TlsTerminator,
} from "../../../src/agent/tls/terminator.ts";
import { makeCertificate } from "../../../src/crypto/certificate.ts";
import { SallyportError } from "../../../src/errors.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import { type Clock, LINGER_MS } from "../../../src/runtime/port.ts";
import { Faults } from "../../../src/runtime/shared.ts";
import { currentRuntime } from "../../../src/runtime/mod.ts";
import { AlertDescription, decodeAlert } from "../../../src/wire/tls/tls_alert.ts";
import { clientHello, SECP256R1, X25519 } from "../../support/client_hello.ts";

const timeout = 30_000;
const runtime = await currentRuntime();
const identity = await makeCertificate({
  commonName: "a.example",
  names: ["a.example"],
  validDays: 3,
  wallMs: runtime.clock.wallMs(),
});
const context = createSecureContext({ cert: identity.certificatePem, key: identity.keyPem });

/** A port where TLS ends and every byte is sent back. */
async function listen(
  choose: (hello: HelloFacts) => TlsAnswer | Promise<TlsAnswer>,
  accepted: Partial<AcceptOptions> = {},
  clock: Clock = runtime.clock,
) {
  const failures: SallyportError[] = [];
  const failed = Promise.withResolvers<SallyportError>();
  const secured = Promise.withResolvers<string | undefined>();
  const closed = Promise.withResolvers<Error | undefined>();
  const terminator = new TlsTerminator({ clock, faults: new Faults(), choose });
  const listener = await runtime.listen({
    host: "127.0.0.1",
    port: 0,
    accept: (conn) =>
      terminator.accept(conn, {
        failed: (error) => {
          failures.push(error);
          failed.resolve(error);
        },
        secured: ({ stream, alpnProtocol }) => {
          secured.resolve(alpnProtocol);
          stream.attach({
            data: (chunk) => void stream.write(chunk.slice()),
            end: () => stream.closeWrite(),
            drain() {},
            close: (error) => closed.resolve(error),
          });
        },
        ...accepted,
      }),
  });
  const { port } = listener.address;
  return { port, terminator, failures, failed, secured, closed, stop: () => listener.close() };
}

function visit(port: number, options: Record<string, unknown> = {}) {
  const socket = connectTls({
    host: "127.0.0.1",
    port,
    servername: "a.example",
    ca: identity.certificatePem,
    ...options,
  });
  socket.on("error", () => {});
  return socket;
}

describe("TlsTerminator", () => {
  it("takes the certificate and the protocol that the ClientHello asks for", { timeout }, async () => {
    const asked: HelloFacts[] = [];
    const meter = { bytesToAgent: 0, bytesToVisitor: 0 };
    const { port, secured, closed, stop } = await listen(async (hello) => {
      asked.push(hello);
      await Promise.resolve();
      return { context, alpnProtocols: ["h2", "http/1.1"] };
    }, { meter });
    const socket = visit(port, { ALPNProtocols: ["http/1.1", "x"] });
    await once(socket, "secureConnect");
    assert.equal(socket.authorized, true);
    assert.equal(socket.alpnProtocol, "http/1.1");
    assert.deepEqual(asked, [{ serverName: "a.example", alpnProtocols: ["http/1.1", "x"] }]);
    assert.equal(await secured.promise, "http/1.1");
    const echo = once(socket, "data");
    socket.write("hello");
    assert.equal(String((await echo)[0]), "hello");
    assert.ok(meter.bytesToAgent > 200 && meter.bytesToVisitor > 200, JSON.stringify(meter));
    socket.end();
    assert.equal(await closed.promise, undefined);
    stop();
  });

  for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
    it(`speaks ${version}`, { timeout }, async () => {
      const { port, stop } = await listen(() => ({ context }));
      const socket = visit(port, { minVersion: version, maxVersion: version });
      await once(socket, "secureConnect");
      assert.equal(socket.getProtocol(), version);
      socket.destroy();
      stop();
    });
  }

  for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
    it(
      `ends without waiting for a visitor that stays, behind the last byte (${version})`,
      { timeout },
      async () => {
        const closed = Promise.withResolvers<Error | undefined>();
        // What would wait for the visitor's end waits for ever.
        const clock: Clock = {
          ...runtime.clock,
          after: (delayMs, run) =>
            delayMs === LINGER_MS ? { cancel() {} } : runtime.clock.after(delayMs, run),
        };
        const answer = new Uint8Array(3_000_000).map((_, index) => index % 251);
        const { port, stop } = await listen(() => ({ context }), {
          secured({ stream }) {
            stream.attach({ data() {}, end() {}, drain() {}, close: (error) => closed.resolve(error) });
            stream.write(answer);
            stream.release();
          },
        }, clock);
        const socket = visit(port, { minVersion: version, maxVersion: version, allowHalfOpen: true });
        const errors: unknown[] = [];
        socket.on("error", (error) => errors.push(error));
        const received: Buffer[] = [];
        socket.on("data", (chunk: Buffer) => void received.push(chunk));
        await once(socket, "end");
        assert.ok(Buffer.concat(received).equals(answer));
        assert.deepEqual(errors, []);
        assert.equal(await closed.promise, undefined);
        socket.destroy();
        stop();
      },
    );
  }

  it("sends what it was given, though the writer uses its buffer again at once", { timeout }, async () => {
    const PIECES = 24;
    const sizes = [40_000, 64 * 1024, 100_000, 300_000];
    const { port, stop } = await listen(() => ({ context }), {
      secured({ stream }) {
        const buffer = new Uint8Array(300_000);
        let piece = 0;
        const go = (): void => {
          for (; piece < PIECES; piece++) {
            const part = buffer.subarray(0, sizes[piece % sizes.length]);
            if (!stream.write(part.fill(piece))) return void piece++;
            buffer.fill(255);
          }
          stream.closeWrite();
        };
        stream.attach({ data: go, end() {}, drain: () => (buffer.fill(255), go()), close() {} });
      },
    });
    const socket = visit(port);
    const parts: Buffer[] = [];
    socket.on("data", (part: Buffer) => parts.push(part));
    await once(socket, "secureConnect");
    socket.write("go");
    await once(socket, "end");
    const expected = Array.from({ length: PIECES }, (_, i) => Buffer.alloc(sizes[i % sizes.length]!, i));
    assert.ok(Buffer.concat(parts).equals(Buffer.concat(expected)));
    socket.destroy();
    stop();
  });

  const { protocol_version, handshake_failure } = AlertDescription;
  // ClientHellos that offer what nobody speaks any more, and the alerts that they may get.
  const old: readonly [string, (hello: Buffer) => void, readonly number[]][] = [
    ["TLS 1.1", (hello) => {
      hello.set([3, 2], 9);
      // An extension that nobody knows in place of supported_versions.
      hello.set([0xff, 0xf0], hello.indexOf(Buffer.from("002b0005040304", "hex")));
    }, [protocol_version]],
    ["TLS 1.1 and 1.0 as supported versions", (hello) => {
      hello.set([3, 1, 3, 2], hello.indexOf(Buffer.from("002b0005040304", "hex")) + 5);
    }, [protocol_version, handshake_failure]],
    ["no known cipher", (hello) => {
      const ciphers = hello.indexOf(Buffer.from("130113021303c02bc02fc02cc030", "hex"));
      hello.fill(0xee, ciphers, ciphers + 14);
    }, [handshake_failure]],
  ];
  for (const [what, change, alerts] of old) {
    it(`refuses ${what} with an alert, and says so in a failure and no more`, { timeout }, async () => {
      const { port, failed, failures, terminator, stop } = await listen(() => ({ context }));
      const socket = connectTcp(port, "127.0.0.1");
      const hello = clientHello("a.example");
      change(hello);
      socket.write(hello);
      const [data] = await once(socket, "data") as [Buffer];
      assert.ok(alerts.includes(decodeAlert(data) ?? -1), data.toString("hex"));
      await once(socket, "end");
      assert.equal((await failed.promise).code, "connection_lost");
      socket.destroy();
      assert.deepEqual([failures.length, terminator.handshakes], [1, 0]);
      stop();
    });
  }

  it("answers with an alert where there is no certificate, and no common protocol", { timeout }, async () => {
    const refusal: TlsAnswer = {
      alert: AlertDescription.unrecognized_name,
      error: new SallyportError("unrecognized_name", "Cannot serve visitor: no certificate", {
        side: "peer",
      }),
    };
    const cases = [
      [() => refusal, AlertDescription.unrecognized_name, "unrecognized_name"],
      [
        () => ({ context, alpnProtocols: ["acme-tls/1"] }),
        AlertDescription.no_application_protocol,
        "hello_invalid",
      ],
      [() => Promise.reject(new Error("broken")), AlertDescription.internal_error, "io_failed"],
    ] as const;
    for (const [choose, alert, code] of cases) {
      const { port, failed, stop } = await listen(choose);
      const socket = connectTcp(port, "127.0.0.1");
      socket.write(clientHello("a.example"));
      const [data] = await once(socket, "data") as [Buffer];
      assert.equal(decodeAlert(data), alert);
      assert.equal((await failed.promise).code, code);
      socket.destroy();
      stop();
    }
  });

  it("refuses a stranger that asks for a challenge with a key share that is none", { timeout }, async () => {
    const shares = [
      { group: X25519, key: Buffer.alloc(32) },
      { group: X25519, key: Buffer.alloc(31, 1) },
      { group: SECP256R1, key: Buffer.alloc(65, 4) },
    ];
    const { port, terminator, stop } = await listen(() => ({ challenge: identity }));
    for (const share of shares) {
      const socket = connectTcp(port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(clientHello("a.example", share));
      const [data] = await once(socket, "data") as [Buffer];
      // Some runtimes compute a secret of zeros with a share of zeros, which harms nobody.
      if (share.key !== shares[0]!.key) assert.ok(decodeAlert(data) !== undefined);
      socket.destroy();
    }
    assert.equal(terminator.handshakes, 0);
    stop();
  });

  it(
    "survives whatever follows a ClientHello, and a visitor that leaves during the handshake",
    { timeout },
    async () => {
      const { port, terminator, stop } = await listen(() => ({ context }));
      for (
        const rest of [
          Buffer.alloc(300, 7),
          Buffer.from([22, 3, 3, 0, 2, 1, 1]),
          Buffer.from([21, 3, 3, 0, 2, 2, 40]),
        ]
      ) {
        const socket = connectTcp(port, "127.0.0.1");
        socket.on("error", () => {});
        socket.resume();
        socket.write(Buffer.concat([clientHello("a.example"), rest]));
        await once(socket, "close");
      }
      const leaving = connectTcp(port, "127.0.0.1");
      leaving.on("error", () => {});
      leaving.write(clientHello("a.example"));
      await once(leaving, "data");
      leaving.destroy();
      // The next one is served as if nothing had been.
      const socket = visit(port);
      await once(socket, "secureConnect");
      socket.destroy();
      while (terminator.handshakes > 0) await new Promise((resolve) => setImmediate(resolve));
      stop();
    },
  );

  it("gives a handshake a limited time, and takes a limited number at once", { timeout }, async () => {
    const network = createMemoryNetwork();
    const [agent, visitor] = [network.runtime("10.0.0.1"), network.runtime("10.0.0.2")];
    const terminator = new TlsTerminator({
      clock: agent.clock,
      faults: new Faults(),
      choose: () => new Promise(() => {}),
    });
    const failures: string[] = [];
    await network.settle(agent.listen({
      host: "10.0.0.1",
      port: 1,
      accept: (conn) => terminator.accept(conn, { failed: ({ code }) => failures.push(code), secured() {} }),
    }));
    for (let i = 0; i <= TLS_HANDSHAKES_MAX; i++) {
      const conn = await network.settle(visitor.dial({ host: "10.0.0.1", port: 1, timeoutMs: 1_000 }));
      conn.attach({ data() {}, end() {}, drain() {}, close() {} });
      conn.write(new Uint8Array(clientHello("a.example")));
    }
    await network.advance(1_000);
    assert.deepEqual(failures, ["limit_exceeded"]);
    assert.equal(terminator.handshakes, TLS_HANDSHAKES_MAX);
    await network.advance(TLS_HANDSHAKE_DEADLINE_MS);
    assert.equal(terminator.handshakes, 0);
    assert.equal(failures.filter((code) => code === "deadline_exceeded").length, TLS_HANDSHAKES_MAX);
  });
});
