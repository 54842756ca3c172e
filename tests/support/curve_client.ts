import type { Sodium } from "../../src/crypto/sodium.ts";
import { keyPair } from "../../src/crypto/sodium.ts";
import type { Address, ByteStreamHandler, Runtime } from "../../src/runtime/port.ts";
import { connectCurve } from "../../src/transport/curve/socket_dialer.ts";
import { text } from "../protocol/curve/support.ts";
import { pattern } from "./seeded.ts";

/** The key of every curve edge in tests of sockets. */
export function edgeKeys(crypto: Sodium) {
  return keyPair(crypto, pattern(32));
}

/** Connects to a curve edge that has {@link edgeKeys}. What the edge sends on its streams goes to `collector`. */
export function connectCollector(
  crypto: Sodium,
  runtime: Runtime,
  server: Address,
  collector: ByteStreamHandler,
) {
  return connectCurve({
    runtime,
    server,
    crypto,
    serverKey: edgeKeys(crypto).publicKey,
    credential: text("token"),
    admitted: () => ({
      stream: (stream) => {
        stream.attach(collector);
        stream.closeWrite();
      },
      streamClosed: () => {},
      closed: () => {},
    }),
  });
}
