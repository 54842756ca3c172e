/**
 * A tunnel: a named carrier on which each side requests streams from the other's services.
 *
 * @module
 */
import { type Caller, UNKNOWN_CALLER } from "../protocol/mux/host.ts";
import { randomUUID } from "node:crypto";
import type { TunnelAttributes } from "../cluster/registry.ts";
import { internalError, SallyportError } from "../errors.ts";
import type { Address, ByteStream, Clock } from "../runtime/port.ts";
import { reportFault } from "../telemetry/faults.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { printableName } from "../wire/hostname.ts";
import { formatTunnelAddress, parseTunnelAddress } from "../wire/snocat/tunnel_address.ts";
import { type Carrier, closeWhenQuiet, openWithin } from "./carriers/carrier.ts";
import { receiveRequest, sendRequest, TUNNEL_ANSWER_DEADLINE_MS } from "./requests/request.ts";
import { refusal, type Router, type ServeStream } from "./requests/router.ts";

/** Tunnels: deadline for a service's decision, including a dial to its target (DIAL_TIMEOUT_MS). */
export const TUNNEL_SERVICE_DEADLINE_MS = 15_000;

/** Options of {@link Tunnel}. */
export interface TunnelOptions {
  /** The connection; the tunnel attaches itself. */
  readonly carrier: Carrier;
  readonly clock: Clock;
  /** The other side's name. */
  readonly name: string;
  /** Its other attributes. Defaults to none. */
  readonly attributes?: TunnelAttributes;
  /** Serves the requests of the other side. */
  readonly router: Router;
  /** Logger. Defaults to no logging. */
  readonly log?: Logger;
  /** Metrics for faults of services. Defaults to none. */
  readonly metrics?: Metrics;
  /** Called with the reason when a request of the other side fails, for counting. */
  refused?(code: SallyportError["code"]): void;
}

/** Options of {@link Tunnel.open}, besides the address. */
export interface OpenTunnelOptions {
  /** The caller on whose behalf it is opened, if any. */
  readonly caller?: Caller;
  /** Timeout for opening the stream, and again for the answer, in milliseconds. Defaults to 20 s. */
  readonly timeoutMs?: number;
  /** Aborts the attempt. */
  readonly signal?: AbortSignal;
}

/** A tunnel to one peer. */
export class Tunnel {
  /** Random identifier of this connection. */
  readonly id: string = randomUUID();
  /** The other side's name. */
  readonly name: string;
  /** Other attributes of the other side. */
  readonly attributes: TunnelAttributes;
  /** Resolves with the reason when the tunnel is over. */
  readonly closed: Promise<SallyportError>;
  readonly #options: TunnelOptions;
  readonly #log: Logger;
  readonly #closed = Promise.withResolvers<SallyportError>();
  #leaving: SallyportError | undefined;

  constructor(options: TunnelOptions) {
    this.#options = options;
    this.name = options.name;
    this.attributes = options.attributes ?? new Map();
    this.closed = this.#closed.promise;
    this.#log = options.log ?? silentLogger;
    options.carrier.attach({
      stream: (stream) => this.#arrived(stream),
      ended: (error) => this.#closed.resolve(error),
    });
  }

  /** The transport's name: "snitun", "sealed", "curve", "quic". */
  get transport(): string {
    return this.#options.carrier.transport;
  }

  /** The other side's address; it may change. */
  get remote(): Address {
    return this.#options.carrier.remote;
  }

  /**
   * Requests a stream to an address from the other side, as text or segments. Resolves with the unread stream once its
   * service has accepted. Rejects with `request_refused`, `request_invalid`, `address_invalid`, `deadline_exceeded`,
   * `limit_exceeded`, or the tunnel's end reason.
   */
  async open(address: string | readonly string[], options: OpenTunnelOptions = {}): Promise<ByteStream> {
    const segments = typeof address === "string" ? parseTunnelAddress(address) : address;
    const { carrier, clock } = this.#options;
    const { caller, timeoutMs, signal } = options;
    signal?.throwIfAborted();
    const fault = (error: SallyportError) => void this.#fault(error);
    const patience = { clock, timeoutMs: timeoutMs ?? TUNNEL_ANSWER_DEADLINE_MS, signal, fault };
    return await sendRequest(await openWithin(carrier, { ...patience, caller }), segments, patience);
  }

  /** Stops new streams; open ones continue. */
  goAway(reason: SallyportError): void {
    this.#leaving ??= reason;
    this.#options.carrier.goAway(reason);
  }

  /** Stops new streams, and closes when its streams have ended, or after `graceMs`; resolves then. */
  async drain(reason: SallyportError, graceMs: number): Promise<void> {
    this.goAway(reason);
    void closeWhenQuiet(this.#options.carrier, this.#options.clock, reason, graceMs);
    await this.closed;
  }

  /** Closes the tunnel and its streams with this reason. */
  close(reason: SallyportError): void {
    this.#options.carrier.close(reason);
  }

  #arrived(stream: ByteStream): void {
    // Not every transport can notify the other side.
    if (this.#leaving !== undefined) return stream.abort(this.#leaving);
    void this.#serve(stream);
  }

  async #serve(stream: ByteStream & { readonly caller?: Caller }): Promise<void> {
    let address: readonly string[] | undefined;
    try {
      const request = await receiveRequest(stream, {
        clock: this.#options.clock,
        fault: (error) => void this.#fault(error),
      });
      address = request.address;
      let serve: ServeStream;
      try {
        serve = await this.#decide(request, stream.caller ?? UNKNOWN_CALLER);
      } catch (error) {
        request.refuse();
        throw error;
      }
      this.#begin(serve, request.accept());
    } catch (thrown) {
      const error = this.#fault(thrown);
      this.#options.refused?.(error.code);
      this.#log.info({
        tunnel: this.name,
        address: address === undefined ? undefined : printableName(formatTunnelAddress(address)),
        reason: error.code,
      }, error.message);
    }
  }

  /** Hands a stream to its service; the stream is aborted if the service throws. */
  #begin(serve: ServeStream, stream: ByteStream): void {
    try {
      serve(stream);
    } catch (thrown) {
      stream.abort(this.#fault(thrown));
    }
  }

  /** A service that throws anything but a typed error is at fault. */
  #fault(thrown: unknown): SallyportError {
    const error = internalError("service", thrown);
    reportFault(error, { log: this.#log, metrics: this.#options.metrics }, { tunnel: this.name });
    return error;
  }

  /** The function that takes the stream. A service that decides too late gets a stream that is over. */
  #decide(
    { address, signal }: { readonly address: readonly string[]; readonly signal: AbortSignal },
    caller: Caller,
  ): Promise<ServeStream> {
    const found = this.#options.router.find(address);
    if (found === undefined) throw refusal("no service has this address");
    const { service, rest } = found;
    const late = new AbortController();
    const stop = AbortSignal.any([signal, late.signal]);
    return new Promise((resolve, reject) => {
      let over = false;
      const settle = (tell: () => void) => {
        if (over) return;
        over = true;
        timer.cancel();
        tell();
      };
      const timer = this.#options.clock.after(TUNNEL_SERVICE_DEADLINE_MS, () => {
        const why = `Cannot accept tunnel request: no decision in ${TUNNEL_SERVICE_DEADLINE_MS / 1000} s`;
        late.abort(new SallyportError("deadline_exceeded", why, { side: "local" }));
      });
      stop.addEventListener("abort", () => settle(() => reject(stop.reason)), { once: true });
      Promise.resolve().then(() => service({ address, rest, tunnel: this, caller, signal: stop })).then(
        (serve) => {
          if (over) this.#begin(serve, OVER);
          else settle(() => resolve(serve));
        },
        (error) => settle(() => reject(error)),
      );
    });
  }
}

/** The closed stream given to a service that decided too late. */
const OVER: ByteStream = {
  attach: (handler) => queueMicrotask(() => handler.close(refusal("the decision came too late"))),
  write: () => true,
  closeWrite() {},
  abort() {},
  release() {},
  pause() {},
  resume() {},
  bufferedBytes: 0,
};
