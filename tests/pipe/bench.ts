/**
 * Both ends of a pipe, joined by hand: what one writes waits in a queue until it is handed over.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";
import { type KeyPair, makeKeyPair, type Sodium } from "../../src/crypto/sodium.ts";
import { errorCode } from "../../src/errors.ts";
import { PipeReceiver, type PipeReceiverOptions } from "../../src/pipe/receiver.ts";
import { PipeSender, type PipeSenderOptions } from "../../src/pipe/sender.ts";

/** Deterministic bytes in place of random ones: known values first, then a counter. */
export function scripted(...values: Bytes[]): (into: Bytes) => void {
  let filler = 1;
  return (into) => {
    const next = values.shift();
    if (next === undefined) into.fill(filler++);
    else if (next.length !== into.length) {
      throw new Error(`${into.length} bytes drawn in place of ${next.length}`);
    } else into.set(next);
  };
}

/** Several chunks as one. */
export function concat(chunks: readonly Bytes[]): Bytes {
  const all = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

/** A sender with everything that it asked for, in order. */
export class SenderEnd {
  readonly machine: PipeSender;
  readonly events: string[] = [];
  out: Bytes[] = [];

  constructor(options: PipeSenderOptions, nowMs = 0) {
    this.machine = new PipeSender(options, {
      write: (bytes) => void this.out.push(bytes.slice()),
      failed: (error) => void this.events.push(`failed ${errorCode(error)}`),
      ready: (message, extended) => void this.events.push(`ready ${message}${extended ? " extended" : ""}`),
      confirmed: (taken) => void this.events.push(`confirmed ${taken}`),
      done: () => void this.events.push("done"),
    }, nowMs);
  }

  /** What was written since the last call. */
  take(): Bytes {
    const all = concat(this.out);
    this.out = [];
    return all;
  }
}

/** A receiver with everything that it asked for, in order; its sink stores, and is complete, at once unless `slow`. */
export class ReceiverEnd {
  readonly machine: PipeReceiver;
  readonly events: string[] = [];
  readonly sink: Bytes[] = [];
  slow = false;
  admits = true;
  out: Bytes[] = [];

  constructor(options: PipeReceiverOptions, nowMs = 0) {
    this.machine = new PipeReceiver(options, {
      write: (bytes) => void this.out.push(bytes.slice()),
      failed: (error) => void this.events.push(`failed ${errorCode(error)}`),
      admit: () => (this.events.push("admit"), this.admits),
      announced: (total) => void this.events.push(`announced ${total}`),
      data: (body) => {
        this.sink.push(body.slice());
        if (!this.slow) this.machine.stored(body.length);
      },
      ended: (certain) => {
        this.events.push(`ended ${certain ? "certain" : "uncertain"}`);
        if (!this.slow) this.machine.finished();
      },
    }, nowMs);
  }

  take(): Bytes {
    const all = concat(this.out);
    this.out = [];
    return all;
  }
}

/** Both ends with matching keys and credentials. */
export class Bench {
  readonly keys: KeyPair;
  readonly sender: SenderEnd;
  readonly receiver: ReceiverEnd;
  readonly claimed = new Set<string>();

  constructor(
    readonly sodium: Sodium,
    options: { sender?: Partial<PipeSenderOptions>; receiver?: Partial<PipeReceiverOptions> } = {},
  ) {
    this.keys = options.receiver?.keys ?? makeKeyPair(sodium, scripted(new Uint8Array(32).fill(77)));
    const credentials = { sodium, login: "name", passphrase: "secret" };
    this.sender = new SenderEnd({ ...credentials, serverPublicKey: this.keys.publicKey, ...options.sender });
    this.receiver = this.receive(options.receiver);
    this.sender.machine.start();
  }

  /** Another connection to the same receiver: same key, same memory of sessions. */
  receive(options: Partial<PipeReceiverOptions> = {}): ReceiverEnd {
    return new ReceiverEnd({
      sodium: this.sodium,
      login: "name",
      passphrase: "secret",
      keys: this.keys,
      claim: (id) => !this.claimed.has(String(id)) && this.claimed.add(String(id)) !== undefined,
      ...options,
    });
  }

  /** Hands over what waits, to and fro, until nothing does. */
  settle(nowMs = 0): void {
    for (let round = 0; round < 1000; round++) {
      const [up, down] = [this.sender.take(), this.receiver.take()];
      if (up.length === 0 && down.length === 0) return;
      if (up.length > 0) this.receiver.machine.receive(up, nowMs);
      if (down.length > 0) this.sender.machine.receive(down, nowMs);
    }
    throw new Error("the two don't come to rest");
  }
}
