/**
 * Authentication in a carrier's first stream: the side that connected opens it, offers its methods, and authenticates
 * by the one the other side chooses (docs/protocols/tunnels.md, Authentication). Everything has time and size limits.
 *
 * @module
 */
import { type Bytes, concat } from "../../bytes/bytes.ts";
import { internalError, SallyportError } from "../../errors.ts";
import type { ByteStream, ByteStreamHandler, Timer } from "../../runtime/port.ts";
import {
  AuthMessage,
  checkAuthMethod,
  decodeAuthMessage,
  decodeAuthOffer,
  encodeAuthMessage,
  encodeAuthOffer,
  NO_METHOD,
} from "../../wire/snocat/tunnel_auth.ts";
import { type Carrier, openWithin } from "../carriers/carrier.ts";
import type { AuthContext, Authenticator, AuthSteps, TunnelCredential, TunnelIdentity } from "./port.ts";
import { TUNNEL_AUTH_STEP_MS, TUNNEL_NAME_MAX_BYTES } from "./port.ts";

/** Tunnels: deadline for an authentication, including an operator's own look-ups. */
export const TUNNEL_AUTH_DEADLINE_MS = 15_000;

const NOTHING: Bytes = new Uint8Array(0);

/** The verified identity, and its method. */
export interface VerifiedPeer extends TunnelIdentity {
  /** The method used. */
  readonly method: string;
}

/** Checks a set of methods: unique, valid names. Throws `config_invalid`. */
export function checkMethods(methods: readonly { readonly method: string }[]): void {
  const names = methods.map(({ method }) => method);
  for (const name of names) checkAuthMethod(name);
  if (new Set(names).size === names.length && names.length > 0) return;
  const why = names.length === 0 ? "no method was given" : "a method was given twice";
  throw new SallyportError("config_invalid", `Cannot authenticate: ${why}`, { side: "config" });
}

/**
 * The verifying side: `stream` is the first opened by the other side. Rejects with `unauthorized` or a protocol error;
 * the stream is then over, and the caller should close the carrier.
 */
export async function verifyPeer(
  stream: ByteStream,
  authenticators: readonly Authenticator[],
  context: AuthContext,
): Promise<VerifiedPeer> {
  const exchange = new AuthExchange(stream, context);
  try {
    const { methods } = await exchange.take(decodeAuthOffer);
    const index = methods.findIndex((name) => authenticators.some(({ method }) => method === name));
    stream.write(new Uint8Array([index < 0 ? NO_METHOD : index]));
    if (index < 0) throw unauthorized(`it offers ${methods.join(", ")}, none of which is accepted`);
    const method = methods[index]!;
    const authenticator = authenticators.find((one) => one.method === method)!;
    const identity = await exchange.within(authenticator.verify(exchange, context));
    const { length } = new TextEncoder().encode(identity.name);
    if (length === 0 || length > TUNNEL_NAME_MAX_BYTES) throw unauthorized(`its name has ${length} bytes`);
    stream.write(encodeAuthMessage(AuthMessage.ACCEPTED, identity.confirmation ?? NOTHING));
    exchange.finish();
    return { ...identity, method };
  } catch (error) {
    exchange.refuse();
    throw internalError("authorize", error);
  }
}

/**
 * The connecting side: opens the first stream and authenticates. Resolves with the method chosen by the other side.
 * Rejects with `unauthorized` if the other side refuses, `challenge_failed` if its own proof is invalid, or with a
 * protocol error.
 */
export async function proveSelf(
  carrier: Carrier,
  credentials: readonly TunnelCredential[],
  context: AuthContext,
): Promise<string> {
  const offer = encodeAuthOffer(credentials.map(({ method }) => method));
  const stream = await openWithin(carrier, { clock: context.clock, timeoutMs: TUNNEL_AUTH_STEP_MS });
  const exchange = new AuthExchange(stream, context);
  try {
    stream.write(offer);
    const choice = (await exchange.take((bytes) =>
      bytes.length === 0 ? undefined : { size: 1, index: bytes[0]! }
    )).index;
    const credential = credentials[choice];
    if (credential === undefined) throw unauthorized("the other side accepts none of the methods");
    const confirm = await exchange.within(credential.prove(exchange, context));
    const confirmation = await exchange.acceptance();
    confirm?.(confirmation);
    exchange.finish();
    return credential.method;
  } catch (error) {
    stream.abort();
    exchange.finish();
    throw error;
  }
}

/** Splits the stream into messages; keeps at most one message beyond the current chunk. */
class AuthExchange implements ByteStreamHandler, AuthSteps {
  readonly #stream: ByteStream;
  readonly #context: AuthContext;
  readonly #deadline: Timer;
  #collected: Bytes = NOTHING;
  #over: unknown;
  /** Rechecks the collected bytes. */
  #look: (() => void) | undefined;
  readonly #failed = Promise.withResolvers<never>();

  constructor(stream: ByteStream, context: AuthContext) {
    this.#stream = stream;
    this.#context = context;
    this.#failed.promise.catch(() => {});
    this.#deadline = context.clock.after(
      TUNNEL_AUTH_DEADLINE_MS,
      () => this.#fail(late(TUNNEL_AUTH_DEADLINE_MS)),
    );
    stream.attach(this);
  }

  // Steps of a method.

  send(message: Bytes): void {
    this.#stream.write(encodeAuthMessage(AuthMessage.STEP, message));
  }

  async receive(): Promise<Bytes> {
    const { type, body } = await this.take(decodeAuthMessage);
    if (type === AuthMessage.REFUSED) throw refused();
    if (type !== AuthMessage.STEP) {
      throw new SallyportError("request_invalid", "Cannot authenticate: a step is missing", { side: "peer" });
    }
    return body;
  }

  /** The last message, with the verifying side's confirmation. */
  async acceptance(): Promise<Bytes> {
    const { type, body } = await this.take(decodeAuthMessage);
    if (type === AuthMessage.ACCEPTED) return body;
    if (type === AuthMessage.REFUSED) throw refused();
    throw new SallyportError(
      "request_invalid",
      "Cannot authenticate: the other side continues after the last step",
      { side: "peer" },
    );
  }

  /** Removes and returns the next item that `decode` finds. */
  take<Found extends { readonly size: number }>(decode: (bytes: Bytes) => Found | undefined): Promise<Found> {
    const found = new Promise<Found>((resolve, reject) => {
      this.#look = () => {
        const next = decode(this.#collected);
        if (next === undefined) return;
        this.#collected = this.#collected.subarray(next.size);
        this.#look = undefined;
        this.#stream.pause();
        resolve(next);
      };
      try {
        this.#look();
      } catch (error) {
        this.#look = undefined;
        reject(error);
      }
      if (this.#look !== undefined) this.#stream.resume();
    });
    const timer = this.#context.clock.after(TUNNEL_AUTH_STEP_MS, () => this.#fail(late(TUNNEL_AUTH_STEP_MS)));
    return this.within(found).finally(() => timer.cancel());
  }

  /** The promise's outcome, or an earlier failure of the stream or the deadline. */
  within<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#failed.promise]);
  }

  /** The exchange is complete: written bytes are still sent. */
  finish(): void {
    this.#deadline.cancel();
    this.#over ??= true;
    // Fails a method that is still running.
    this.#failed.reject(lost());
    this.#stream.release();
  }

  refuse(): void {
    this.#stream.write(encodeAuthMessage(AuthMessage.REFUSED, NOTHING));
    this.finish();
  }

  // From the stream.

  data(chunk: Bytes): void {
    if (this.#over !== undefined) return;
    this.#collected = concat([this.#collected, chunk]);
    try {
      if (this.#look === undefined) this.#stream.pause();
      else this.#look();
    } catch (error) {
      this.#fail(error);
    }
  }

  end(): void {
    this.#fail(lost());
  }
  drain(): void {}
  close(error?: Error): void {
    this.#fail(error ?? lost());
  }

  #fail(error: unknown): void {
    if (this.#over !== undefined) return;
    this.#over = error;
    this.#deadline.cancel();
    this.#failed.reject(error);
  }
}

/** The error for a refused peer; `why` is for the local log. */
export function unauthorized(why: string, cause?: unknown): SallyportError {
  return new SallyportError("unauthorized", `Cannot authenticate: ${why}`, { side: "peer", cause });
}

function refused(): SallyportError {
  return unauthorized("the other side refuses");
}

function late(ms: number): SallyportError {
  return new SallyportError("deadline_exceeded", `Cannot authenticate: not complete within ${ms / 1000} s`, {
    side: "network",
    retryable: true,
  });
}

function lost(): SallyportError {
  return new SallyportError("connection_lost", "Cannot authenticate: the other side left", {
    side: "network",
    retryable: true,
  });
}
