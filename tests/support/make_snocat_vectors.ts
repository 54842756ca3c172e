/**
 * Records what snocat-cli puts on its streams, as a client and as a server, into `tests/vectors/snocat.json`:
 *
 * ```sh
 * deno run -A tests/support/make_snocat_vectors.ts
 * ```
 *
 * Needs the runtime's QUIC and a snocat-cli (tests/interop/snocat_env.ts).
 *
 * @module
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { makeCertificate } from "../../src/crypto/certificate.ts";
import { SallyportError } from "../../src/errors.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Bytes, ByteStream } from "../../src/runtime/port.ts";
import type { QuicConn } from "../../src/runtime/quic_port.ts";
import { snocatCli } from "../interop/snocat_env.ts";

const CLIENTS_PORT = 19190;
const SERVERS_PORT = 19191;
const PUBLIC_PORT = 18080;
const TARGET_PORT = 19911;
const ALPN = "ms-snocat-1";
/** What arrives within this belongs together. */
const QUIET_MS = 500;

/** One stream: what each side sent, in turn. */
interface Recorded {
  readonly what: string;
  readonly opener: "snocat" | "other";
  readonly turns: { readonly from: "snocat" | "other"; readonly hex: string }[];
}

const hex = (bytes: Iterable<number>): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const text = (value: string): Bytes => new TextEncoder().encode(value);
const frame = (body: Bytes): number[] => [0, 0, body.length >>> 8, body.length & 255, ...body];
const GREETING = [...text("NYAN"), 0];

/** A stream that is played by hand. */
class Stream {
  readonly recorded: Recorded;
  readonly #stream: ByteStream;
  #bytes: number[] = [];
  #ended = false;

  constructor(stream: ByteStream, what: string, opener: "snocat" | "other") {
    this.#stream = stream;
    this.recorded = { what, opener, turns: [] };
    stream.attach({
      data: (chunk) => void this.#bytes.push(...chunk),
      end: () => void (this.#ended = true),
      drain() {},
      close() {},
    });
  }

  send(bytes: Iterable<number>): void {
    const turn = Uint8Array.from(bytes);
    this.recorded.turns.push({ from: "other", hex: hex(turn) });
    this.#stream.write(turn);
  }

  finish(): void {
    this.#stream.closeWrite();
  }

  /** Waits for something, and for what follows it at once. */
  async hear(): Promise<void> {
    for (let waited = 0; this.#bytes.length === 0 && !this.#ended && waited < 20_000; waited += 20) {
      await delay(20);
    }
    await delay(QUIET_MS);
    this.recorded.turns.push({ from: "snocat", hex: hex(this.#bytes) });
    this.#bytes = [];
  }
}

/** The streams that the other side opens. */
function incoming(conn: QuicConn): () => Promise<ByteStream> {
  const streams: ByteStream[] = [];
  conn.attach({ stream: (stream) => void streams.push(stream), ended() {} });
  return async () => {
    while (streams.length === 0) await delay(20);
    return streams.shift() as ByteStream;
  };
}

const folder = await mkdtemp(join(tmpdir(), "sallyport-"));
const runtime = await currentRuntime();
const quic = await runtime.quic();
const identity = await makeCertificate({
  commonName: "localhost",
  names: ["localhost"],
  validDays: 2,
  wallMs: Date.now(),
});
await writeFile(join(folder, "cert.pem"), identity.certificatePem);
await writeFile(join(folder, "key.pem"), identity.keyPem);
const reason = new SallyportError("shutdown", "The recording is over", { side: "local" });
const echo = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
await new Promise<void>((resolve) => echo.listen(TARGET_PORT, "127.0.0.1", resolve));
const streams: Recorded[] = [];

async function withSnocat(args: readonly string[], body: () => Promise<void>): Promise<void> {
  const child = spawn(await snocatCli(), [...args], { stdio: "ignore" });
  const gone = once(child, "exit");
  try {
    await body();
  } finally {
    child.kill("SIGINT");
    await gone;
  }
}

async function recordClient(): Promise<void> {
  const accepted = Promise.withResolvers<QuicConn>();
  const listener = await quic.listen({
    host: "127.0.0.1",
    port: CLIENTS_PORT,
    identity,
    alpn: [ALPN],
    accept: (conn) => accepted.resolve(conn),
  });
  const args = ["client", "--authority", join(folder, "cert.pem"), "--driver", `127.0.0.1:${CLIENTS_PORT}`];
  const target = `127.0.0.1:${TARGET_PORT}`;
  await withSnocat([...args, "--san", "localhost", "--target", target], async () => {
    const conn = await accepted.promise;
    const next = incoming(conn);
    const ack = new Stream(await conn.open(), "simple-ack, answered by a client", "other");
    ack.send([...text("HELO"), ...new Array(60).fill(0)]);
    await ack.hear();

    const demand = new Stream(await next(), "a client's demand", "snocat");
    await demand.hear();
    demand.send(GREETING);
    await demand.hear();
    demand.send([0]);
    await demand.hear();
    demand.send(frame(text(`["[::]:${PUBLIC_PORT}"]`)));

    const proxied = new Stream(await conn.open(), "a client's proxy-tcp, accepted", "other");
    proxied.send([...GREETING, ...frame(text(`/proxy-tcp/dns/127.0.0.1/tcp/${TARGET_PORT}`))]);
    await proxied.hear();
    proxied.send(text("hello"));
    await proxied.hear();
    const refused = new Stream(await conn.open(), "an address that a client doesn't know", "other");
    refused.send([...GREETING, ...frame(text("/nothing/a\\/b\\\\c//"))]);
    await refused.hear();
    streams.push(...[ack, demand, proxied, refused].map(({ recorded }) => recorded));
    conn.close(reason);
  });
  listener.end();
}

async function recordServer(): Promise<void> {
  const args = ["server", "--cert", join(folder, "cert.pem"), "--key", join(folder, "key.pem")];
  const ports = `${PUBLIC_PORT}:${PUBLIC_PORT}`;
  await withSnocat([...args, "--quic", `127.0.0.1:${SERVERS_PORT}`, "--ports", ports], async () => {
    await delay(1_000);
    const conn = await quic.dial({
      host: "127.0.0.1",
      port: SERVERS_PORT,
      alpn: ALPN,
      trust: { authoritiesPem: identity.certificatePem, serverName: "localhost" },
      timeoutMs: 10_000,
    });
    const next = incoming(conn);
    const ack = new Stream(await next(), "simple-ack, begun by a server", "snocat");
    await ack.hear();
    ack.send([...text("HELO/HELO"), ...new Array(55).fill(0)]);
    await delay(1_000);

    const demand = async (what: string): Promise<Stream> => {
      const stream = new Stream(await conn.open(), what, "other");
      stream.send([...GREETING, ...frame(text(`/proxyme/0.0.1/127.0.0.1/${TARGET_PORT}`))]);
      await stream.hear();
      stream.send(frame(text('""')));
      await stream.hear();
      return stream;
    };
    const granted = await demand("a server's grant and farewell");
    const visitor = await runtime.dial({ host: "127.0.0.1", port: PUBLIC_PORT, timeoutMs: 5_000 });
    visitor.attach({ data() {}, end() {}, drain() {}, close() {} });
    const proxied = new Stream(await next(), "a server's proxy-tcp", "snocat");
    await proxied.hear();
    proxied.send(GREETING);
    await proxied.hear();
    proxied.send([0]);
    visitor.write(text("hello"));
    await proxied.hear();
    proxied.finish();
    visitor.abort();
    const refused = await demand("a server whose range is used up");
    const unknown = new Stream(await conn.open(), "an address that a server doesn't know", "other");
    unknown.send([...GREETING, ...frame(text("/nothing"))]);
    await unknown.hear();
    granted.send(new Array(8).fill(0));
    await granted.hear();
    streams.push(...[ack, granted, proxied, refused, unknown].map(({ recorded }) => recorded));
    conn.close(reason);
    await delay(200);
  });
}

await recordClient();
await recordServer();
const path = join(dirname(dirname(fileURLToPath(import.meta.url))), "vectors", "snocat.json");
const about = "Recorded from snocat-cli 0.8.0-alpha.5 by tests/support/make_snocat_vectors.ts";
await writeFile(
  path,
  `${JSON.stringify({ about, public_port: PUBLIC_PORT, target_port: TARGET_PORT, streams }, null, 2)}\n`,
);
echo.close();
await rm(folder, { recursive: true });
process.exit(0);
