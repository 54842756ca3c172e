/**
 * Drives a session's state machine over any carrier: the clock, turns, and events to the owner.
 *
 * @module
 */
import type { ErrorCode, InternalError, SallyportError } from "../errors.ts";
import type { Caller, SessionHost, SessionMachine } from "../protocol/mux/host.ts";
import type { Address, Clock } from "../runtime/port.ts";
import { Alarm } from "./alarm.ts";
import type { Session, SessionHandler, SessionStream } from "./port.ts";

/** Session properties that every transport states. */
export interface SessionTraits {
  readonly transport: string;
  readonly cipher: string;
  /** See {@link Session.halfClose}. */
  readonly halfClose: boolean;
}

/** A {@link Session} around a state machine, whose host it is. */
export abstract class DrivenSession implements Session, SessionHost<SessionStream> {
  readonly transport: string;
  readonly cipher: string;
  readonly halfClose: boolean;
  protected readonly clock: Clock;
  protected readonly alarm: Alarm;
  protected handler: SessionHandler | undefined;
  readonly #turn: () => void;

  constructor(traits: SessionTraits, clock: Clock) {
    this.transport = traits.transport;
    this.cipher = traits.cipher;
    this.halfClose = traits.halfClose;
    this.clock = clock;
    this.alarm = new Alarm(clock, this);
    this.#turn = () => this.machine.turn();
  }

  protected abstract readonly machine: SessionMachine<SessionStream>;
  abstract readonly remote: Address;
  /** Closes the carrier of the session's bytes. */
  protected abstract closeConn(error: SallyportError): void;

  get protocolVersion(): number | undefined {
    return this.machine.protocolVersion;
  }
  get streams(): number {
    return this.machine.streams;
  }
  get bytesSent(): number {
    return this.machine.bytesSent;
  }
  get bytesReceived(): number {
    return this.machine.bytesReceived;
  }
  get rttMs(): number | undefined {
    return this.machine.rttMs;
  }

  open(caller: Caller): SessionStream {
    return this.machine.open(caller);
  }

  goAway(reason: SallyportError): void {
    this.machine.goAway(reason);
  }

  askToMove(): void {
    this.machine.askToMove();
  }

  close(reason: SallyportError): void {
    this.machine.end(reason);
  }

  /** The alarm has rung. */
  tick(): void {
    this.machine.tick();
  }

  // From the state machine (SessionHost).

  wake(): void {
    this.clock.soon(this.#turn);
  }

  arm(atMs: number): void {
    this.alarm.arm(atMs);
  }

  nowMs(): number {
    return this.alarm.nowMs();
  }

  opened(stream: SessionStream): void {
    this.handler?.stream(stream);
  }

  refused(code: ErrorCode): void {
    this.handler?.streamRefused(code);
  }

  closed(): void {
    this.handler?.streamClosed();
  }

  fault(error: InternalError): void {
    this.handler?.fault?.(error);
  }

  goingAway(code: ErrorCode): void {
    this.handler?.goingAway?.(code);
  }

  ended(error: SallyportError): void {
    this.alarm.stop();
    this.closeConn(error);
    this.handler?.ended(error);
  }
}
