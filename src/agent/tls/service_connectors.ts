/**
 * Serves the visitors of services whose TLS is terminated in the agent: handshake, HTTP, and the connection to the
 * target.
 *
 * @module
 */
import { errorCode, errorMessage, SallyportError } from "../../errors.ts";
import { type ByteStream, DIAL_TIMEOUT_MS, type Fetch, type Runtime } from "../../runtime/port.ts";
import { BufferPool } from "../../runtime/out_queue.ts";
import { Faults } from "../../runtime/shared.ts";
import type { Logger } from "../../telemetry/log.ts";
import { type LogSampler, visitorLines } from "../../telemetry/log_sampler.ts";
import type { Caller } from "../../transport/port.ts";
import { idleTicks, splice } from "../../transport/splice.ts";
import { hostnameFault } from "../../wire/hostname.ts";
import { AlertDescription } from "../../wire/tls/tls_alert.ts";
import { coversName } from "../../wire/wildcard.ts";
import type { CertificateManager } from "../acme/certificate_manager.ts";
import type { CertificateStore } from "../acme/certificate_store.ts";
import { basicAuth } from "../gate/basic_auth.ts";
import { oidcGate } from "../gate/oidc.ts";
import type { HttpHandler } from "../http/exchange.ts";
import { hostOf, type Layer, layered, logged, ownHostsOnly, setFields } from "../http/front.ts";
import { type HttpConnection, serveHttp1 } from "../http/http1_server.ts";
import { serveHttp2 } from "../http/http2_server.ts";
import { httpProxy } from "../http/proxy.ts";
import { staticFiles } from "../http/static_files.ts";
import { proxyHeaderFor } from "../services/passthrough.ts";
import type {
  CertificateFacts,
  ServiceConnector,
  ServiceConnectors,
  ServiceParts,
  VisitorRefusal,
} from "../services/port.ts";
import type { Service } from "../services/service.ts";
import { ACME_PROTOCOL } from "../../wire/tls/client_hello.ts";
import { acmeSource, type CertificateSource, fileSource, selfSignedSource } from "./certificate_source.ts";
import { type HelloFacts, type TlsAnswer, TlsTerminator } from "./terminator.ts";
import { secureTarget } from "../../runtime/tls_client.ts";
import { turnAway } from "../turn_away.ts";

/** Options of {@link createServiceConnectors}. */
export interface ServiceConnectorsOptions {
  readonly runtime: Runtime;
  readonly log: Logger;
  /** Stores self-signed certificates. */
  readonly store: CertificateStore;
  /** Gets certificates from an authority; created when the first service needs one. */
  readonly manager: () => CertificateManager;
  /** Answers the requests of services without a target to dial, such as a fetch handler in the same process. */
  readonly handler?: HttpHandler;
  /** Sends requests to sign-in providers. Defaults to the platform's. */
  readonly fetch?: Fetch;
}

/** Creates connectors for services whose TLS is terminated here. */
export function createServiceConnectors(options: ServiceConnectorsOptions): ServiceConnectors {
  return new Connectors(options);
}

class Connectors implements ServiceConnectors {
  readonly #options: ServiceConnectorsOptions;
  readonly #faults = new Faults();
  /** One for all services: it keeps megabytes once bytes have been moved. */
  readonly #pool = new BufferPool();
  #manager: CertificateManager | undefined;

  constructor(options: ServiceConnectorsOptions) {
    this.#options = options;
    this.#faults.handle((error) => options.log.error({ error }, error.message));
  }

  terminating(service: Service, parts: ServiceParts): ServiceConnector {
    const source = this.#sourceOf(service, parts);
    return new Terminating(service, parts, source, this.#faults, this.#pool, this.#options);
  }

  close(): void {
    this.#manager?.close();
  }

  #sourceOf({ tls, names }: Service, { log, runtime: { clock } }: ServiceParts): CertificateSource {
    if (tls === "acme") return acmeSource(this.#manager ??= this.#options.manager(), names);
    if (tls === "self-signed") return selfSignedSource(names, { clock, store: this.#options.store });
    if (tls === "passthrough") throw new TypeError("a passthrough service has no TLS here");
    return fileSource(tls, { clock, log });
  }
}

class Terminating implements ServiceConnector {
  readonly #service: Service;
  readonly #parts: ServiceParts;
  readonly #sampler: LogSampler;
  readonly #source: CertificateSource;
  readonly #faults: Faults;
  readonly #terminator: TlsTerminator;
  readonly #handler: HttpHandler | undefined;
  readonly #connections = new Set<{ readonly http: HttpConnection; readonly stream: ByteStream }>();
  readonly #store: CertificateStore;
  readonly #fetch: ServiceConnectorsOptions["fetch"];
  #closeProxy = () => {};

  constructor(
    service: Service,
    parts: ServiceParts,
    source: CertificateSource,
    faults: Faults,
    pool: BufferPool,
    { handler, store, fetch }: Pick<ServiceConnectorsOptions, "handler" | "store" | "fetch">,
  ) {
    this.#service = service;
    this.#parts = parts;
    this.#source = source;
    this.#faults = faults;
    this.#store = store;
    this.#fetch = fetch;
    const { clock } = parts.runtime;
    this.#sampler = visitorLines(parts.log, clock);
    this.#terminator = new TlsTerminator({ clock, faults, pool, choose: (hello) => this.#choose(hello) });
    this.#handler = this.#makeHandler(handler);
  }

  readonly connect: ServiceConnector["connect"] = (stream) => {
    const { log, meter, failed } = this.#parts;
    this.#terminator.accept(stream, {
      ...meter === undefined ? {} : { meter },
      failed: (error) => {
        // Visitors who leave aren't a fault of the service.
        if (error.side === "peer") {
          log.debug({ visitor: stream.caller.address, reason: error.code }, error.message);
          return;
        }
        failed(error);
        this.#sampler.warn(error.code, { visitor: stream.caller.address, reason: error.code }, error.message);
      },
      secured: ({ stream: inner, alpnProtocol, serverName }) => {
        const visitor = { ...stream.caller, ...serverName === undefined ? {} : { serverName } };
        if (this.#handler === undefined) void this.#passOn(inner, visitor);
        else this.#serveHttp(inner, visitor, alpnProtocol, this.#handler);
      },
    });
  };

  refuse({ stream, alert, refused }: VisitorRefusal): void {
    const isValidated = this.#service.names.some((name) => this.#source.challengeOf(name) !== undefined);
    if (!isValidated) {
      turnAway(stream, alert);
      return refused();
    }
    const error = new SallyportError("access_denied", "Cannot serve visitor: it is no authority", {
      side: "peer",
    });
    this.#terminator.accept(stream, {
      choose: (hello) => this.#challengeFor(hello) ?? { alert, error },
      secured: ({ stream: inner }) => inner.abort(),
      failed: refused,
    });
  }

  certificates(): readonly CertificateFacts[] {
    return this.#source.facts();
  }

  async close(graceMs: number): Promise<void> {
    this.#source.close();
    for (const { http } of this.#connections) http.finish();
    if (this.#connections.size > 0 && graceMs > 0) {
      const over = Promise.withResolvers<void>();
      const timer = this.#parts.runtime.clock.after(graceMs, () => over.resolve());
      this.#emptied = () => over.resolve();
      await over.promise;
      timer.cancel();
    }
    for (const { stream } of this.#connections) stream.abort();
    this.#closeProxy();
  }

  #emptied = () => {};

  /** The answer for an authority that validates a name. */
  #challengeFor({ serverName, alpnProtocols }: HelloFacts): TlsAnswer | undefined {
    if (serverName === undefined || !alpnProtocols.includes(ACME_PROTOCOL)) return undefined;
    const challenge = this.#source.challengeOf(serverName);
    return challenge === undefined ? undefined : { challenge };
  }

  async #choose(hello: HelloFacts): Promise<TlsAnswer> {
    const { serverName, alpnProtocols } = hello;
    const refused = (alert: number, error: SallyportError) => ({ alert, error });
    if (serverName === undefined) {
      const error = new SallyportError("no_server_name", "Cannot serve visitor: it names no server", {
        side: "peer",
      });
      return refused(AlertDescription.missing_extension, error);
    }
    if (alpnProtocols.includes(ACME_PROTOCOL)) {
      const answer = this.#challengeFor(hello);
      if (answer !== undefined) return answer;
      const why = `Cannot answer certificate authority: no challenge is pending for ${serverName}`;
      const error = new SallyportError("request_refused", why, { side: "peer" });
      return refused(AlertDescription.no_application_protocol, error);
    }
    try {
      const context = await this.#source.contextOf(serverName);
      return this.#handler === undefined ? { context } : { context, alpnProtocols: ["h2", "http/1.1"] };
    } catch (thrown) {
      const error = thrown instanceof SallyportError ? thrown : new SallyportError(
        "certificate_unavailable",
        `Cannot serve visitor: ${errorMessage(thrown)}`,
        { side: "local", cause: thrown },
      );
      return refused(AlertDescription.internal_error, error);
    }
  }

  #serveHttp(stream: ByteStream, visitor: Caller, protocol: string | undefined, handler: HttpHandler): void {
    const { clock } = this.#parts.runtime;
    const { idleTimeoutMs } = this.#service;
    const closed = () => {
      this.#connections.delete(entry);
      if (this.#connections.size === 0) this.#emptied();
    };
    const options = { stream, visitor, clock, faults: this.#faults, handler, idleTimeoutMs, closed };
    const http = protocol === "h2" ? serveHttp2(options) : serveHttp1(options);
    const entry = { http, stream };
    this.#connections.add(entry);
  }

  /** Forwards the decrypted bytes to a target unchanged. */
  async #passOn(stream: ByteStream, visitor: Caller): Promise<void> {
    const { targets, runtime, failed } = this.#parts;
    const { proxyProtocol, idleTimeoutMs } = this.#service;
    stream.pause();
    try {
      const { conn } = await targets.dial();
      const header = proxyHeaderFor(proxyProtocol, visitor, conn);
      if (header !== undefined) conn.write(header);
      splice({
        visitorSide: stream,
        agentSide: conn,
        stream,
        clock: runtime.clock,
        memory: runtime.memory,
        idleTicks: idleTicks(idleTimeoutMs),
      });
      stream.resume();
    } catch (error) {
      failed(error);
      const reason = errorCode(error);
      this.#sampler.warn(reason, { visitor: visitor.address, reason }, errorMessage(error));
      stream.abort(error as Error);
    }
  }

  /** Undefined if the target takes the decrypted bytes unchanged. */
  #makeHandler(own: HttpHandler | undefined): HttpHandler | undefined {
    const { names, targets, requestHeaders, responseHeaders } = this.#service;
    const [first] = targets;
    const { clock } = this.#parts.runtime;
    let handler: HttpHandler;
    if (own !== undefined) handler = own;
    else if (first?.protocol === "tcp") return undefined;
    else if (first?.protocol === "files") handler = staticFiles(first.folder);
    else {
      const proxy = this.#makeProxy();
      this.#closeProxy = () => proxy.close();
      handler = proxy.handler;
    }
    const { accessLog } = this.#parts;
    const layers: Layer[] = [];
    if (accessLog !== undefined) {
      layers.push(logged(clock, ({ exchange, status, bytesIn, bytesOut, durationMs, error }) =>
        accessLog({
          name: hostOf(exchange.request.authority),
          visitor: exchange.visitor.address,
          // A connection may be to any of several.
          ...first === undefined || targets.length > 1 ? {} : { target: first.text },
          ...{ bytesIn, bytesOut, durationMs },
          method: exchange.request.method,
          path: exchange.request.target,
          ...status === undefined ? {} : { status },
          ...error === undefined ? {} : { error },
        })));
    }
    layers.push(
      ownHostsOnly((host) =>
        hostnameFault(host) === undefined && names.some((name) => coversName(name, host))
      ),
      ...this.#gates(),
      setFields(requestHeaders, responseHeaders),
    );
    return layered(handler, ...layers);
  }

  /** Layers that admit only authenticated visitors. */
  #gates(): Layer[] {
    const { auth, names: [service = ""] } = this.#service;
    const { log, runtime: { clock } } = this.#parts;
    const [store, fetch] = [this.#store, this.#fetch];
    return [
      ...auth?.basicAuth === undefined ? [] : [basicAuth(auth.basicAuth, clock)],
      ...auth?.oidc === undefined
        ? []
        : [oidcGate({ settings: auth.oidc, service, clock, log, store, fetch })],
    ];
  }

  #makeProxy() {
    const { runtime: { clock }, targets, log, failed } = this.#parts;
    const { proxyProtocol, idleTimeoutMs, limits } = this.#service;
    const faults = this.#faults;
    return httpProxy({
      ...{ clock, faults, log, failed },
      single: proxyProtocol !== 0,
      answerTimeoutMs: idleTimeoutMs,
      ...limits.requestBodyBytes === undefined ? {} : { requestBodyMaxBytes: limits.requestBodyBytes },
      dial: async (visitor) => {
        const { conn, target } = await targets.dial();
        // A WebSocket, or an answer, may be silent for as long as the idle timeout.
        conn.keepAlive?.();
        const header = proxyHeaderFor(proxyProtocol, visitor, conn);
        if (header !== undefined) conn.write(header);
        if (target.protocol !== "https") return conn;
        const { endpoint: { host }, verify } = target;
        try {
          return await secureTarget(conn, { clock, faults, host, verify, timeoutMs: DIAL_TIMEOUT_MS });
        } catch (error) {
          targets.report(target, error);
          throw error;
        }
      },
    });
  }
}
