/**
 * Passes a visitor's bytes to a target unchanged: the visitor's TLS, or its decrypted content.
 *
 * @module
 */
import { UNKNOWN_ADDRESS } from "../../protocol/mux/host.ts";
import { type Bytes, type Conn, DIAL_TIMEOUT_MS } from "../../runtime/port.ts";
import { Buffer } from "node:buffer";
import { errorCode, errorMessage, SallyportError } from "../../errors.ts";
import type { Logger } from "../../telemetry/log.ts";
import { type LogSampler, visitorLines } from "../../telemetry/log_sampler.ts";
import { idleTicks, Splice, type SpliceRules } from "../../transport/splice.ts";
import type { Caller, SessionStream } from "../../transport/port.ts";
import { parseIp } from "../../wire/ip/networks.ts";
import { encodeProxyHeader, type ProxyAddress } from "../../wire/proxy/proxy_header.ts";
import { AlertDescription } from "../../wire/tls/tls_alert.ts";
import { turnAway } from "../turn_away.ts";
import { type FirstBytesWatcher, watchFirstBytes } from "./first_bytes.ts";
import type { ServiceConnector, ServiceParts, TargetAttempt, TargetHandler } from "./port.ts";
import type { Service } from "./service.ts";
import type { Target } from "./target.ts";

/** Interval at which a target that doesn't speak TLS, though it should, is logged. */
export const NOT_TLS_LOG_MS = 60_000;

const CONTENT_ALERT = 21;
const CONTENT_HANDSHAKE = 22;

/** The connector of a service whose visitors' TLS is terminated at its target. */
export function passthroughConnector(service: Service, parts: ServiceParts): ServiceConnector {
  const { runtime: { clock, memory }, meter } = parts;
  const passthrough: Passthrough = {
    ...{ service, parts },
    rules: { clock, memory, meter, idleTicks: idleTicks(service.idleTimeoutMs) },
    notTls: new NotTlsLog(parts),
    sampler: visitorLines(parts.log, clock),
  };
  return { connect: (stream) => new PassedVisitor(stream, passthrough).start() };
}

/** What the visitors of one service share. */
interface Passthrough {
  readonly service: Service;
  readonly parts: ServiceParts;
  readonly rules: SpliceRules;
  readonly notTls: NotTlsLog;
  readonly sampler: LogSampler;
}

/** A visitor on its way to a target, then joined with it. */
class PassedVisitor extends Splice implements TargetHandler, FirstBytesWatcher {
  readonly #stream: SessionStream;
  readonly #passthrough: Passthrough;
  #attempt: TargetAttempt | undefined;
  #target: Target | undefined;

  constructor(stream: SessionStream, passthrough: Passthrough) {
    super(stream, passthrough.rules);
    this.#stream = stream;
    this.#passthrough = passthrough;
  }

  start(): void {
    this.#attempt = this.#passthrough.parts.targets.connect(this, true);
    this.awaitAgentSide(DIAL_TIMEOUT_MS);
  }

  reached(conn: Conn, target: Target): void {
    this.#attempt = undefined;
    this.#target = target;
    const { proxyProtocol } = this.#passthrough.service;
    const header = proxyHeaderFor(proxyProtocol, this.#stream.caller, conn);
    if (header !== undefined) conn.write(header);
    this.join(watchFirstBytes(conn, this), this.#stream);
  }

  unreachable(error: SallyportError): void {
    this.giveUp();
    const { parts, sampler } = this.#passthrough;
    const reason = errorCode(error);
    parts.failed(error);
    sampler.warn(reason, { visitor: this.#stream.caller.address, reason }, errorMessage(error));
    turnAway(this.#stream, AlertDescription.internal_error);
  }

  saw(first: Bytes | undefined): void {
    this.#passthrough.notTls.saw(this.#target!, first);
  }

  protected override late(): number {
    return this.#attempt?.late() ?? 0;
  }

  protected override done(): void {}
}

/** The PROXY header for a connection to a target; undefined if the service uses none. */
export function proxyHeaderFor(
  version: 0 | 1 | 2,
  { address, port = 0, serverName }: Caller,
  conn: Pick<Conn, "remote">,
): Bytes | undefined {
  if (version === 0) return undefined;
  const { remote } = conn;
  const bytes = parseIp(address);
  // SniTun 0 and 1 report an IPv6 visitor as 0.0.0.0, which carries no information.
  if (bytes === undefined || address === UNKNOWN_ADDRESS) return encodeProxyHeader(version);
  const source: ProxyAddress = { host: address, port };
  // The edge's address that the visitor connected to isn't known here.
  const sameFamily = parseIp(remote.host)?.length === bytes.length;
  const destination = sameFamily ? remote : { host: bytes.length === 4 ? "0.0.0.0" : "::", port: 443 };
  return encodeProxyHeader(
    version,
    source,
    destination,
    serverName === undefined ? {} : { authority: serverName },
  );
}

/** Logs that a target doesn't speak TLS, and what to do; not for every visitor. */
class NotTlsLog {
  readonly #log: Logger;
  readonly #parts: ServiceParts;
  readonly #lastMs = new Map<Target, number>();

  constructor(parts: ServiceParts) {
    this.#parts = parts;
    this.#log = parts.log;
  }

  /** Inspects a target's first bytes; undefined if it ended without any. */
  saw(target: Target, first: Bytes | undefined): void {
    const type = first?.[0];
    if (type === CONTENT_HANDSHAKE || type === CONTENT_ALERT) return;
    const nowMs = this.#parts.runtime.clock.nowMs();
    if (nowMs - (this.#lastMs.get(target) ?? -Infinity) < NOT_TLS_LOG_MS) return;
    this.#lastMs.set(target, nowMs);
    const error = notTls(target, first);
    this.#parts.targets.report(target, error);
    this.#parts.failed(error);
    this.#log.warn({ target: target.text, reason: error.code }, error.message);
  }
}

function notTls({ text }: Target, first: Bytes | undefined): SallyportError {
  const isHttp = first !== undefined && Buffer.from(first.subarray(0, 5)).toString("latin1") === "HTTP/";
  const what = first === undefined
    ? "ends the connection without a byte"
    : isHttp
    ? "answers in plain HTTP"
    : "answers in something else";
  const http = `http://${text.replace(/^(https|tcp):\/\//, "")}`;
  return new SallyportError(
    "endpoint_not_tls",
    `Cannot serve visitor: ${text} should speak TLS itself, but ${what}. ` +
      `${isHttp ? "Name it" : "If it speaks plain HTTP, name it"} as ${http}, and TLS ends in the agent`,
    { side: "config" },
  );
}
