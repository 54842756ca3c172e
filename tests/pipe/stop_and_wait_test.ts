/** A receiver and a client of version 1 that sends nothing before it has the answer, on real sockets. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { loadSodium, makeKeyPair, SEAL_BYTES } from "../../src/crypto/sodium.ts";
import { receivePipe } from "../../src/pipe/receive.ts";
import type { SinkHost } from "../../src/pipe/sink.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Address, Bytes } from "../../src/runtime/port.ts";
import { PduType, SERVER_HELO_BYTES } from "../../src/wire/sodium/sodium_pdu.ts";
import { Watched } from "../conformance/runtime_helpers.ts";
import { HandClient } from "./hand_client.ts";

const HELO_BYTES = SERVER_HELO_BYTES + SEAL_BYTES;
/** A header of 12 bytes and a body of 32, each a message of secretstream. */
const ANSWER_BYTES = 12 + 32 + 2 * 17;

describe("receivePipe", () => {
  it("answers an empty DATA PDU at once, before the next one", { timeout: 60_000 }, async () => {
    const sodium = await loadSodium();
    const runtime = await currentRuntime();
    const keys = makeKeyPair(sodium);
    const stored: Bytes[] = [];
    let listening = (_at: Address) => {};
    const at = new Promise<Address>((resolve) => listening = resolve);
    const result = receivePipe({
      ...{ runtime, sodium, keys, login: "name", passphrase: "secret", listening, claim: () => true },
      listen: { host: "127.0.0.1", port: 0 },
      sink: (host: SinkHost) =>
        Promise.resolve({
          name: "memory",
          write(chunk: Bytes) {
            stored.push(chunk.slice());
            // As the files' sinks do: they report bytes, and an empty chunk has none.
            if (chunk.length > 0) runtime.clock.soon(() => host.stored(chunk.length));
          },
          finish: () => Promise.resolve(),
          discard: () => Promise.resolve(),
        }),
    });
    const { host, port } = await at;
    const conn = new Watched(await runtime.dial({ host, port, timeoutMs: 5_000 }));
    const client = new HandClient(sodium, keys.publicKey);
    conn.write(client.auth());
    await conn.received(HELO_BYTES);
    for (const [index, body] of [[], [1, 2, 3], [], []].entries()) {
      conn.write(client.pdu(PduType.Data, Uint8Array.from(body)));
      await conn.received(HELO_BYTES + (index + 1) * ANSWER_BYTES);
    }
    assert.equal(conn.byteLength, HELO_BYTES + 4 * ANSWER_BYTES);
    conn.closeWrite();
    assert.deepEqual(await result, { bytes: 3, certain: false });
    assert.deepEqual(stored.map((chunk) => chunk.length), [0, 3, 0, 0]);
    await conn.sawClose;
  });
});
