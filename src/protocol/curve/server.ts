/**
 * The server: accepts new connections and dispatches packets to existing ones. No IO, no clock. Until a cookie is
 * verified, no state is kept and no curve operation is done (docs/protocols/curve.md).
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { Address } from "../../runtime/port.ts";
import { CurveConnection, type CurveHandler, type CurveIo } from "./connection.ts";
import { KEY_BYTES, type KeyPair, keyPair, type Sodium } from "../../crypto/sodium.ts";
import { dataEnvelope, readyEnvelope } from "./sender.ts";
import {
  type FirstKeys,
  type PacketKey,
  serverFirstKeys,
  type SessionKeys,
  sessionKeys,
} from "./key_schedule.ts";
import { MinuteKeys } from "./minute_keys.ts";
import type { CurveOptions } from "./options.ts";
import {
  COOKIE_BYTES,
  DATA_HEAD_BYTES,
  DATAGRAM_MIN_BYTES,
  idText,
  INIT_HEAD_BYTES,
  keyText,
  PacketType,
  packetType,
  readHello,
  writeCookie,
} from "../../wire/curve/curve_packet.ts";
import { CurveServerStats, CurveStats } from "./stats.ts";
import type { WorkerIds } from "./worker_ids.ts";
import { sourceOf } from "../../wire/ip/networks.ts";
import { SourceCounts } from "../../wire/ip/source_counts.ts";

/** Limits of one server: connections, connections not yet admitted, and those of one address. */
export interface ServerLimits {
  readonly connectionsMax: number;
  readonly pendingMax: number;
  readonly pendingPerSourceMax: number;
  /** INITs per address and minute that were forged or never led to an admission; beyond it all its INITs are dropped. */
  readonly failuresPerSourceMax: number;
}

/** Keys of ended connections that are remembered per minute, so that their INITs can't be replayed. */
const USED_KEYS_MAX = 65_536;

/** Dependencies of a server. */
interface CurveServerParts {
  readonly crypto: Sodium;
  readonly io: CurveIo;
  readonly options: CurveOptions;
  readonly limits: ServerLimits;
  /** The long-term key. */
  readonly keys: KeyPair;
  readonly nowMs: number;
  /** This process among the workers that share the port. Defaults to being alone. */
  readonly worker?: { readonly number: number; readonly ids: WorkerIds } | undefined;
  /** A connection is established; returns its handler. */
  accept(connection: CurveConnection): CurveHandler;
}

interface Entry {
  readonly connection: CurveConnection;
  readonly connectionKey: string;
  readonly id: string;
  readonly source: string;
  /** Opens the client's INITs until it is confirmed; a key that reveals its credential isn't kept longer than that. */
  init: PacketKey | undefined;
  readonly session: SessionKeys;
  pending: boolean;
}

/** All connections of one server. */
export class CurveServer {
  readonly stats = new CurveServerStats();
  /** Counters of connections that are over. */
  readonly past = new CurveStats();
  readonly #parts: CurveServerParts;
  readonly #minutes: MinuteKeys;
  readonly #byId = new Map<string, Entry>();
  readonly #byKey = new Map<string, Entry>();
  readonly #byConnection = new Map<CurveConnection, Entry>();
  readonly #pendingBySource = new SourceCounts();
  /** This minute's failures. Each source has presented a cookie for its address, so spoofed addresses can't fill it. */
  readonly #failuresBySource = new Map<string, number>();
  #pending = 0;
  #used = new Set<string>();
  #usedBefore = new Set<string>();
  readonly #cookie = new Uint8Array(COOKIE_BYTES);

  constructor(parts: CurveServerParts) {
    this.#parts = parts;
    this.#minutes = new MinuteKeys(parts.crypto, parts.io.random, parts.nowMs, parts.worker?.number);
  }

  /** Current connections. */
  get connections(): Iterable<CurveConnection> {
    return this.#byConnection.keys();
  }
  /** Number of connections, and of those not yet admitted. */
  get size(): number {
    return this.#byConnection.size;
  }
  get pending(): number {
    return this.#pending;
  }
  /** The long-term public key. */
  get publicKey(): Bytes {
    return this.#parts.keys.publicKey;
  }

  /** Handles a received datagram. */
  receive(packet: Bytes, from: Address, nowMs: number): void {
    switch (packetType(packet)) {
      case PacketType.data:
        return this.#data(packet, from, nowMs);
      case PacketType.hello:
        return this.#hello(packet, from, nowMs);
      case PacketType.init:
        return this.#init(packet, from, nowMs);
      default:
        this.stats.strays++;
    }
  }

  /** When {@link rotate} is due. */
  get rotateAtMs(): number {
    return this.#minutes.rotateAtMs;
  }

  /** Rotates the minute key if due. */
  rotate(nowMs: number): void {
    if (!this.#minutes.rotate(nowMs)) return;
    this.#usedBefore = this.#used;
    this.#used = new Set();
    this.#failuresBySource.clear();
  }

  /** Updates the server's records after a connection's turn or tick. True if the connection is over and removed. */
  settle(connection: CurveConnection): boolean {
    const entry = this.#byConnection.get(connection);
    if (entry === undefined) return true;
    if (entry.pending && (connection.admitted || connection.over)) this.#notPending(entry);
    if (!connection.over) return false;
    if (!connection.admitted) this.#failed(entry.source);
    this.#byConnection.delete(connection);
    this.#byId.delete(entry.id);
    this.#byKey.delete(entry.connectionKey);
    if (this.#used.size < USED_KEYS_MAX) this.#used.add(entry.connectionKey);
    void connection.gauges;
    this.past.add(connection.stats);
    this.stats.connectionsClosed++;
    return true;
  }

  #data(packet: Bytes, from: Address, nowMs: number): void {
    if (packet.length < DATA_HEAD_BYTES) return void this.stats.strays++;
    const entry = this.#byId.get(idText(packet, 4));
    if (entry === undefined) return void this.stats.strays++;
    const { connection, session } = entry;
    if (connection.confirmed) return void connection.receive(packet, from, nowMs);
    if (!connection.receive(packet, from, nowMs, session.client)) return;
    entry.init = undefined;
    connection.confirm(dataEnvelope(session.server, session.toClientId), session.client);
  }

  #hello(packet: Bytes, from: Address, nowMs: number): void {
    const connectionKey = readHello(packet);
    if (connectionKey === undefined) return void this.stats.strays++;
    this.rotate(nowMs);
    this.stats.hellos++;
    this.stats.cookiesIssued++;
    const { io, keys } = this.#parts;
    const cookie = this.#cookie;
    this.#minutes.seal(cookie, connectionKey, from, nowMs);
    const answer = { connectionKey, serverKey: keys.publicKey, minuteKey: this.#minutes.publicKey, cookie };
    io.send(writeCookie(io.slot(), answer), from);
  }

  #init(packet: Bytes, from: Address, nowMs: number): void {
    // READY has this size too, so an INIT of another size is refused to prevent amplification.
    if (packet.length !== DATAGRAM_MIN_BYTES) return void this.stats.strays++;
    this.rotate(nowMs);
    const connectionKey = packet.subarray(4, 4 + KEY_BYTES);
    const cookie = packet.subarray(4 + KEY_BYTES, 4 + KEY_BYTES + COOKIE_BYTES);
    const opened = this.#minutes.open(cookie, connectionKey, from);
    if (opened === undefined) return void this.stats.cookiesRefused++;
    const name = keyText(connectionKey);
    const known = this.#byKey.get(name);
    if (known !== undefined) return this.#repeated(known, packet, from, nowMs);
    if (this.#used.has(name) || this.#usedBefore.has(name)) return void this.stats.initsRepeated++;
    const source = sourceOf(from.host);
    const { crypto, keys, limits } = this.#parts;
    if (
      this.#byConnection.size >= limits.connectionsMax || this.#pending >= limits.pendingMax ||
      this.#pendingBySource.of(source) >= limits.pendingPerSourceMax ||
      (this.#failuresBySource.get(source) ?? 0) >= limits.failuresPerSourceMax
    ) return void this.stats.initsRefused++;
    const first = serverFirstKeys(crypto, keys, opened.minute, connectionKey);
    if (first === undefined || first.init.open(packet, INIT_HEAD_BYTES, this.#parts.io.plain) === undefined) {
      this.stats.initsRefused++;
      return this.#failed(source);
    }
    this.#open(packet, from, nowMs, connectionKey.slice(), source, first);
  }

  /** The INIT is authentic: creates a connection. */
  #open(
    packet: Bytes,
    from: Address,
    nowMs: number,
    connectionKey: Bytes,
    source: string,
    first: FirstKeys,
  ): void {
    const { crypto, io, options, worker } = this.#parts;
    const secret = new Uint8Array(KEY_BYTES);
    io.random.fill(secret);
    const ephemeral = keyPair(crypto, secret);
    const shared = crypto.sharedSecret(secret, connectionKey);
    secret.fill(0);
    if (shared === undefined) return void this.stats.initsRefused++;
    const session = sessionKeys(crypto, first, shared, ephemeral.publicKey);
    first.secret.fill(0);
    shared.fill(0);
    const idForPeer = worker?.ids.draw(io.random, worker.number);
    const id = idText(idForPeer ?? session.toServerId, 0);
    if (this.#byId.has(id)) return void this.stats.initsRefused++;
    const envelope = readyEnvelope(session.server, connectionKey, ephemeral.publicKey);
    const connection = new CurveConnection({
      role: "server",
      options,
      io,
      peer: from,
      envelope,
      idForPeer,
      nowMs,
    });
    connection.channel = session.channel;
    // If the owner throws, no state is left behind.
    connection.handler = this.#parts.accept(connection);
    const entry: Entry = {
      connection,
      connectionKey: keyText(connectionKey),
      id,
      source,
      init: first.init,
      session,
      pending: true,
    };
    this.#byConnection.set(connection, entry);
    this.#byId.set(id, entry);
    this.#byKey.set(entry.connectionKey, entry);
    this.#pending++;
    this.#pendingBySource.add(source);
    this.stats.connectionsOpened++;
    connection.receive(packet, from, nowMs, first.init);
    connection.sendHandshake();
  }

  #repeated(entry: Entry, packet: Bytes, from: Address, nowMs: number): void {
    this.stats.initsRepeated++;
    const { connection, init } = entry;
    if (connection.confirmed || init === undefined) return;
    // Only a new INIT from the client gets another READY; a copy of an old one gets nothing.
    if (connection.receive(packet, from, nowMs, init)) connection.sendHandshake();
  }

  /** A cookie is valid for two minutes; its holder must not make us compute X25519 at line rate. */
  #failed(source: string): void {
    this.#failuresBySource.set(source, (this.#failuresBySource.get(source) ?? 0) + 1);
  }

  #notPending(entry: Entry): void {
    entry.pending = false;
    this.#pending--;
    this.#pendingBySource.remove(entry.source);
  }
}
