/**
 * The start of a snocat connection: its application protocol, and simple-ack on the first stream, which authenticates
 * no one (docs/protocols/snocat.md, Authentication).
 *
 * @module
 */
import { SallyportError } from "../errors.ts";
import type { Bytes, ByteStream, ByteStreamHandler, Clock } from "../runtime/port.ts";
import {
  checkSimpleAck,
  encodeSimpleAck,
  SIMPLE_ACK_BYTES,
  type SimpleAckMessage,
} from "../wire/snocat/simple_ack.ts";
import { openWithin } from "../tunnel/carriers/carrier.ts";
import type { QuicCarrier } from "../tunnel/carriers/quic_carrier.ts";
import { HELLO_DEADLINE_MS } from "../wire/tls/client_hello.ts";

/** snocat's application protocol (ALPN). */
export const SNOCAT_ALPN = "ms-snocat-1";

/**
 * The listening side: opens the first stream, sends the greeting, and waits for the answer. Rejects with
 * `credential_refused`, `deadline_exceeded`, or the connection's end reason.
 */
export async function greetBySimpleAck(carrier: QuicCarrier, clock: Clock): Promise<void> {
  const stream = await openWithin(carrier, { clock, timeoutMs: HELLO_DEADLINE_MS });
  stream.write(encodeSimpleAck("hello"));
  await expectSimpleAck(stream, "answer", clock);
  stream.release();
}

/** The connecting side: waits for the first stream, and answers. Rejects like {@link greetBySimpleAck}. */
export async function answerBySimpleAck(carrier: QuicCarrier, clock: Clock): Promise<void> {
  const stream = await within(carrier.first(), clock);
  await expectSimpleAck(stream, "hello", clock);
  stream.write(encodeSimpleAck("answer"));
  stream.release();
}

/** Reads the other side's message, the only one on this stream. The stream is then paused or over. */
async function expectSimpleAck(stream: ByteStream, message: SimpleAckMessage, clock: Clock): Promise<void> {
  const heard = Promise.withResolvers<void>();
  const listener = new Listener(message, heard);
  stream.attach(listener);
  try {
    await within(heard.promise, clock);
  } catch (error) {
    stream.abort(error instanceof Error ? error : undefined);
    throw error;
  }
}

class Listener implements ByteStreamHandler {
  readonly #message: SimpleAckMessage;
  readonly #heard: PromiseWithResolvers<void>;
  readonly #bytes: Bytes = new Uint8Array(SIMPLE_ACK_BYTES);
  #taken = 0;

  constructor(message: SimpleAckMessage, heard: PromiseWithResolvers<void>) {
    this.#message = message;
    this.#heard = heard;
  }

  data(chunk: Bytes): void {
    const part = chunk.subarray(0, SIMPLE_ACK_BYTES - this.#taken);
    this.#bytes.set(part, this.#taken);
    this.#taken += part.length;
    try {
      if (checkSimpleAck(this.#message, this.#bytes.subarray(0, this.#taken))) this.#heard.resolve();
    } catch (error) {
      this.#heard.reject(error);
    }
  }

  end(): void {
    this.close();
  }

  drain(): void {}

  close(error?: Error): void {
    const message = "Cannot authenticate: the peer closed before simple-ack was complete";
    this.#heard.reject(
      error ?? new SallyportError("connection_lost", message, { side: "network", retryable: true }),
    );
  }
}

async function within<T>(promise: Promise<T>, clock: Clock): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = clock.after(HELLO_DEADLINE_MS, () => {
    const message = `Cannot authenticate: the peer said nothing for ${HELLO_DEADLINE_MS / 1000} s`;
    late.reject(new SallyportError("deadline_exceeded", message, { side: "peer", retryable: true }));
  });
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    timer.cancel();
  }
}
