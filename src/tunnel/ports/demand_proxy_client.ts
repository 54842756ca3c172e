/**
 * The demand proxy's client: requests a public port from the other side, and holds its lease.
 *
 * @module
 */
import { startsWith } from "../../bytes/bytes.ts";
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

/** Demand proxy: how long to wait for the answer when releasing a lease; the port is freed in any case. */
export const DEMAND_FAREWELL_MS = 2_000;

/** Options of {@link requestPublicPort}. */
interface PublicPortOptions {
  /** The stream of the request `/proxyme/0.0.1/HOST/PORT`, accepted; nothing has been read or written after that. */
  readonly stream: ByteStream;
  readonly clock: Clock;
  /** The preferred port; snocat's servers ignore it. */
  readonly wishedPort?: number;
  /** Requests the reason for a refusal; snocat's servers ignore this too. */
  readonly reasons?: boolean;
}

/** A public port that the server keeps open for us. */
export interface PublicPort {
  /** Its addresses, as reported by the server. A wildcard such as `::` means the server's own addresses. */
  readonly addresses: readonly PublicAddress[];
  /** Resolves when the lease is over, with the reason; without an error if we released the port. Never rejects. */
  readonly ended: Promise<SallyportError | undefined>;
  /** Releases the port. Resolves when the server confirms, or after `DEMAND_FAREWELL_MS`. */
  close(): Promise<void>;
}

/**
 * Requests a public port.
 *
 * @throws SallyportError `limit_exceeded` when the server refuses, or `access_denied` and `address_in_use` if it gives
 * that reason; `deadline_exceeded` or `connection_lost` when it doesn't answer, `frame_invalid` when its answer is
 * invalid.
 */
export function requestPublicPort(options: PublicPortOptions): Promise<PublicPort> {
  return new Promise((resolve, reject) => {
    const holder = new Holder(options, resolve, reject);
    options.stream.attach(holder);
    options.stream.write(encodeDemand(options.wishedPort, options.reasons));
  });
}

/** The client's end of a lease; handles the lease's stream. */
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
      error instanceof SallyportError ? error : failed("connection_lost", "the stream failed", error),
      false,
    );
  }

  /** Handles the answer; false if it is a refusal. */
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

  /** snocat grants a port before opening it; if opening fails, a refusal follows the grant. */
  #whyTaken(): SallyportError {
    const late = startsWith(this.#farewell, encodeGrant(undefined));
    return late
      ? failed("limit_exceeded", "the server couldn't open it")
      : new SallyportError("shutdown", "Public port lost: the server revoked it", {
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
  access_denied: "this one isn't allowed by the token or by the server's range",
  address_in_use: "this one is taken",
  limit_exceeded: "the server has none free, or none left for this client",
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
