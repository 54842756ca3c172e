/**
 * Authentication in a carrier's first stream: the side that connected opens it, offers its methods, and proves itself
 * by the one that the other side chooses (docs/protocols/tunnels.md, Authentication). Everything is timed and bounded.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
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

/** Tunnels: an authentication must be through by then, look-ups of an operator's own included. */
export const TUNNEL_AUTH_DEADLINE_MS = 15_000;

const NOTHING: Bytes = new Uint8Array(0);

/** Who was verified, and how. */
export interface VerifiedPeer extends TunnelIdentity {
  /** The method that was used. */
  readonly method: string;
}

/** Checks a set of methods: each name once, and usable. Throws `config_invalid`. */
export function checkMethods(methods: readonly { readonly method: string }[]): void {
  const names = methods.map(({ method }) => method);
  for (const name of names) checkAuthMethod(name);
  if (new Set(names).size === names.length && names.length > 0) return;
  const why = names.length === 0 ? "no method was given" : "a method was given twice";
  throw new SallyportError("config_invalid", `Cannot authenticate: ${why}`, { side: "config" });
}

/**
 * The verifying side: `stream` is the first that the other side opened. Rejects with `unauthorized`, or with what went
 * wrong in the protocol; the stream is over then, and the carrier should be.
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
    if (index < 0) throw unauthorized(`it offers ${methods.join(", ")}, and none of these is taken`);
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
 * The side that connected: opens the first stream and proves itself. Resolves with the method that the other side
 * chose. Rejects with `unauthorized` where it refuses, `challenge_failed` where it isn't to be believed itself, or with
 * what went wrong in the protocol.
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
    if (credential === undefined) throw unauthorized("the other side takes none of the methods");
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

/** Bytes of the stream as messages; never more than one is kept beyond what a chunk brings. */
class AuthExchange implements ByteStreamHandler, AuthSteps {
  readonly #stream: ByteStream;
  readonly #context: AuthContext;
  readonly #deadline: Timer;
  #collected: Bytes = NOTHING;
  #over: unknown;
  /** Looks at what has been collected, again. */
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
      "Cannot authenticate: the other side goes on behind the last step",
      { side: "peer" },
    );
  }

  /** The next thing that `decode` finds, taken off. */
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

  /** The promise's outcome, or what the stream or the deadline came to before it. */
  within<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#failed.promise]);
  }

  /** All has been said: what is written still goes out. */
  finish(): void {
    this.#deadline.cancel();
    this.#over ??= true;
    // A method that still takes steps finds out.
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
    const bytes = new Uint8Array(this.#collected.length + chunk.length);
    bytes.set(this.#collected);
    bytes.set(chunk, this.#collected.length);
    this.#collected = bytes;
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

/** The error of a peer that isn't let in; `why` is for this side's log. */
export function unauthorized(why: string, cause?: unknown): SallyportError {
  return new SallyportError("unauthorized", `Cannot authenticate: ${why}`, { side: "peer", cause });
}

function refused(): SallyportError {
  return unauthorized("the other side refuses");
}

function late(ms: number): SallyportError {
  return new SallyportError("deadline_exceeded", `Cannot authenticate: it isn't done in ${ms / 1000} s`, {
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
