/** What snocat-cli said on its streams (tests/support/make_snocat_vectors.ts), and ours in the place of either side. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { ByteStream, Runtime } from "../../src/runtime/port.ts";
import { SNOCAT_ALPN } from "../../src/snocat/handshake.ts";
import { QuicCarrier } from "../../src/tunnel/carriers/quic_carrier.ts";
import { Watched } from "../conformance/runtime_helpers.ts";
import { hex, toHex } from "../pipe/vectors.ts";
import { NAME, QUIC_PORT, SERVER, serverIdentity, SnocatWorld } from "./world.ts";

interface Stream {
  readonly what: string;
  readonly opener: "snocat" | "other";
  readonly turns: readonly { readonly from: "snocat" | "other"; readonly hex: string }[];
}

const path = join(import.meta.dirname!, "..", "vectors", "snocat.json");
const recorded = JSON.parse(await readFile(path, "utf8")) as {
  readonly public_port: number;
  readonly target_port: number;
  readonly streams: readonly Stream[];
};
const streamOf = (what: string): Stream => {
  const found = recorded.streams.find((stream) => stream.what === what);
  assert.ok(found, what);
  return found;
};

/** Says what one side said, and checks that ours says what the other did, in turn. */
async function play(stream: ByteStream, { what, turns }: Stream, mine: "snocat" | "other"): Promise<Watched> {
  const watched = new Watched(stream as never);
  let expected = "";
  for (const turn of turns) {
    if (turn.from === mine) {
      watched.write(hex(turn.hex));
      continue;
    }
    expected += turn.hex;
    await watched.received(expected.length / 2);
    const heard = toHex(new Uint8Array(Buffer.concat(watched.chunks)));
    // Ours sends its greeting and its request in one piece.
    assert.equal(heard.slice(0, expected.length), expected, what);
  }
  assert.equal(watched.byteLength, expected.length / 2, what);
  return watched;
}

async function dial(runtime: Runtime): Promise<QuicCarrier> {
  const quic = await runtime.quic();
  const trust = { authoritiesPem: (await serverIdentity()).certificatePem, serverName: NAME };
  const conn = await quic.dial({ host: SERVER, port: QUIC_PORT, alpn: SNOCAT_ALPN, trust, timeoutMs: 5_000 });
  return new QuicCarrier({ conn, clock: runtime.clock, capabilities: quic.capabilities });
}

/** A side of a carrier whose streams are taken one by one. */
function taking(carrier: QuicCarrier): () => Promise<ByteStream> {
  const streams: ByteStream[] = [];
  let wake = () => {};
  carrier.attach({
    stream: (stream) => {
      streams.push(stream);
      wake();
    },
    ended() {},
  });
  return async () => {
    while (streams.length === 0) await new Promise<void>((resolve) => wake = resolve);
    return streams.shift() as ByteStream;
  };
}

describe("QuicCarrier: the bytes of snocat-cli", () => {
  const ports = { first: recorded.public_port, last: recorded.public_port };

  it("our server gives a recorded client the recorded answers", async () => {
    const world = new SnocatWorld();
    await world.run(async () => {
      await world.server({ ports, publicHost: "::" });
      const carrier = await dial(world.runtime("10.0.0.2"));
      const next = taking(carrier);
      await play(await next(), streamOf("simple-ack, answered by a client"), "snocat");
      await play(await carrier.open(), streamOf("a client's demand"), "snocat");
      const visitor = await world.visit(recorded.public_port);
      visitor.write(hex("68656c6c6f"));
      await play(await next(), streamOf("a server's proxy-tcp"), "other");
    });
  });

  it("our server answers as the recorded one", async () => {
    const world = new SnocatWorld();
    await world.run(async () => {
      await world.server({ ports, publicHost: "::" });
      const carrier = await dial(world.runtime("10.0.0.2"));
      await play(await carrier.first(), streamOf("simple-ack, begun by a server"), "other");
      carrier.attach({ stream() {}, ended() {} });
      const granted = streamOf("a server's grant and farewell");
      const lease = await play(
        await carrier.open(),
        { ...granted, turns: granted.turns.slice(0, 4) },
        "other",
      );
      await play(await carrier.open(), streamOf("a server whose range is used up"), "other");
      await play(await carrier.open(), streamOf("an address that a server doesn't know"), "other");
      lease.write(hex(granted.turns[4]!.hex));
      await lease.sawEnd;
      const said = granted.turns.filter(({ from }) => from === "snocat").map((turn) => turn.hex).join("");
      assert.equal(toHex(new Uint8Array(Buffer.concat(lease.chunks))), said);
    });
  });

  it("our client says to a server what the recorded one did", async () => {
    const world = new SnocatWorld();
    await world.run(async () => {
      const runtime = world.runtime(SERVER);
      const quic = await runtime.quic();
      const arrived = Promise.withResolvers<QuicCarrier>();
      await quic.listen({
        host: SERVER,
        port: QUIC_PORT,
        identity: await serverIdentity(),
        alpn: [SNOCAT_ALPN],
        accept: (conn) => {
          arrived.resolve(
            new QuicCarrier({ conn, clock: runtime.clock, capabilities: quic.capabilities }),
          );
        },
      });
      await world.echo("10.0.0.2", recorded.target_port, "127.0.0.1");
      const client = await world.client("10.0.0.2", {
        target: { host: "127.0.0.1", port: recorded.target_port },
      });
      const carrier = await arrived.promise;
      const next = taking(carrier);
      await play(await carrier.open(), streamOf("simple-ack, answered by a client"), "other");
      await play(await next(), streamOf("a client's demand"), "other");
      assert.deepEqual(await client.granted(), [{ host: "::", port: recorded.public_port }]);
      await play(await carrier.open(), streamOf("a client's proxy-tcp, accepted"), "other");
      await play(await carrier.open(), streamOf("an address that a client doesn't know"), "other");
    });
  });
});
