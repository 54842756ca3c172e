/** Authentication between two ends of a session in the network in memory, and what is refused. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { generate } from "selfsigned";
import { FernetRing, generateFernetKey } from "../../src/crypto/fernet.ts";
import { SallyportError } from "../../src/errors.ts";
import { createToken } from "../../src/protocol/token/token.ts";
import { createMemoryNetwork, type MemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { Bytes, ByteStream } from "../../src/runtime/port.ts";
import { certificateAuthenticator, certificateCredential } from "../../src/tunnel/auth/certificate.ts";
import { checkMethods, proveSelf, type VerifiedPeer, verifyPeer } from "../../src/tunnel/auth/negotiate.ts";
import type { AuthContext, Authenticator, TunnelCredential } from "../../src/tunnel/auth/port.ts";
import { secretAuthenticator, secretCredential } from "../../src/tunnel/auth/secret.ts";
import { simpleAckAuthenticator, simpleAckCredential } from "../../src/tunnel/auth/simple_ack.ts";
import { tokenAuthenticator, tokenCredential } from "../../src/tunnel/auth/token.ts";
import type { Carrier } from "../../src/tunnel/carriers/carrier.ts";
import { encodeAuthOffer } from "../../src/wire/snocat/tunnel_auth.ts";
import { assertCode, bytesOf, Watched } from "../conformance/runtime_helpers.ts";
import { concat } from "../support/tunnel.ts";
import { TUNNEL_AUTH_DEADLINE_MS } from "../../src/tunnel/auth/negotiate.ts";
import { TUNNEL_AUTH_STEP_MS } from "../../src/tunnel/auth/port.ts";

/** Both ends of a connection, one as a carrier whose first stream it is; what passes is recorded. */
async function ends(network: MemoryNetwork) {
  const [near, far] = [network.runtime("10.0.0.1"), network.runtime("10.0.0.2")];
  const accepted = Promise.withResolvers<ByteStream>();
  const sent: Bytes[] = [];
  const listener = await far.listen({ host: "10.0.0.2", port: 0, accept: (conn) => accepted.resolve(conn) });
  // A connection is attached at once in the port; a carrier's stream waits.
  const conn = await network.settle(near.dial({ ...listener.address, timeoutMs: 1000 }));
  const stream: ByteStream = Object.create(conn, {
    write: {
      value: (chunk: Bytes) => {
        sent.push(chunk.slice());
        return conn.write(chunk);
      },
    },
    ...Object.fromEntries(
      (["attach", "closeWrite", "abort", "release", "pause", "resume"] as const).map((name) => [name, {
        value: (conn[name] as (...args: unknown[]) => void).bind(conn),
      }]),
    ),
  });
  const carrier = { open: () => Promise.resolve(stream) } as unknown as Carrier;
  return { carrier, stream, sent, far: await network.settle(accepted.promise) };
}

interface Outcome {
  readonly peer: VerifiedPeer | SallyportError;
  readonly proved: string | SallyportError;
  readonly sent: Bytes;
}

const failed = (error: unknown) => error as SallyportError;

async function authenticate(
  credentials: readonly TunnelCredential[],
  authenticators: readonly Authenticator[],
): Promise<Outcome> {
  const network = createMemoryNetwork();
  const { carrier, far, sent } = await ends(network);
  const context: AuthContext = {
    transport: "memory",
    remote: { host: "10.0.0.1", port: 4711 },
    clock: network.clock,
  };
  const both = Promise.all([
    verifyPeer(far, authenticators, context).catch(failed),
    proveSelf(carrier, credentials, context).catch(failed),
  ]);
  const [peer, proved] = await network.settle(both);
  await network.runUntilIdle();
  return { peer, proved, sent: concat(...sent) };
}

const ring = new FernetRing([generateFernetKey()]);
const nowMs = createMemoryNetwork().clock.wallMs();
const made = createToken(ring, { hostname: "a.test", aliases: ["b.test"], ttlSeconds: 3600, nowMs });
const token = { token: made.token, aesKey: made.claims.aesKey };
const secret = bytesOf("0123456789abcdef");
const { private: key, cert } = await generate([{ name: "commonName", value: "device" }], { keyType: "ec" });
const other = await generate([{ name: "commonName", value: "device" }], { keyType: "ec" });
const secrets = secretAuthenticator((name) => name === "device" ? { secret } : undefined);
const text = (bytes: Bytes | undefined) => new TextDecoder().decode(bytes);

/** The fingerprint that the authenticator asks about. */
async function fingerprint(): Promise<string> {
  let seen = "";
  await authenticate([certificateCredential({ certificate: cert, key })], [
    certificateAuthenticator((asked) => void (seen = asked) as undefined),
  ]);
  return seen;
}

describe("verifyPeer and proveSelf", () => {
  it("by a token gives its name, and what stands in it", async () => {
    const { peer, proved, sent } = await authenticate([tokenCredential(() => token)], [
      tokenAuthenticator({ ring }),
    ]);
    assert.ok(!(peer instanceof Error), String(peer));
    assert.deepEqual([peer.name, peer.method, proved], ["a.test", "token", "token"]);
    assert.equal(text(peer.attributes?.get("aliases")), '["b.test"]');
    assert.ok(!Buffer.from(sent).includes(Buffer.from(token.aesKey)), "its key isn't shown");
  });

  it("by a token is refused without the key that stands in it, when forged, and when expired", async () => {
    const wrong = [
      { ...token, aesKey: new Uint8Array(32) },
      {
        ...token,
        token:
          createToken(new FernetRing([generateFernetKey()]), { hostname: "a.test", ttlSeconds: 60, nowMs })
            .token,
      },
      createToken(ring, { hostname: "a.test", valid: 1, nowMs }),
    ];
    for (const [index, { token, ...more }] of wrong.entries()) {
      const aesKey = "aesKey" in more ? more.aesKey : more.claims.aesKey;
      const { peer, proved } = await authenticate([tokenCredential(() => ({ token, aesKey }))], [
        tokenAuthenticator({ ring }),
      ]);
      assertCode(peer, (["unauthorized", "token_invalid", "token_expired"] as const)[index]!);
      assertCode(proved, "unauthorized");
    }
  });

  it("by a shared secret needs the secret of that name, on both sides, and shows it to nobody", async () => {
    const { peer, proved, sent } = await authenticate([secretCredential("device", secret)], [secrets]);
    assert.ok(!(peer instanceof Error), String(peer));
    assert.deepEqual([peer.name, proved], ["device", "secret"]);
    assert.ok(!Buffer.from(sent).includes(Buffer.from(secret)));
    for (const [name, given] of [["device", bytesOf("0123456789abcdeF")], ["nobody", secret]] as const) {
      const refused = await authenticate([secretCredential(name, given)], [secrets]);
      assertCode(refused.peer, "unauthorized");
      assertCode(refused.proved, "unauthorized");
    }
    assert.throws(() => secretCredential("device", new Uint8Array(15)), { code: "config_invalid" });
  });

  it("by a shared secret can't be replayed, nor by a verifier that doesn't have it", async () => {
    const { sent } = await authenticate([secretCredential("device", secret)], [secrets]);
    const network = createMemoryNetwork();
    const { stream, far } = await ends(network);
    const context = { transport: "memory", remote: { host: "10.0.0.1", port: 1 }, clock: network.clock };
    stream.attach({ data() {}, end() {}, drain() {}, close() {} });
    stream.write(sent);
    assertCode(await network.settle(verifyPeer(far, [secrets], context).catch(failed)), "unauthorized");

    const impostor: Authenticator = {
      method: "secret",
      async verify(steps) {
        await steps.receive();
        steps.send(new Uint8Array(32));
        // The prover's own proof, back to it.
        return { name: "device", confirmation: await steps.receive() };
      },
    };
    const fooled = await authenticate([secretCredential("device", secret)], [impostor]);
    assertCode(fooled.proved, "challenge_failed");
  });

  it("by a certificate needs its key, and its fingerprint to be known", async () => {
    const known = await fingerprint();
    assert.match(known, /^[0-9a-f]{64}$/);
    const find = (asked: string) => asked === known ? { name: "device" } : undefined;
    const { peer } = await authenticate([certificateCredential({ certificate: cert, key })], [
      certificateAuthenticator(find),
    ]);
    assert.ok(!(peer instanceof Error), String(peer));
    assert.deepEqual([peer.name, text(peer.attributes?.get("fingerprint"))], ["device", known]);
    for (const [certificate, own] of [[cert, other.private], [other.cert, other.private]] as const) {
      const refused = await authenticate([certificateCredential({ certificate, key: own })], [
        certificateAuthenticator(find),
      ]);
      assertCode(refused.peer, "unauthorized");
      assertCode(refused.proved, "unauthorized");
    }
    assert.throws(() => certificateCredential({ certificate: "x", key }), { code: "config_invalid" });
  });

  it("by simple-ack takes anybody, by address", async () => {
    const { peer } = await authenticate([simpleAckCredential()], [simpleAckAuthenticator()]);
    assert.equal((peer as VerifiedPeer).name, "10.0.0.1:4711");
  });

  it("is negotiated: the first that the prover likes and the verifier takes", async () => {
    const credentials = [
      certificateCredential({ certificate: cert, key }),
      secretCredential("device", secret),
      simpleAckCredential(),
    ];
    const { peer } = await authenticate(credentials, [simpleAckAuthenticator(), secrets]);
    assert.equal((peer as VerifiedPeer).method, "secret");
    const none = await authenticate([simpleAckCredential()], [secrets, tokenAuthenticator({ ring })]);
    assertCode(none.peer, "unauthorized");
    assertCode(none.proved, "unauthorized");
    assert.throws(() => checkMethods([secrets, secrets]), { code: "config_invalid" });
    assert.throws(() => checkMethods([]), { code: "config_invalid" });
  });

  it("by an authenticator of one's own names the tunnel", async () => {
    const own: Authenticator = {
      method: "own",
      verify: async (steps) => ({
        name: text(await steps.receive()).toUpperCase(),
        attributes: new Map([["x", secret]]),
      }),
    };
    const credential: TunnelCredential = {
      method: "own",
      prove: (steps) => Promise.resolve(steps.send(bytesOf("me"))),
    };
    const { peer } = await authenticate([credential], [own]);
    assert.deepEqual([(peer as VerifiedPeer).name, (peer as VerifiedPeer).attributes?.get("x")], [
      "ME",
      secret,
    ]);
    for (const name of ["", "x".repeat(256)]) {
      const unnamed = { method: "own", verify: () => Promise.resolve({ name }) };
      assertCode((await authenticate([credential], [unnamed])).peer, "unauthorized");
    }
    const throws = { method: "own", verify: () => Promise.reject(new Error("a fault")) };
    assertCode((await authenticate([credential], [throws])).peer, "internal");
  });

  it("is timed at each step and over all, and ends with the stream", async () => {
    const hostile: [string, (stream: ByteStream) => void, number | undefined, string][] = [
      ["silence", () => {}, TUNNEL_AUTH_STEP_MS, "deadline_exceeded"],
      [
        "half an offer",
        (stream) => void stream.write(bytesOf("NAME")),
        TUNNEL_AUTH_STEP_MS,
        "deadline_exceeded",
      ],
      [
        "no step",
        (stream) => void stream.write(encodeAuthOffer(["secret"])),
        TUNNEL_AUTH_STEP_MS,
        "deadline_exceeded",
      ],
      [
        "a decision that takes for ever",
        (stream) => void stream.write(encodeAuthOffer(["slow"])),
        TUNNEL_AUTH_DEADLINE_MS,
        "deadline_exceeded",
      ],
      ["another protocol", (stream) => void stream.write(bytesOf("NYAN\0")), undefined, "request_invalid"],
      [
        "an acceptance of its own",
        (stream) => void stream.write(concat(encodeAuthOffer(["secret"]), new Uint8Array([1, 0, 0]))),
        undefined,
        "request_invalid",
      ],
      [
        "a long message",
        (stream) => void stream.write(concat(encodeAuthOffer(["secret"]), new Uint8Array([0, 255, 255]))),
        undefined,
        "request_invalid",
      ],
      ["its leaving", (stream) => stream.closeWrite(), undefined, "connection_lost"],
      ["its reset", (stream) => stream.abort(), undefined, "connection_lost"],
    ];
    const slow: Authenticator = { method: "slow", verify: () => new Promise(() => {}) };
    for (const [what, act, afterMs, code] of hostile) {
      const network = createMemoryNetwork();
      const { stream, far } = await ends(network);
      const watched = new Watched(stream as never);
      const context = { transport: "memory", remote: { host: "10.0.0.1", port: 1 }, clock: network.clock };
      const startedMs = network.clock.nowMs();
      const outcome = verifyPeer(far, [secrets, slow], context).catch(failed);
      act(stream);
      const error = await network.settle(outcome);
      assert.equal(error instanceof SallyportError && error.code, code, what);
      if (afterMs !== undefined) {
        const tookMs = network.clock.nowMs() - startedMs;
        assert.ok(Math.abs(tookMs - afterMs) < 100, `${what}: ${tookMs} ms`);
      }
      watched.abort();
      await network.runUntilIdle();
    }
  });

  it("takes its messages in any pieces", async () => {
    const network = createMemoryNetwork();
    const { stream, far } = await ends(network);
    const context = { transport: "memory", remote: { host: "10.0.0.1", port: 1 }, clock: network.clock };
    const outcome = verifyPeer(far, [simpleAckAuthenticator()], context);
    const watched = new Watched(stream as never);
    const all = concat(
      encodeAuthOffer(["simple-ack"]),
      new Uint8Array([0, 0, 64]),
      bytesOf("HELO/HELO"),
      new Uint8Array(55),
    );
    for (const byte of all) {
      stream.write(new Uint8Array([byte]));
      await network.advance(1);
    }
    assert.equal((await network.settle(outcome)).method, "simple-ack");
    watched.closeWrite();
    await network.settle(watched.sawClose);
    const expected = concat(
      new Uint8Array([0, 0, 0, 64]),
      bytesOf("HELO"),
      new Uint8Array(60),
      new Uint8Array([1, 0, 0]),
    );
    assert.deepEqual(concat(...watched.chunks), expected);
  });
});
