/**
 * The demand proxy's client: asks the other side for a public port, and holds its lease.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";
import type { Bytes, ByteStream, ByteStreamHandler, Clock, Timer } from "../../runtime/port.ts";
import {
  DEMAND_FAREWELL_BYTES,
  type DemandRefusal,
  encodeDemand,
  encodeGrant,
  grantFrame,
  parseGrant,
  type PublicAddress,
  refusalReason,
} from "../../wire/snocat/demand_proxy.ts";
import { DEMAND_DEADLINE_MS } from "../../wire/snocat/demand_proxy.ts";

/** Demand proxy: a lease that ends is answered by then; the port is free in any case. */
export const DEMAND_FAREWELL_MS = 2_000;

/** What {@link requestPublicPort} takes. */
interface PublicPortOptions {
  /** The stream of the request `/proxyme/0.0.1/HOST/PORT`, accepted; nothing has been read or written behind that. */
  readonly stream: ByteStream;
  readonly clock: Clock;
  /** A port that would be best; servers of snocat look at no wish. */
  readonly wishedPort?: number;
  /** Asks to be told why it is refused; servers of snocat look at no such wish either. */
  readonly reasons?: boolean;
}

/** A public port that the server keeps open for us. */
export interface PublicPort {
  /** Where it is, as the server says. A wildcard such as `::` means the server's own addresses. */
  readonly addresses: readonly PublicAddress[];
  /** Resolves when the lease is over, with what ended it; without an error, we gave the port back. Never rejects. */
  readonly ended: Promise<SallyportError | undefined>;
  /** Gives the port back. Resolves when the server has said so, or after `DEMAND_FAREWELL_MS`. */
  close(): Promise<void>;
}

/**
 * Asks for a public port.
 *
 * @throws SallyportError `limit_exceeded` when the server refuses, or `access_denied` and `address_in_use` where it says
 *   so; `deadline_exceeded` or `connection_lost` when it doesn't answer, `frame_invalid` when it answers nonsense.
 */
export function requestPublicPort(options: PublicPortOptions): Promise<PublicPort> {
  return new Promise((resolve, reject) => {
    const holder = new Holder(options, resolve, reject);
    options.stream.attach(holder);
    options.stream.write(encodeDemand(options.wishedPort, options.reasons));
  });
}

/** The client's end of a lease; it listens to the lease's stream. */
class Holder implements ByteStreamHandler {
  readonly #stream: ByteStream;
  readonly #clock: Clock;
  readonly #granted: (port: PublicPort) => void;
  readonly #refused: (error: SallyportError) => void;
  readonly #frame = grantFrame();
  readonly #farewell: number[] = [];
  readonly #over: Promise<SallyportError | undefined>;
  #end!: (error: SallyportError | undefined) => void;
  #timer: Timer;
  #state: "asking" | "held" | "closing" | "over" = "asking";

  constructor(
    { stream, clock }: PublicPortOptions,
    granted: (port: PublicPort) => void,
    refused: (error: SallyportError) => void,
  ) {
    this.#stream = stream;
    this.#clock = clock;
    this.#granted = granted;
    this.#refused = refused;
    this.#over = new Promise((resolve) => this.#end = resolve);
    this.#timer = clock.after(DEMAND_DEADLINE_MS, () => {
      this.#finish(failed("deadline_exceeded", `no answer within ${DEMAND_DEADLINE_MS} ms`), true);
    });
  }

  data(chunk: Bytes): void {
    let taken = 0;
    if (this.#state === "asking") {
      try {
        taken = this.#frame.push(chunk);
        if (this.#frame.body === undefined) return;
        if (!this.#hold(this.#frame.body)) return;
      } catch (error) {
        return this.#finish(error as SallyportError, true);
      }
    }
    for (let i = taken; i < chunk.length && this.#farewell.length < DEMAND_FAREWELL_BYTES; i++) {
      this.#farewell.push(chunk[i] as number);
    }
    if (this.#farewell.length === DEMAND_FAREWELL_BYTES) this.#finish(this.#whyTaken(), false);
  }

  end(): void {
    this.#finish(
      this.#state === "asking"
        ? failed("connection_lost", "the server ended the request without an answer")
        : new SallyportError("shutdown", "Public port lost: the server ended its lease", {
          side: "peer",
          retryable: true,
        }),
      false,
    );
  }

  drain(): void {}

  close(error?: Error): void {
    this.#finish(
      error instanceof SallyportError ? error : failed("connection_lost", "the stream broke", error),
      false,
    );
  }

  /** The answer is here; false when it is the refusal. */
  #hold(body: Bytes): boolean {
    const addresses = parseGrant(body);
    if (addresses === undefined) {
      const reason = refusalReason(body);
      const why = reason === undefined ? "the server has none free, or doesn't allow this one" : WHY[reason];
      this.#finish(failed(reason ?? "limit_exceeded", why), false);
      return false;
    }
    this.#timer.cancel();
    this.#state = "held";
    this.#granted({ addresses, ended: this.#over, close: () => this.#giveBack() });
    return true;
  }

  async #giveBack(): Promise<void> {
    if (this.#state === "held") {
      this.#state = "closing";
      this.#timer = this.#clock.after(DEMAND_FAREWELL_MS, () => this.#finish(undefined, true));
      this.#stream.write(new Uint8Array(DEMAND_FAREWELL_BYTES));
      this.#stream.closeWrite();
    }
    await this.#over;
  }

  /** snocat grants a port before it opens it; when that fails, its refusal follows the grant. */
  #whyTaken(): SallyportError {
    const late = encodeGrant(undefined).every((byte, index) => byte === this.#farewell[index]);
    return late
      ? failed("limit_exceeded", "the server couldn't open it")
      : new SallyportError("shutdown", "Public port lost: the server took it back", {
        side: "peer",
        retryable: true,
      });
  }

  #finish(error: SallyportError | undefined, hard: boolean): void {
    const before = this.#state;
    if (before === "over") return;
    this.#state = "over";
    this.#timer.cancel();
    if (before === "asking") this.#refused(error as SallyportError);
    this.#end(before === "closing" ? undefined : error);
    if (hard) this.#stream.abort(error);
    else this.#stream.release();
  }
}

const WHY: { readonly [Reason in DemandRefusal]: string } = {
  access_denied: "this one isn't allowed: the token doesn't have it, or the server's range",
  address_in_use: "this one is taken",
  limit_exceeded: "the server has none free, or no more for us",
};

function failed(
  code: "connection_lost" | "deadline_exceeded" | DemandRefusal,
  why: string,
  cause?: unknown,
): SallyportError {
  return new SallyportError(code, `Cannot get a public port: ${why}`, {
    side: "peer",
    retryable: true,
    cause,
  });
}
