import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { type AeadChoice, NodeAead, SodiumAead } from "../../src/crypto/aead.ts";
import { loadSodium, makeKeyPair, STREAM_EXTRA_BYTES, TAG_FINAL } from "../../src/crypto/sodium.ts";
import { errorCode, SallyportError } from "../../src/errors.ts";
import {
  encodeHeader,
  encodeReceived,
  encodeServerHelo,
  incrementNonce,
  parseClientAuth,
  PduType,
} from "../../src/wire/sodium/sodium_pdu.ts";
import { Bench, concat, scripted } from "./bench.ts";
import { HandClient } from "./hand_client.ts";
import { PIPE_AUTH_DEADLINE_MS } from "../../src/pipe/endpoint.ts";
import { PIPE_IDLE_MS } from "../../src/pipe/keepalive.ts";
import { PIPE_UNCONFIRMED_PDUS_MAX, PIPE_WINDOW_BYTES } from "../../src/pipe/receiver.ts";
import { PIPE_BODY_MAX_BYTES } from "../../src/wire/sodium/sodium_pdu.ts";
import { seedOf } from "../support/seeded.ts";

const sodium = await loadSodium();
const body = (size: number, seed = 1): Bytes => Uint8Array.from({ length: size }, (_, at) => at * seed & 255);
const aeads = (aes: boolean): AeadChoice => {
  const chacha = new SodiumAead(sodium);
  return { small: chacha, chacha, aes: aes ? new NodeAead("aes-256-gcm") : undefined };
};
const plainV1 = { sender: { extended: false } } as const;

describe("PipeSender and PipeReceiver: as the C programs speak", () => {
  it("stops and waits, and is done when the last byte is confirmed", () => {
    const bench = new Bench(sodium, plainV1);
    bench.settle();
    assert.equal(bench.sender.machine.sendable, PIPE_BODY_MAX_BYTES);
    bench.receiver.slow = true;
    bench.sender.machine.send(body(1000));
    assert.equal(bench.sender.machine.sendable, 0);
    bench.sender.machine.end();
    bench.settle();
    assert.deepEqual(bench.sender.events, ["ready Welcome."]);
    bench.receiver.machine.stored(999);
    bench.settle();
    assert.equal(bench.sender.events.length, 1);
    bench.receiver.machine.stored(1);
    bench.settle();
    assert.deepEqual(bench.sender.events, ["ready Welcome.", "confirmed 1000", "done"]);
    bench.receiver.machine.peerEnded(0);
    assert.deepEqual(bench.receiver.events, ["admit", "ended uncertain"]);
  });

  it("carries nothing at all", () => {
    const bench = new Bench(sodium, plainV1);
    bench.settle();
    bench.sender.machine.end();
    assert.deepEqual(bench.sender.events, ["ready Welcome.", "done"]);
  });

  it("answers in order to a client that doesn't wait, coalesced or not", () => {
    const bench = new Bench(sodium);
    const client = new HandClient(sodium, bench.keys.publicKey);
    const wire = [
      client.auth(),
      client.pdu(3, body(10)),
      client.pdu(4, body(16)),
      client.pdu(3, body(0)),
      client.pdu(3, body(7)),
    ];
    bench.receiver.machine.receive(concat(wire), 0);
    assert.deepEqual(bench.receiver.sink.map((part) => part.length), [10, 0, 7]);
    // HELO, then an answer of 78 bytes each, and a PONG of 62 between them.
    assert.deepEqual(bench.receiver.out.map((part) => part.length), [236, 78, 62, 78, 78]);
  });

  it("takes FINAL for an end that nobody can forge, in a header or a body", () => {
    for (
      const finals of [
        (client: HandClient) => client.seal(client.header(3, 0), TAG_FINAL),
        (client: HandClient) => client.pdu(3, body(5), TAG_FINAL),
      ]
    ) {
      const bench = new Bench(sodium);
      const client = new HandClient(sodium, bench.keys.publicKey);
      bench.receiver.machine.receive(concat([client.auth(), finals(client), body(99)]), 0);
      assert.deepEqual(bench.receiver.events, ["admit", "ended certain"]);
    }
  });

  it("a sender that fails, for whatever reason, doesn't end in order", () => {
    for (
      const fail of [
        (bench: Bench) => bench.sender.machine.tick(181_000),
        (bench: Bench) => bench.sender.machine.receive(bench.receiver.take().map((byte) => byte ^ 1), 0),
        (bench: Bench) =>
          bench.sender.machine.giveUp(new SallyportError("aborted", "over", { side: "local" })),
      ]
    ) {
      const bench = new Bench(sodium, { sender: { extended: false } });
      bench.settle();
      bench.sender.machine.send(body(10));
      bench.receiver.machine.receive(bench.sender.take(), 0);
      fail(bench);
      assert.match(bench.sender.events.at(-1)!, /^failed/);
      bench.receiver.machine.receive(bench.sender.take(), 0);
      bench.receiver.machine.peerEnded(0);
      assert.equal(bench.receiver.events.at(-1), "failed connection_lost");
    }
  });

  it("an end within a PDU is no end", () => {
    for (const cut of [1, 28, 29, 30, 50]) {
      const bench = new Bench(sodium);
      const client = new HandClient(sodium, bench.keys.publicKey);
      bench.receiver.machine.receive(concat([client.auth(), client.pdu(3, body(10)).subarray(0, cut)]), 0);
      bench.receiver.machine.peerEnded(0);
      assert.equal(bench.receiver.events.at(-1), "failed connection_lost", `cut at ${cut}`);
    }
  });
});

describe("PipeSender and PipeReceiver: two of ours", () => {
  it("changes keys, keeps a window under way, and has the end confirmed", () => {
    const bench = new Bench(sodium, { sender: { totalBytes: 300_000 } });
    bench.settle();
    assert.deepEqual(bench.receiver.events, ["admit", "announced 300000"]);
    bench.receiver.slow = true;
    for (const size of [131_070, 131_070, 37_860]) bench.sender.machine.send(body(size, 3));
    bench.sender.machine.end();
    bench.settle();
    assert.deepEqual(bench.sender.events, ["ready Welcome. extended"]);
    bench.receiver.machine.stored(300_000);
    bench.settle();
    assert.deepEqual(bench.sender.events, ["ready Welcome. extended", "confirmed 300000"]);
    bench.receiver.machine.finished();
    bench.settle();
    assert.deepEqual(
      concat(bench.receiver.sink),
      concat([131_070, 131_070, 37_860].map((size) => body(size, 3))),
    );
    assert.deepEqual(bench.receiver.events, ["admit", "announced 300000", "ended certain"]);
    assert.deepEqual(bench.sender.events, ["ready Welcome. extended", "confirmed 300000", "done"]);
    assert.equal(bench.sender.machine.takenBytes, 300_000);
  });

  it("never has more than the window under way, and goes on as it is confirmed", () => {
    const bench = new Bench(sodium);
    bench.settle();
    bench.receiver.slow = true;
    let sent = 0;
    for (let size; (size = bench.sender.machine.sendable) > 0; sent += size) {
      bench.sender.machine.send(new Uint8Array(size));
      bench.settle();
    }
    assert.equal(sent, PIPE_WINDOW_BYTES);
    bench.receiver.machine.stored(PIPE_WINDOW_BYTES / 8 - 1);
    bench.settle();
    assert.equal(bench.sender.machine.sendable, 0);
    bench.receiver.machine.stored(1);
    bench.settle();
    assert.equal(bench.sender.machine.sendable, PIPE_BODY_MAX_BYTES);
    assert.equal(bench.sender.events.at(-1), `confirmed ${PIPE_WINDOW_BYTES / 8}`);
  });

  it("tells the sender why the receiver gives up, and the other way round", () => {
    const bench = new Bench(sodium);
    bench.settle();
    bench.receiver.machine.giveUp(new SallyportError("limit_exceeded", "No space left", { side: "peer" }));
    bench.settle();
    assert.deepEqual(bench.sender.events, ["ready Welcome. extended", "failed aborted"]);

    const other = new Bench(sodium);
    other.settle();
    other.sender.machine.giveUp(new SallyportError("aborted", "Cannot read", { side: "local" }));
    other.settle();
    assert.equal(other.receiver.events.at(-1), "failed aborted");
  });

  it("an end without the mark is a loss", () => {
    const bench = new Bench(sodium);
    bench.settle();
    bench.sender.machine.send(body(10));
    bench.settle();
    bench.receiver.machine.peerEnded(0);
    bench.sender.machine.peerEnded(0);
    assert.equal(bench.receiver.events.at(-1), "failed connection_lost");
    assert.equal(bench.sender.events.at(-1), "failed connection_lost");
  });

  it("the keys of version 1 open nothing of it", () => {
    // Whoever has the server's key later computes the version 1 keys; the session isn't under them any more.
    const secret = new Uint8Array(32).fill(3);
    const bench = new Bench(sodium, { sender: { random: scripted(secret) } });
    const auth = bench.sender.take();
    bench.receiver.machine.receive(auth, 0);
    bench.sender.machine.receive(bench.receiver.take(), 0);
    const upgrade = bench.sender.take();
    bench.receiver.machine.receive(upgrade, 0);
    bench.sender.machine.receive(bench.receiver.take(), 0);
    bench.sender.machine.send(body(100));
    const wire = bench.sender.take();
    const plain = parseClientAuth(sodium.openBox(auth, bench.keys)!);
    const keys = sodium.serverKeys(bench.keys, plain.publicKey)!;
    const state = sodium.streamState(keys.rx, plain.streamHeader);
    assert.equal(sodium.pull(state, upgrade.subarray(0, 29), new Uint8Array(12)), 0);
    assert.equal(sodium.pull(state, upgrade.subarray(29), new Uint8Array(9)), 0);
    assert.equal(sodium.pull(state, wire.subarray(0, 29), new Uint8Array(12)), -1);
    bench.receiver.machine.receive(wire, 0);
    assert.deepEqual(concat(bench.receiver.sink), body(100));
  });

  it("is sealed as docs/protocols/pipe.md says, with AES-256-GCM where both would have it", () => {
    for (const [sends, receives] of [[true, true], [true, false], [false, true], [false, false]] as const) {
      // Secrets of the client and of the receiver, as they are drawn.
      const [c, s] = [new Uint8Array(32).fill(3), new Uint8Array(32).fill(8)];
      const bench = new Bench(sodium, {
        sender: { random: scripted(c), aeads: aeads(sends) },
        receiver: { random: scripted(new Uint8Array(24).fill(9), s), aeads: aeads(receives) },
      });
      const nonce = parseClientAuth(sodium.openBox(bench.sender.out[0]!, bench.keys)!).nonce;
      bench.settle();
      bench.sender.machine.send(body(100));
      bench.sender.machine.send(body(5000, 3));
      const wire = bench.sender.take();

      const pair = { secretKey: c, publicKey: sodium.publicKey(c) };
      const k1 = sodium.clientKeys(pair, bench.keys.publicKey)!.tx;
      const k2 = sodium.clientKeys(pair, sodium.publicKey(s))!.tx;
      const label = new TextEncoder().encode("sallyport pipe 2");
      const key = sodium.hash(32, concat([label, k2, nonce]), k1);
      const bulk = sodium.hash(32, new TextEncoder().encode("sallyport sealed 2 bulk"), key);
      const large = sends && receives ? new NodeAead("aes-256-gcm") : new SodiumAead(sodium);
      const open = (from: number, size: number, count: number): Bytes => {
        const [plain, boxNonce] = [new Uint8Array(size), new Uint8Array(12)];
        boxNonce[4] = count;
        const sealed = wire.subarray(from, from + size + 16);
        const opened = size < 4096
          ? sodium.open(sealed, plain, boxNonce, key)
          : large.open(sealed, plain, boxNonce, bulk);
        assert.ok(opened, `box ${count}, AES ${sends} ${receives}`);
        return plain;
      };
      assert.deepEqual(open(28, 100, 1), body(100));
      const header = new Uint8Array(12);
      encodeHeader(PduType.Data, 5000, header);
      assert.deepEqual(open(144, 12, 2), header);
      assert.deepEqual(open(172, 5000, 3), body(5000, 3));
      assert.equal(wire.length, 172 + 5016);
      bench.receiver.machine.receive(wire, 0);
      assert.deepEqual(concat(bench.receiver.sink), concat([body(100), body(5000, 3)]));
    }
  });

  it("refuses ciphers that it didn't offer, and every altered bit after the change of keys", () => {
    const bench = new Bench(sodium, { sender: { aeads: aeads(false) }, receiver: { aeads: aeads(false) } });
    const client = new HandClient(sodium, bench.keys.publicKey);
    const other = bench.receive({ extended: true });
    other.machine.receive(client.auth(), 0);
    other.machine.receive(client.pdu(0x10, Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 5, 1])), 0);
    assert.equal(other.events.at(-1), "failed frame_invalid");
    bench.settle();
    bench.sender.machine.send(body(40));
    const wire = bench.sender.take();
    for (let at = 0; at < wire.length; at++) {
      const copy = new Bench(sodium, { sender: { random: scripted() }, receiver: { random: scripted() } });
      copy.settle();
      copy.sender.machine.send(body(40));
      const altered = copy.sender.take();
      assert.equal(altered.length, wire.length);
      altered[at]! ^= 1 << at % 8;
      copy.receiver.machine.receive(altered, 0);
      assert.equal(copy.receiver.events.at(-1), "failed cipher_failed", `byte ${at}`);
      assert.deepEqual(copy.receiver.sink, []);
    }
  });

  it("delivers any bytes, however they are cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 20 }),
        fc.boolean(),
        (sizes, cuts, extended) => {
          const bench = new Bench(sodium, { sender: { extended } });
          let at = 0;
          const deliver = (wire: Bytes, to: (part: Bytes) => void): void => {
            for (let from = 0; from < wire.length;) {
              const size = cuts[at++ % cuts.length]!;
              to(wire.slice(from, from + size));
              from += size;
            }
          };
          const settle = (): void => {
            for (let round = 0; round < 50; round++) {
              deliver(bench.sender.take(), (part) => bench.receiver.machine.receive(part, 0));
              deliver(bench.receiver.take(), (part) => bench.sender.machine.receive(part, 0));
            }
          };
          settle();
          for (const size of sizes) {
            bench.sender.machine.send(body(size, size));
            settle();
          }
          bench.sender.machine.end();
          settle();
          assert.equal(bench.sender.events.at(-1), "done");
          assert.deepEqual(concat(bench.receiver.sink), concat(sizes.map((size) => body(size, size))));
        },
      ),
      { numRuns: 25, seed: seedOf(3) },
    );
  });
});

describe("PipeReceiver: under attack", () => {
  const refused = (change: (first: Bytes) => void): [string[], number] => {
    const bench = new Bench(sodium);
    bench.receiver.machine.receive(new HandClient(sodium, bench.keys.publicKey).auth(change), 0);
    return [bench.receiver.events, bench.receiver.out.length];
  };

  it("closes without an answer for a wrong login, passphrase, version, magic or key", () => {
    assert.deepEqual(refused(() => {}), [["admit"], 1]);
    assert.deepEqual(refused((first) => first[96]! ^= 1), [["failed credential_refused"], 0]);
    assert.deepEqual(refused((first) => first.fill(0, 96, 224)), [["failed credential_refused"], 0]);
    assert.deepEqual(refused((first) => first[224 + 6] = 0x73), [["failed credential_refused"], 0]);
    assert.deepEqual(refused((first) => first[15] = 0), [["failed frame_invalid"], 0]);
    assert.deepEqual(refused((first) => first[0] = 0), [["failed frame_invalid"], 0]);
    assert.deepEqual(refused((first) => first.fill(0, 64, 96)), [["failed cipher_failed"], 0]);
    const bench = new Bench(sodium, { sender: { serverPublicKey: makeKeyPair(sodium).publicKey } });
    bench.settle();
    assert.deepEqual(bench.receiver.events, ["failed cipher_failed"]);
    assert.deepEqual(bench.sender.events, []);
    bench.sender.machine.peerEnded(0);
    assert.deepEqual(bench.sender.events, ["failed credential_refused"]);
  });

  it("takes the credentials of a C client that leaves its stack behind the NUL", () => {
    assert.deepEqual(refused((first) => first.fill(0xaa, 101, 224).fill(0xbb, 231)), [["admit"], 1]);
  });

  it("refuses a session that is replayed, whole or its first message alone", () => {
    const bench = new Bench(sodium, plainV1);
    const recorded: Bytes[] = [bench.sender.out[0]!];
    bench.settle();
    bench.sender.machine.send(body(10));
    recorded.push(bench.sender.out[0]!);
    bench.settle();
    assert.equal(bench.receiver.sink.length, 1);
    for (const wire of [concat(recorded), recorded[0]!]) {
      const replayed = bench.receive();
      replayed.machine.receive(wire, 0);
      assert.deepEqual(replayed.events, ["failed key_reused"]);
      assert.equal(replayed.out.length + replayed.sink.length, 0);
    }
  });

  it("a wrong passphrase takes up none of the memory of sessions", () => {
    const bench = new Bench(sodium, { sender: { passphrase: "wrong" } });
    bench.settle();
    assert.equal(bench.claimed.size, 0);
  });

  it("refuses a second transfer while one is under way", () => {
    const bench = new Bench(sodium);
    bench.receiver.admits = false;
    bench.settle();
    assert.deepEqual(bench.receiver.events, ["admit", "failed session_refused"]);
    assert.equal(bench.receiver.out.length, 0);
  });

  it("a replayed answer doesn't fit another client", () => {
    const bench = new Bench(sodium);
    bench.receiver.machine.receive(bench.sender.take(), 0);
    const other = new Bench(sodium);
    other.sender.machine.receive(bench.receiver.take(), 0);
    assert.deepEqual(other.sender.events, ["failed cipher_failed"]);
  });

  it("an answer with another nonce is fatal", () => {
    const bench = new Bench(sodium);
    const auth = parseClientAuth(sodium.openBox(bench.sender.take(), bench.keys)!);
    const nonce = incrementNonce(incrementNonce(auth.nonce));
    const helo = encodeServerHelo({ nonce, streamHeader: new Uint8Array(24), message: new Uint8Array(128) });
    bench.sender.machine.receive(sodium.sealBox(helo, auth.publicKey), 0);
    assert.deepEqual(bench.sender.events, ["failed challenge_failed"]);
  });

  const after = (make: (client: HandClient) => Bytes): string | undefined => {
    const bench = new Bench(sodium);
    const client = new HandClient(sodium, bench.keys.publicKey);
    bench.receiver.machine.receive(client.auth(), 0);
    bench.receiver.machine.receive(make(client), 0);
    return bench.receiver.events.at(-1);
  };

  it("judges a PDU by its header, before the body comes", () => {
    assert.equal(after((client) => client.seal(client.header(3, 131_071))), "failed limit_exceeded");
    assert.equal(after((client) => client.seal(client.header(3, 131_070))), "admit");
    assert.equal(after((client) => client.seal(client.header(3, 5, 0x12345678))), "failed frame_invalid");
    assert.equal(after((client) => client.seal(client.header(99, 5))), "failed frame_invalid");
    assert.equal(after((client) => client.seal(client.header(4, 17))), "failed frame_invalid");
  });

  it("takes the largest body", () => {
    const bench = new Bench(sodium);
    const client = new HandClient(sodium, bench.keys.publicKey);
    bench.receiver.machine.receive(concat([client.auth(), client.pdu(3, body(131_070, 5))]), 0);
    assert.deepEqual(bench.receiver.sink, [body(131_070, 5)]);
  });

  it("refuses what has no place after authentication", () => {
    for (const [type, size] of [[1, 340], [2, 176], [0x11, 4], [0x12, 8], [0x13, 8], [0x14, 8]] as const) {
      assert.equal(after((client) => client.pdu(type, body(size))), "failed frame_invalid", `type ${type}`);
    }
    assert.equal(
      after((client) => concat([client.pdu(3, body(1)), client.pdu(0x10, new Uint8Array(9))])),
      "failed frame_invalid",
      "a change of keys after the first byte",
    );
  });

  it("bounds what a client that doesn't wait can pile up", () => {
    const bench = new Bench(sodium);
    const client = new HandClient(sodium, bench.keys.publicKey);
    bench.receiver.slow = true;
    bench.receiver.machine.receive(client.auth(), 0);
    // Stored at once is answered at once; the slow sink never says so.
    for (let count = 0; count < PIPE_UNCONFIRMED_PDUS_MAX; count++) {
      bench.receiver.machine.receive(client.pdu(3, body(1)), 0);
    }
    assert.equal(bench.receiver.events.at(-1), "admit");
    bench.receiver.machine.receive(client.pdu(3, body(1)), 0);
    assert.equal(bench.receiver.events.at(-1), "failed limit_exceeded");

    const large = new Bench(sodium);
    const flood = new HandClient(sodium, large.keys.publicKey);
    large.receiver.slow = true;
    large.receiver.machine.receive(flood.auth(), 0);
    for (let sent = 0; sent <= PIPE_WINDOW_BYTES; sent += 131_070) {
      large.receiver.machine.receive(flood.pdu(3, new Uint8Array(131_070)), 0);
    }
    assert.equal(large.receiver.events.at(-1), "failed limit_exceeded");
  });

  it("a sender refuses confirmations of what it hasn't sent", () => {
    for (const [sent, text] of [[10, 11], [10, 9], [0, 0], [0, 10]] as const) {
      const bench = new Bench(sodium);
      const auth = parseClientAuth(sodium.openBox(bench.sender.take(), bench.keys)!);
      const keys = sodium.serverKeys(bench.keys, auth.publicKey)!;
      const streamHeader = new Uint8Array(24).fill(4);
      const helo = { nonce: incrementNonce(auth.nonce), streamHeader, message: new Uint8Array(128) };
      bench.sender.machine.receive(sodium.sealBox(encodeServerHelo(helo), auth.publicKey), 0);
      if (sent > 0) bench.sender.machine.send(body(sent));
      const state = sodium.streamState(keys.tx, streamHeader);
      const header = new Uint8Array(12);
      encodeHeader(PduType.Data, 32, header);
      for (const plain of [header, encodeReceived(text)]) {
        const sealed = new Uint8Array(plain.length + STREAM_EXTRA_BYTES);
        sodium.push(state, plain, sealed, 0);
        bench.sender.machine.receive(sealed, 0);
      }
      assert.deepEqual(bench.sender.events, ["ready ", "failed frame_invalid"], `${sent} ${text}`);
    }
    const bench = new Bench(sodium);
    assert.throws(() => bench.sender.machine.send(body(1)), RangeError, "before the answer");
    bench.settle();
    assert.throws(() => bench.sender.machine.send(body(0)), RangeError);
    assert.throws(() => bench.receiver.machine.stored(1), RangeError);
  });

  it("shows an observer no constant and nothing but noise, over 1,000 connections", () => {
    // What both sides send first: 400 bytes one way, 236 the other.
    for (const [size, first] of [[400, true], [236, false]] as const) {
      const byteCounts = new Uint32Array(256);
      const bitCounts = new Uint32Array(size * 8);
      let bits = 0;
      for (let count = 0; count < 1000; count++) {
        const bench = new Bench(sodium, { sender: { random: sodium.randomBytes } });
        const auth = bench.sender.take();
        if (!first) bench.receiver.machine.receive(auth, 0);
        const wire = first ? auth : bench.receiver.take();
        assert.equal(wire.length, size);
        wire.forEach((byte, at) => {
          byteCounts[byte]!++;
          for (let bit = 0; bit < 8; bit++) {
            const set = byte >> bit & 1;
            bits += set;
            bitCounts[at * 8 + bit]! += set;
          }
        });
      }
      // Every limit lies more than seven standard deviations out: by chance less than once in 10^8 runs.
      const expected = size * 1000 / 256;
      const chiSquare = byteCounts.reduce((sum, seen) => sum + (seen - expected) ** 2 / expected, 0);
      assert.ok(chiSquare > 255 - 7.5 * 22.6 && chiSquare < 255 + 7.5 * 22.6 + 30, `chi-square ${chiSquare}`);
      const deviation = Math.sqrt(size * 8 * 1000 / 4);
      assert.ok(Math.abs(bits - size * 8 * 1000 / 2) < 7 * deviation, `${bits} bits set`);
      // The top bit of an X25519 key is always clear: the box's first 32 bytes are one.
      bitCounts.forEach((seen, at) => {
        if (at === 31 * 8 + 7) assert.equal(seen, 0);
        else assert.ok(Math.abs(seen - 500) < 7.5 * 15.8, `bit ${at} was set ${seen} times of 1000`);
      });
    }
  });

  it("refuses settings that can't be sent", () => {
    const code = (options: object): string => {
      try {
        new Bench(sodium, { sender: options });
      } catch (error) {
        return errorCode(error);
      }
      return "none";
    };
    assert.equal(code({ login: "x".repeat(129) }), "config_invalid");
    assert.equal(code({ passphrase: "a\0" }), "config_invalid");
    assert.equal(code({ serverPublicKey: new Uint8Array(32) }), "config_invalid");
    assert.equal(code({ serverPublicKey: new Uint8Array(31).fill(1) }), "config_invalid");
  });
});

describe("PipeSender and PipeReceiver: time", () => {
  it("gives the client 10 s to authenticate, and the server 10 s to answer", () => {
    const bench = new Bench(sodium);
    assert.equal(bench.receiver.machine.deadlineMs, PIPE_AUTH_DEADLINE_MS);
    bench.receiver.machine.receive(bench.sender.take().subarray(0, 399), 9_000);
    for (const end of [bench.receiver, bench.sender]) {
      end.machine.tick(PIPE_AUTH_DEADLINE_MS - 1);
      assert.deepEqual(end.events, []);
      end.machine.tick(PIPE_AUTH_DEADLINE_MS);
      assert.deepEqual(end.events, ["failed deadline_exceeded"]);
      assert.equal(end.machine.deadlineMs, Infinity);
    }
  });

  it("pings after 60 s, then every 60 to 119 s, and both answer", () => {
    const bench = new Bench(sodium);
    bench.settle();
    let now = 0;
    const gaps: number[] = [];
    for (let count = 0; count < 40; count++) {
      const next = bench.sender.machine.deadlineMs;
      gaps.push(next - now);
      now = next;
      bench.sender.machine.tick(now);
      assert.deepEqual(bench.sender.out.map((part) => part.length), [60]);
      bench.settle(now);
      bench.receiver.machine.tick(Math.min(now, bench.receiver.machine.deadlineMs));
      bench.settle(now);
    }
    assert.equal(gaps[0], 60_000);
    assert.ok(gaps.every((gap) => gap >= 60_000 && gap <= 119_000));
    assert.ok(new Set(gaps).size > 1);
    assert.deepEqual(bench.sender.events, ["ready Welcome. extended"]);
    assert.equal(bench.receiver.machine.over, false);
  });

  it("closes after three pings without a pong, though data comes", () => {
    const bench = new Bench(sodium);
    const client = new HandClient(sodium, bench.keys.publicKey);
    bench.receiver.machine.receive(client.auth(), 0);
    bench.receiver.take();
    let pings = 0;
    let now = 0;
    while (!bench.receiver.machine.over && now < 1_000_000) {
      now += 10_000;
      bench.receiver.machine.receive(client.pdu(3, body(1)), now);
      bench.receiver.out = [];
      bench.receiver.machine.tick(now);
      pings += bench.receiver.out.length;
    }
    assert.equal(pings, 3);
    assert.equal(bench.receiver.events.at(-1), "failed pong_missing");
    assert.ok(now >= 60_000 * 4 && now <= 60_000 + 3 * 120_000 + 10_000, `${now}`);
  });

  it("closes after 180 s without a byte", () => {
    const bench = new Bench(sodium);
    bench.settle();
    bench.sender.machine.receive(new Uint8Array(0), 5_000);
    while (!bench.sender.machine.over) bench.sender.machine.tick(bench.sender.machine.deadlineMs);
    assert.equal(bench.sender.events.at(-1), "failed session_idle");
    assert.equal(PIPE_IDLE_MS, 180_000);
  });
});
