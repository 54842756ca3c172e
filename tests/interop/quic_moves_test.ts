/** A QUIC session whose agent's address changes in the middle of a transfer, as behind a NAT that forgets. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { SallyportError } from "../../src/errors.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Address, Bytes, DatagramSocket, Runtime } from "../../src/runtime/port.ts";
import { pattern } from "../conformance/runtime_helpers.ts";
import { quicKind } from "../conformance/transport_helpers.ts";

const HOST = "127.0.0.1";
const BYTES = 600_000;
const FIRST_BYTES = 100_000;

/** Stands between agent and edge; to the edge it is the agent, at a new port after each `move`. */
class Nat {
  #front!: DatagramSocket;
  #back!: DatagramSocket;
  #agent: Address | undefined;
  readonly #runtime: Runtime;
  readonly #edge: Address;

  constructor(runtime: Runtime, edge: Address) {
    this.#runtime = runtime;
    this.#edge = edge;
  }

  async open(): Promise<Address> {
    this.#front = await this.#runtime.bindDatagram({
      host: HOST,
      port: 0,
      receive: (data: Bytes, from) => {
        this.#agent = from;
        this.#back.send(data.slice(), this.#edge);
      },
    });
    await this.move();
    return this.#front.address;
  }

  async move(): Promise<void> {
    const before = this.#back as DatagramSocket | undefined;
    this.#back = await this.#runtime.bindDatagram({
      host: HOST,
      port: 0,
      receive: (data: Bytes) => void this.#front.send(data.slice(), this.#agent!),
    });
    before?.close();
  }

  close(): void {
    this.#front.close();
    this.#back.close();
  }
}

const native = await currentRuntime();
const skip = native.name === "bun" && "Bun's QUIC may stall then (docs/protocols/quic.md)";

it("a session goes on when its agent comes from another port", { timeout: 60_000, skip }, async () => {
  let nat: Nat | undefined;
  const runtime: Runtime = {
    ...native,
    quic: async () => {
      const quic = await native.quic();
      return {
        ...quic,
        dial: async (options) => {
          nat = new Nat(native, options);
          return await quic.dial({ ...options, ...await nat.open() });
        },
      };
    },
  };
  const pair = await quicKind().open(runtime, HOST);
  const { near, far } = await pair.join();
  // The agent sends: where it has nothing to say, its next sign of life must show the edge where it is.
  for (let round = 1; round <= 3; round++) {
    const had = near.byteLength;
    const bytes = pattern(BYTES);
    far.write(bytes.subarray(0, FIRST_BYTES));
    await near.received(had + 1);
    await nat!.move();
    far.write(bytes.subarray(FIRST_BYTES));
    await near.received(had + BYTES);
  }
  assert.equal(pair.edgeEar.endedWith, undefined);
  await pair.close(new SallyportError("shutdown", "The test is over", { side: "local" }));
  nat!.close();
});
