import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { loadSodium, makeKeyPair, type Sodium } from "../../src/crypto/sodium.ts";
import { parseClientAuth, parseServerHelo, PduType } from "../../src/wire/sodium/sodium_pdu.ts";
import { concat, ReceiverEnd, scripted, SenderEnd } from "./bench.ts";
import { hex, readRecorded, type RecordedSession, toHex } from "./vectors.ts";

const recorded = await readRecorded();
const serverKeys = { secretKey: hex(recorded.server_secret), publicKey: hex(recorded.server_public) };
const PING_MS = 60_000;

/** The receiver that the session was recorded with: its stream header comes from the recording. */
function receiverOf(sodium: Sodium, session: RecordedSession, pongBody?: string): ReceiverEnd {
  const date = pongBody === undefined ? { seconds: 0, nanoseconds: 0 } : dateOf(hex(pongBody));
  return new ReceiverEnd({
    sodium,
    keys: serverKeys,
    login: session.login,
    passphrase: session.passphrase,
    extended: false,
    claim: () => true,
    date: () => date,
    random: scripted(parseServerHelo(hex(session.helo.plain)).streamHeader),
  });
}

function dateOf(body: Bytes): { seconds: number; nanoseconds: number } {
  const fields = new DataView(body.buffer);
  return { seconds: Number(fields.getBigUint64(0)), nanoseconds: fields.getUint32(8) };
}

for (const kind of ["native", "wasm"] as const) {
  const sodium = await loadSodium(kind);

  for (const [index, session] of recorded.sessions.entries()) {
    const pong = session.pdus.find((pdu) => pdu.type === PduType.Pong)?.body;
    describe(`PipeReceiver: recorded session ${index} (client: ${session.client}), ${kind}`, () => {
      it("the receiver answers the recorded client byte for byte, and stores what the C server stored", () => {
        const end = receiverOf(sodium, session, pong);
        end.machine.receive(hex(session.auth.wire), 0);
        const helo = end.take();
        assert.equal(helo.length, 236);
        if (session.client_secret !== null) {
          const client = makeKeyPair(sodium, scripted(hex(session.client_secret)));
          assert.equal(toHex(sodium.openBox(helo, client)!), session.helo.plain);
        }
        for (const pdu of session.pdus) {
          if (pdu.sender === "client") end.machine.receive(hex(pdu.wire), 0);
          else assert.equal(toHex(end.take()), pdu.wire);
        }
        assert.equal(end.take().length, 0);
        end.machine.peerEnded(0);
        assert.deepEqual(end.events, ["admit", "ended uncertain"]);
        assert.equal(toHex(concat(end.sink)), session.sink);
      });

      it("the receiver takes the recorded session one byte at a time, and all at once", () => {
        const wire = hex(
          session.auth.wire +
            session.pdus.filter((pdu) => pdu.sender === "client").map((pdu) => pdu.wire).join(""),
        );
        const answers = session.pdus.filter((pdu) => pdu.sender === "server").map((pdu) => pdu.wire).join("");
        for (const step of [1, 7, wire.length]) {
          const end = receiverOf(sodium, session, pong);
          for (let at = 0; at < wire.length; at += step) end.machine.receive(wire.slice(at, at + step), 0);
          assert.equal(toHex(end.take().subarray(236)), answers);
          assert.equal(toHex(concat(end.sink)), session.sink);
        }
      });
    });
  }

  describe(`PipeSender: recorded session 0, ${kind}`, () => {
    const session = recorded.sessions[0];
    const auth = parseClientAuth(hex(session.auth.plain));
    const ping = session.pdus.find((pdu) => pdu.type === PduType.Ping)!.body;
    const sender = () =>
      new SenderEnd({
        sodium,
        serverPublicKey: serverKeys.publicKey,
        login: session.login,
        passphrase: session.passphrase,
        date: () => dateOf(hex(ping)),
        random: scripted(hex(session.client_secret!), auth.nonce, auth.streamHeader),
      });

    it("the sender says what the recorded client said, byte for byte", () => {
      const end = sender();
      end.machine.start();
      const first = end.take();
      assert.equal(first.length, 400);
      assert.equal(toHex(sodium.openBox(first, serverKeys)!), session.auth.plain);
      end.machine.receive(hex(session.helo.wire), 0);
      assert.deepEqual(end.events, ["ready Welcome."]);
      let taken = 0;
      // The empty PDU at the end is the recording client's whim: a sender of ours sends none.
      for (const pdu of session.pdus.filter((pdu) => pdu.body !== "" && !pdu.wire.startsWith("ca55c246"))) {
        if (pdu.sender === "server") {
          end.machine.receive(hex(pdu.wire), PING_MS);
          if (pdu.type === PduType.Data) {
            assert.equal(end.events.at(-1), `confirmed ${end.machine.sentBytes}`);
          }
          continue;
        }
        if (pdu.type === PduType.Data) end.machine.send(hex(pdu.body));
        else end.machine.tick(PING_MS);
        assert.equal(toHex(end.take()), pdu.wire);
        taken += pdu.type === PduType.Data ? pdu.body.length / 2 : 0;
      }
      assert.equal(end.machine.takenBytes, taken);
      end.machine.end();
      assert.equal(end.events.at(-1), "done");
    });

    it("the sender takes the recorded answers one byte at a time", () => {
      const end = sender();
      end.machine.start();
      for (const byte of hex(session.helo.wire)) end.machine.receive(new Uint8Array([byte]), 0);
      end.machine.send(hex(session.pdus[0]!.body));
      for (const byte of hex(session.pdus[1]!.wire)) end.machine.receive(new Uint8Array([byte]), 0);
      assert.deepEqual(end.events, ["ready Welcome.", `confirmed ${session.pdus[0]!.body.length / 2}`]);
    });

    it("a flipped bit anywhere in the receiver's answers ends the session", () => {
      const wire = hex(session.helo.wire + session.pdus[1]!.wire);
      for (let at = 0; at < wire.length; at++) {
        const altered = wire.slice();
        altered[at]! ^= 1 << (at & 7);
        const end = sender();
        end.machine.start();
        end.machine.receive(altered.subarray(0, 236), 0);
        if (end.machine.sendable > 0) end.machine.send(hex(session.pdus[0]!.body));
        end.machine.receive(altered.subarray(236), 0);
        assert.equal(end.events.at(-1), "failed cipher_failed");
      }
    });
  });
}

describe("PipeReceiver: recorded session, altered", () => {
  it("a flipped bit anywhere in the client's bytes is refused, and nothing after it is stored", async () => {
    const sodium = await loadSodium();
    const session = recorded.sessions[0];
    const pdus = session.pdus.filter((pdu) => pdu.sender === "client").slice(0, 2);
    const wire = hex(session.auth.wire + pdus.map((pdu) => pdu.wire).join(""));
    for (let at = 0; at < wire.length; at++) {
      const altered = wire.slice();
      altered[at]! ^= 1 << (at & 7);
      const end = receiverOf(sodium, session);
      end.machine.receive(altered, 0);
      assert.equal(end.events.at(-1), "failed cipher_failed", `byte ${at}`);
      if (at < 400) assert.equal(end.out.length, 0, "nothing is answered before authentication");
      if (at < 400 + 29 + 28) assert.equal(end.sink.length, 0);
    }
  });
});
