/**
 * Sessions for the transport suite: both ends of one in this process, over any runtime.
 *
 * @module
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { type AeadChoice, NodeAead, SodiumAead } from "../../src/crypto/aead.ts";
import { FernetRing, generateFernetKey } from "../../src/crypto/fernet.ts";
import type { CipherName } from "../../src/crypto/header_cipher.ts";
import { keyPair, loadSodium, makeKeyPair, type Sodium } from "../../src/crypto/sodium.ts";
import { type ErrorCode, type InternalError, SallyportError } from "../../src/errors.ts";
import { AnsweredFlights } from "../../src/protocol/handshake/sealed_edge.ts";
import { createToken, tryOpenToken } from "../../src/protocol/token/token.ts";
import { SendScratch } from "../../src/protocol/mux/snitun/sender.ts";
import type { Bytes, Clock, Conn, Listener, Runtime } from "../../src/runtime/port.ts";
import type { Caller, Session, SessionHandler, SessionStream } from "../../src/transport/port.ts";
import { listenCurve } from "../../src/transport/curve/accept.ts";
import { dialCurve } from "../../src/transport/curve/dial.ts";
import type { Quic, QuicConn } from "../../src/runtime/quic_port.ts";
import { listenQuic } from "../../src/transport/quic/accept.ts";
import { dialQuic } from "../../src/transport/quic/dial.ts";
import { identities } from "./quic_helpers.ts";
import { acceptSealed } from "../../src/transport/sealed/accept.ts";
import { dialSealed } from "../../src/transport/sealed/dial.ts";
import { SealedScratch } from "../../src/transport/sealed/session.ts";
import { acceptSnitun } from "../../src/transport/snitun/accept.ts";
import { dialSnitun } from "../../src/transport/snitun/dial.ts";
import type { AcceptedConnection } from "../../src/transport/admission.ts";
import { WatchedStream } from "../support/tunnel.ts";

/** A transport under test. */
export interface TransportKind {
  readonly name: string;
  /** What it promises beyond the least: each direction of a stream ends by itself. */
  readonly halfClose: boolean;
  /** It carries the visitor's port and the name that was asked for. */
  readonly fullCaller: boolean;
  /** The end of a session says why, to the other side's streams too. */
  readonly endReasons?: boolean;
  /** A reset says why. */
  readonly reasons: boolean;
  /** An IPv6 visitor's address gets through. */
  readonly ipv6: boolean;
  /** Either side can say that it wants no new streams. */
  readonly goAway: boolean;
  /** What the receiver of a stalled stream may hold of it; Infinity where the protocol can't stop the sender. */
  readonly stalledMaxBytes: number;
  /** `impatient`: what has no connection below notices a dead peer within seconds. */
  open(runtime: Runtime, host: string, impatient?: boolean): Promise<SessionPair>;
}

/** A session's handler that notes what it hears. */
export class Ear implements SessionHandler {
  readonly streams: SessionStream[] = [];
  readonly refusals: ErrorCode[] = [];
  closedStreams = 0;
  wentAway: ErrorCode | undefined;
  endedWith: SallyportError | undefined;
  readonly faults: InternalError[] = [];
  /** Hears of things too, from now on. */
  also: Partial<SessionHandler> | undefined;
  #waiting: (() => void)[] = [];

  stream(stream: SessionStream): void {
    this.streams.push(stream);
    this.also?.stream?.(stream);
    this.#wake();
  }
  streamClosed(): void {
    this.closedStreams++;
    this.also?.streamClosed?.();
    this.#wake();
  }
  streamRefused(code: ErrorCode): void {
    this.refusals.push(code);
  }
  goingAway(code: ErrorCode): void {
    assert.equal(this.wentAway, undefined, "said once");
    this.wentAway = code;
    this.#wake();
  }
  fault(error: InternalError): void {
    this.faults.push(error);
    this.#wake();
  }
  ended(error: SallyportError): void {
    assert.equal(this.endedWith, undefined, "a session ends once");
    this.endedWith = error;
    this.also?.ended?.(error);
    this.#wake();
  }
  /** Resolves when `met` holds. */
  async until(met: () => boolean): Promise<void> {
    while (!met()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
  #wake(): void {
    for (const open of this.#waiting.splice(0)) open();
  }
}

/** Both ends of a session. */
export class SessionPair {
  readonly edge: Session;
  readonly agent: Session;
  readonly edgeEar: Ear;
  readonly agentEar: Ear;
  readonly #listener: Listener;
  /** Breaks the connection below: resets it, or lets nothing through any more. */
  readonly cut: () => void;

  constructor(
    ends: { edge: Session; agent: Session; edgeEar: Ear; agentEar: Ear },
    cut: () => void,
    listener: Listener,
  ) {
    this.edge = ends.edge;
    this.agent = ends.agent;
    this.edgeEar = ends.edgeEar;
    this.agentEar = ends.agentEar;
    this.cut = cut;
    this.#listener = listener;
  }

  /** A stream, watched at both ends. */
  async join(
    caller: Caller = { address: "192.0.2.7" },
  ): Promise<{ near: WatchedStream; far: WatchedStream }> {
    const near = new WatchedStream(this.edge.open(caller));
    const count = this.agentEar.streams.length;
    await this.agentEar.until(() => this.agentEar.streams.length > count);
    return { near, far: new WatchedStream(this.agentEar.streams[count]!) };
  }

  /** The same, opened by the agent. */
  async joinFromAgent(): Promise<{ near: WatchedStream; far: WatchedStream }> {
    const near = new WatchedStream(this.agent.open({ address: "0.0.0.0" }));
    const count = this.edgeEar.streams.length;
    await this.edgeEar.until(() => this.edgeEar.streams.length > count);
    return { near, far: new WatchedStream(this.edgeEar.streams[count]!) };
  }

  /** Ends what is left. */
  async close(reason: SallyportError): Promise<void> {
    this.edge.close(reason);
    this.agent.close(reason);
    this.#listener.close();
    const ends = [[this.edge, this.edgeEar], [this.agent, this.agentEar]] as const;
    await Promise.all(
      ends.map(([session, ear]) => ear.until(() => ear.endedWith !== undefined && session.streams === 0)),
    );
  }
}

async function pair(
  runtime: Runtime,
  host: string,
  accept: (conn: Conn, admit: (session: Session) => Ear, failed: (error: unknown) => void) => void,
  dial: (port: number, admitted: (session: Session) => Ear) => Promise<Session>,
): Promise<SessionPair> {
  const edgeEar = new Ear();
  const agentEar = new Ear();
  const conns: Conn[] = [];
  const edge = Promise.withResolvers<Session>();
  const listener = await runtime.listen({
    host,
    port: 0,
    accept: (conn) => {
      conns.push(conn);
      accept(conn, (session) => {
        edge.resolve(session);
        return edgeEar;
      }, edge.reject);
    },
  });
  const agent = await dial(listener.address.port, () => agentEar);
  const cut = () => conns.forEach((conn) => conn.abort());
  return new SessionPair({ edge: await edge.promise, agent, edgeEar, agentEar }, cut, listener);
}

const NOTHING: Bytes = new Uint8Array(0);

/** A connection as an edge hands it to a transport. */
function accepted(conn: Conn, clock: Clock): AcceptedConnection {
  const { remote } = conn;
  return {
    conn,
    received: NOTHING,
    remote,
    acceptedAtMs: clock.nowMs(),
    alone: false,
    known() {},
    left() {},
  };
}

/** SniTun of a version and with a cipher. */
export function snitunKind(protocolVersion: 0 | 1 | 2, cipher: CipherName): TransportKind {
  return {
    name: `snitun ${protocolVersion}, ${cipher}`,
    halfClose: false,
    fullCaller: false,
    reasons: false,
    ipv6: protocolVersion === 2,
    goAway: false,
    stalledMaxBytes: protocolVersion === 0 ? Infinity : 24 * 1024 * 1024,
    open: (runtime, host) => {
      const ring = new FernetRing([generateFernetKey()]);
      const { clock } = runtime;
      const shared = { clock, scratch: new SendScratch() };
      const { token, claims } = createToken(ring, {
        hostname: "a.test",
        protocolVersion,
        cipher,
        ttlSeconds: 3600,
        nowMs: clock.wallMs(),
      });
      const { aesKey, aesIv } = claims;
      return pair(runtime, host, (conn, admit, failed) =>
        acceptSnitun(accepted(conn, clock), shared, {
          openToken: (bytes) => tryOpenToken(ring, bytes, clock.wallMs() / 1000),
          authorize: () => {},
          admit: (_, session) => admit(session),
          refused: failed,
        }), (port, admitted) =>
        dialSnitun({
          ...shared,
          runtime,
          host,
          port,
          token,
          aesKey,
          aesIv,
          cipher,
          protocolVersion,
          admitted,
        }));
    },
  };
}

/** The sealed transport, with each side's own libsodium. */
export function sealedKind(
  edgeKind: Sodium["name"],
  agentKind: Sodium["name"],
  aes = false,
): TransportKind {
  return {
    name: `sealed, edge ${edgeKind}, agent ${agentKind}${aes ? ", aes" : ""}`,
    halfClose: true,
    fullCaller: true,
    reasons: true,
    ipv6: true,
    goAway: true,
    stalledMaxBytes: 4 * 1024 * 1024,
    open: async (runtime, host) => {
      const ring = new FernetRing([generateFernetKey()]);
      const { clock } = runtime;
      const sodium = await loadSodium(edgeKind);
      const keys = makeKeyPair(sodium, (into) => into.set(randomBytes(into.length)));
      const { token, claims: { aesKey } } = createToken(ring, {
        hostname: "a.test",
        ttlSeconds: 3600,
        nowMs: clock.wallMs(),
      });
      const answered = new AnsweredFlights();
      const aeads = (own: Sodium): AeadChoice => ({
        small: new SodiumAead(own),
        chacha: new SodiumAead(own),
        aes: aes ? new NodeAead("aes-256-gcm") : undefined,
      });
      const edgeShared = { clock, sodium, aeads: aeads(sodium), scratch: new SealedScratch() };
      const other = await loadSodium(agentKind);
      const agentShared = { clock, sodium: other, aeads: aeads(other), scratch: new SealedScratch() };
      return await pair(
        runtime,
        host,
        (conn, admit, failed) =>
          acceptSealed(accepted(conn, clock), { ...edgeShared, keys, answered }, {
            openToken: (bytes) => tryOpenToken(ring, bytes, clock.wallMs() / 1000),
            authorize: () => {},
            admit: (_, session) => admit(session),
            refused: failed,
          }),
        (port, admitted) =>
          dialSealed({
            ...agentShared,
            runtime,
            host,
            port,
            token,
            aesKey,
            edgePublicKey: keys.publicKey,
            admitted,
          }),
      );
    },
  };
}

/** The curve transport, over UDP. */
export function curveKind(congestion: "vegas" | "newreno"): TransportKind {
  return {
    name: `curve, ${congestion}`,
    halfClose: true,
    fullCaller: true,
    endReasons: true,
    reasons: true,
    ipv6: true,
    goAway: true,
    stalledMaxBytes: 4 * 1024 * 1024,
    open: async (native, host, impatient = false) => {
      const { runtime, cut } = severable(native);
      const options = impatient ? { idleTimeoutMs: 4_000, keepAliveMs: 500 } : {};
      const ring = new FernetRing([generateFernetKey()]);
      const { clock } = runtime;
      const crypto = await loadSodium();
      const keys = keyPair(crypto, new Uint8Array(randomBytes(32)));
      const { token, claims: { aesKey } } = createToken(ring, {
        hostname: "a.test",
        ttlSeconds: 3600,
        nowMs: clock.wallMs(),
      });
      const edgeEar = new Ear();
      const agentEar = new Ear();
      const edge = Promise.withResolvers<Session>();
      const listener = await listenCurve({
        runtime,
        host,
        port: 0,
        crypto,
        keys,
        congestion,
        options,
        admission: {
          openToken: (bytes) => tryOpenToken(ring, bytes, clock.wallMs() / 1000),
          authorize: () => {},
          admit: (_, session) => {
            edge.resolve(session);
            return edgeEar;
          },
          refused: edge.reject,
        },
      });
      const { session: agent } = await dialCurve({
        runtime,
        ...listener.address,
        token,
        aesKey,
        crypto,
        edgePublicKey: keys.publicKey,
        congestion,
        options,
        admitted: () => agentEar,
      });
      // The socket is the sessions' too: it goes when they have said their last.
      const close = () =>
        void edgeEar.until(() => edgeEar.endedWith !== undefined).then(() => listener.close());
      return new SessionPair({ edge: await edge.promise, agent, edgeEar, agentEar }, cut, {
        address: listener.address,
        close,
      });
    },
  };
}

/** The QUIC transport; cutting it ends both connections below without a word. */
export function quicKind(): TransportKind {
  return {
    name: "quic",
    halfClose: true,
    fullCaller: true,
    reasons: true,
    ipv6: true,
    goAway: true,
    stalledMaxBytes: 4 * 1024 * 1024,
    open: async (native, host) => {
      const conns: QuicConn[] = [];
      const runtime: Runtime = { ...native, quic: async () => watchedQuic(await native.quic(), conns) };
      const ring = new FernetRing([generateFernetKey()]);
      const { clock } = runtime;
      const { own, fingerprint } = await identities();
      const { token, claims: { aesKey } } = createToken(ring, {
        hostname: "a.test",
        ttlSeconds: 3600,
        nowMs: clock.wallMs(),
      });
      const edgeEar = new Ear();
      const agentEar = new Ear();
      const edge = Promise.withResolvers<Session>();
      const listener = await listenQuic({
        runtime,
        host,
        port: 0,
        identity: own,
        admission: {
          openToken: (bytes) => tryOpenToken(ring, bytes, clock.wallMs() / 1000),
          authorize: () => {},
          admit: (_, session) => {
            edge.resolve(session);
            return edgeEar;
          },
          refused: edge.reject,
        },
      });
      const agent = await dialQuic({
        runtime,
        ...listener.address,
        token,
        aesKey,
        edgeFingerprint: fingerprint,
        admitted: () => agentEar,
      });
      const cut = () => {
        const why = new SallyportError("connection_lost", "Connection lost: the test has cut it", {
          side: "network",
        });
        for (const conn of conns) conn.close(why);
      };
      // The socket is the sessions' too: it goes when they have said their last.
      const over = () => edgeEar.endedWith !== undefined && agentEar.endedWith !== undefined;
      const close = () => {
        void Promise.all([edgeEar.until(over), agentEar.until(over)]).then(() => listener.close());
      };
      return new SessionPair({ edge: await edge.promise, agent, edgeEar, agentEar }, cut, {
        address: listener.address,
        close,
      });
    },
  };
}

/** A QUIC that notes its connections. */
function watchedQuic(quic: Quic, conns: QuicConn[]): Quic {
  return {
    capabilities: quic.capabilities,
    listen: (options) =>
      quic.listen({
        ...options,
        accept(conn) {
          conns.push(conn);
          options.accept(conn);
        },
      }),
    dial: async (options) => {
      const conn = await quic.dial(options);
      conns.push(conn);
      return conn;
    },
  };
}

/** A runtime whose datagrams all vanish once it has been cut. */
function severable(native: Runtime): { runtime: Runtime; cut: () => void } {
  let whole = true;
  const runtime: Runtime = {
    ...native,
    bindDatagram: async (options) => {
      const socket = await native.bindDatagram({
        ...options,
        receive: (data, from) => whole && options.receive(data, from),
      });
      return {
        address: socket.address,
        get waiting() {
          return socket.waiting;
        },
        send: (data, to) => !whole || socket.send(data, to),
        sendMany: (data, to, count) => whole ? socket.sendMany(data, to, count) : count,
        close: () => socket.close(),
      };
    },
  };
  return { runtime, cut: () => void (whole = false) };
}
