/**
 * Reads the name that a visitor requests from its ClientHello, if the session doesn't carry it (SniTun's dialect).
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";
import type { ByteStreamHandler, Clock, Timer } from "../../runtime/port.ts";
import type { SessionStream } from "../../transport/port.ts";
import { putBack } from "../../tunnel/requests/unread_stream.ts";
import {
  ClientHelloReader,
  HELLO_DEADLINE_MS,
  type HelloOutcome,
  readClientHello,
} from "../../wire/tls/client_hello.ts";

/** A ClientHello that can't be served: the alert for the visitor, and the reason. */
interface HelloRefusal {
  readonly alert: number;
  readonly error: SallyportError;
}

/** Callbacks of {@link readHello}: one of the two is called once, or neither if the visitor has left. */
interface HelloEvents {
  /** `stream` starts from the beginning: the ClientHello is still unread. */
  named(serverName: string | undefined, stream: SessionStream): void;
  refused(refusal: HelloRefusal, stream: SessionStream): void;
}

/** Reads a stream's ClientHello, and puts it back. */
export function readHello(stream: SessionStream, clock: Clock, events: HelloEvents): void {
  stream.attach(new HelloHandler(stream, clock, events));
}

class HelloHandler implements ByteStreamHandler {
  readonly #stream: SessionStream;
  readonly #events: HelloEvents;
  /** Used if the ClientHello arrives in several pieces. */
  #reader: ClientHelloReader | undefined;
  readonly #timer: Timer;

  constructor(stream: SessionStream, clock: Clock, events: HelloEvents) {
    this.#stream = stream;
    this.#events = events;
    this.#timer = clock.after(HELLO_DEADLINE_MS, () => {
      const why = `Cannot serve visitor: no complete ClientHello within ${HELLO_DEADLINE_MS / 1000} s`;
      stream.abort(new SallyportError("deadline_exceeded", why, { side: "peer" }));
    });
  }

  data(chunk: Bytes): void {
    const outcome = this.#read(chunk);
    if (outcome.kind === "incomplete") return;
    this.#timer.cancel();
    if (outcome.kind === "refused") {
      const error = new SallyportError(outcome.reason, `Cannot serve visitor: ${outcome.detail}`, {
        side: "peer",
      });
      this.#events.refused({ alert: outcome.alert, error }, this.#stream);
      return;
    }
    const unread = putBack(this.#stream, { rest: this.#reader?.bytes ?? chunk.slice() });
    this.#events.named(outcome.serverName, unread);
  }

  /** Nearly all are complete in their first piece, and are parsed in place. */
  #read(chunk: Bytes): HelloOutcome {
    if (this.#reader === undefined) {
      const outcome = readClientHello(chunk);
      if (outcome.kind !== "incomplete") return outcome;
      this.#reader = new ClientHelloReader();
    }
    return this.#reader.push(chunk);
  }

  end(): void {
    this.#timer.cancel();
    this.#stream.abort();
  }

  drain(): void {}

  close(): void {
    this.#timer.cancel();
  }
}
