/**
 * The table of an agent's services: finds the service for a visitor's name, applies its access list and limits, and
 * passes the stream to the service's connector.
 *
 * @module
 */
import { Roster } from "../../bytes/roster.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import type { Runtime, Timer } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import { type LogSampler, visitorLines } from "../../telemetry/log_sampler.ts";
import type { ByteMeter } from "../../transport/splice.ts";
import type { SessionStream } from "../../transport/port.ts";
import { sourceOf } from "../../wire/ip/networks.ts";
import { SourceCounts } from "../../wire/ip/source_counts.ts";
import { HELLO_DEADLINE_MS } from "../../wire/tls/client_hello.ts";
import { AlertDescription } from "../../wire/tls/tls_alert.ts";
import { wildcardOf } from "../../wire/wildcard.ts";
import { AccessList } from "../access_list.ts";
import type { Connector } from "../connector.ts";
import { turnAway } from "../turn_away.ts";
import { HealthChecks } from "./health.ts";
import { passthroughConnector } from "./passthrough.ts";
import type {
  AccessEntry,
  CertificateFacts,
  ServiceConnector,
  ServiceConnectors,
  ServiceParts,
} from "./port.ts";
import { endsTlsHere, type Service } from "./service.ts";
import { type TargetFacts, TargetPool } from "./targets.ts";
import { Visitor, type VisitorReception, type VisitorService } from "./visitor.ts";

/** A visitor of a changed service may continue for this long. */
export const CHANGED_SERVICE_GRACE_MS = 30_000;
/** Failures of visitors that `agent status` shows per service. */
export const SERVICE_ERRORS_MAX = 5;

/** Options of {@link ServiceTable}. */
export interface ServiceTableOptions {
  readonly runtime: Runtime;
  readonly log: Logger;
  /** Counts the bytes of passthrough services. */
  readonly meter?: ByteMeter;
  /** For services whose TLS is terminated in the agent; when absent, they are refused with `not_supported`. */
  readonly connectors?: ServiceConnectors;
  /** Opens a service's access log. Absent: none is written. */
  readonly accessLog?: (service: Service) => ((entry: AccessEntry) => void) | undefined;
}

/** Result of {@link ServiceTable.apply}, by the services' first names. */
interface AppliedServices {
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
  readonly kept: readonly string[];
}

/** A failure at a service. */
interface ServiceFailure {
  /** Milliseconds since 1970. */
  readonly atMs: number;
  readonly message: string;
}

/** A service's status in `agent status`. */
export interface ServiceFacts {
  readonly names: readonly string[];
  readonly tls: string;
  readonly targets: readonly TargetFacts[];
  readonly certificates: readonly CertificateFacts[];
  readonly visitors: number;
  readonly visitorsTotal: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly errors: readonly ServiceFailure[];
}

/** Finds services by name, and serves their visitors. */
export class ServiceTable {
  readonly #options: ServiceTableOptions;
  /** For lines that visitors can cause at will. */
  readonly #sampler: LogSampler;
  #byName = new Map<string, Entry>();
  #entries: readonly Entry[] = [];
  /** Visitors whose ClientHello is awaited. */
  readonly #nameless = new Roster<"visitorPlace", Visitor>("visitorPlace");
  #helloTimer: Timer | undefined;
  readonly #reception: VisitorReception = {
    named: (visitor, name) => this.#named(visitor, name),
    refused: (visitor, alert, error) => this.#refuse(visitor, alert, error),
    gone: (visitor) => void this.#nameless.delete(visitor),
  };

  constructor(options: ServiceTableOptions) {
    this.#options = options;
    this.#sampler = visitorLines(options.log, options.runtime.clock);
  }

  /** Serves every visitor of the agent. */
  readonly connector: Connector = (stream) => this.#serve(stream);

  /** The services in their order. */
  get services(): readonly Service[] {
    return this.#entries.map(({ service }) => service);
  }

  /** Every name of every service, in order, without duplicates. */
  get names(): readonly string[] {
    return [...this.#byName.keys()];
  }

  /** The certificates of services whose TLS is terminated here. */
  get certificates(): readonly CertificateFacts[] {
    return this.#entries.flatMap((entry) => entry.certificates);
  }

  /** Status of each service. */
  get facts(): readonly ServiceFacts[] {
    return this.#entries.map((entry) => entry.facts);
  }

  /** The service of a canonical host name: the exact name, else the wildcard that covers it. */
  find(name: string): Service | undefined {
    return this.#find(name)?.service;
  }

  /**
   * Replaces the services. Visitors of an unchanged service are unaffected, those of a changed one may continue for
   * {@link CHANGED_SERVICE_GRACE_MS}, and those of a removed one are disconnected.
   *
   * @throws SallyportError `config_invalid` if two services share a name; `not_supported`. In either case nothing
   * changes.
   */
  apply(services: readonly Service[]): AppliedServices {
    const taken = new Map<string, Service>();
    for (const service of services) {
      for (const name of service.names) {
        const other = taken.get(name);
        if (other !== undefined && other !== service) {
          const why = `${name} belongs to the service ${other.names[0]} and to ${service.names[0]}`;
          throw new SallyportError("config_invalid", `Cannot use services: ${why}`, { side: "config" });
        }
        taken.set(name, service);
      }
      if (endsTlsHere(service) && this.#options.connectors === undefined) {
        const why = `${service.names[0]}: this agent can't terminate TLS`;
        throw new SallyportError("not_supported", `Cannot use services: ${why}`, { side: "local" });
      }
    }
    const before = new Map(this.#entries.map((entry) => [entry.name, entry]));
    const outcome = {
      added: [] as string[],
      changed: [] as string[],
      removed: [] as string[],
      kept: [] as string[],
    };
    const entries: Entry[] = [];
    const made: Entry[] = [];
    try {
      for (const service of services) {
        const old = before.get(service.names[0]!);
        if (old !== undefined && sameService(old.service, service)) {
          entries.push(old);
          outcome.kept.push(old.name);
          continue;
        }
        const entry = new Entry(service, this.#options);
        made.push(entry);
        entries.push(entry);
        (old === undefined ? outcome.added : outcome.changed).push(entry.name);
      }
    } catch (error) {
      for (const entry of made) entry.close(0);
      throw error;
    }
    const names = new Set(entries.map(({ name }) => name));
    for (const entry of this.#entries) {
      if (entries.includes(entry)) continue;
      const isGone = !names.has(entry.name);
      if (isGone) outcome.removed.push(entry.name);
      entry.close(isGone ? 0 : CHANGED_SERVICE_GRACE_MS);
    }
    this.#entries = entries;
    this.#byName = new Map(
      entries.flatMap((entry) => entry.service.names.map((name) => [name, entry] as const)),
    );
    return outcome;
  }

  /** Closes every service; visitors may continue for `graceMs`. */
  async close(graceMs: number): Promise<void> {
    const entries = this.#entries;
    this.#entries = [];
    this.#byName = new Map();
    for (const visitor of this.#nameless) visitor.abort();
    this.#helloTimer?.cancel();
    this.#helloTimer = undefined;
    await Promise.all(entries.map((entry) => entry.close(graceMs)));
    await this.#options.connectors?.close();
  }

  #find(name: string): Entry | undefined {
    const wildcard = wildcardOf(name);
    return this.#byName.get(name) ?? (wildcard === undefined ? undefined : this.#byName.get(wildcard));
  }

  #serve(stream: SessionStream): void {
    const visitor = new Visitor(stream, this.#reception, this.#options.runtime.clock.nowMs());
    const { serverName } = stream.caller;
    if (serverName !== undefined) return this.#route(serverName, visitor);
    this.#nameless.add(visitor);
    if (this.#helloTimer === undefined) this.#awaitHellos(HELLO_DEADLINE_MS);
    visitor.readHello();
  }

  /** One timer for all of them. It stays set when the last has said its name: the next may be here before it fires. */
  #awaitHellos(delayMs: number): void {
    const { clock } = this.#options.runtime;
    this.#helloTimer = clock.after(delayMs, () => {
      this.#helloTimer = undefined;
      const dueMs = clock.nowMs() - HELLO_DEADLINE_MS;
      let nextMs = Infinity;
      for (const visitor of this.#nameless) {
        if (visitor.startedMs <= dueMs) visitor.late();
        else nextMs = Math.min(nextMs, visitor.startedMs - dueMs);
      }
      if (nextMs < Infinity) this.#awaitHellos(nextMs);
    });
  }

  #named(visitor: Visitor, name: string | undefined): void {
    this.#nameless.delete(visitor);
    if (name !== undefined) return this.#route(name, visitor);
    const why = "Cannot serve visitor: it names no server (no SNI)";
    const error = new SallyportError("no_server_name", why, { side: "peer" });
    this.#refuse(visitor, AlertDescription.missing_extension, error);
  }

  #route(name: string, visitor: Visitor): void {
    const entry = this.#find(name);
    if (entry !== undefined) return entry.serve(name, visitor);
    const error = new SallyportError(
      "unrecognized_name",
      `Cannot serve visitor: no service is called ${name}`,
      { side: "peer" },
    );
    this.#refuse(visitor, AlertDescription.unrecognized_name, error);
  }

  #refuse(visitor: Visitor, alert: number, error: SallyportError): void {
    this.#nameless.delete(visitor);
    this.#sampler.info(error.code, { visitor: visitor.caller.address, reason: error.code }, error.message);
    turnAway(visitor, alert);
  }
}

/** One running service. */
class Entry implements VisitorService {
  readonly service: Service;
  readonly #options: ServiceTableOptions;
  readonly #log: Logger;
  /** For lines that visitors can cause at will. */
  readonly #sampler: LogSampler;
  readonly #access: AccessList;
  readonly #targets: TargetPool;
  readonly #health: HealthChecks;
  readonly #connector: ServiceConnector;
  readonly #accessLog: ((entry: AccessEntry) => void) | undefined;
  readonly #visitors = new Roster<"visitorPlace", Visitor>("visitorPlace");
  readonly #visitorsFrom = new SourceCounts();
  readonly #errors: ServiceFailure[] = [];
  #visitorsTotal = 0;
  #bytesIn = 0;
  #bytesOut = 0;
  #quiet: (() => void) | undefined;

  constructor(service: Service, options: ServiceTableOptions) {
    const { runtime, meter, connectors } = options;
    this.service = service;
    this.#options = options;
    this.#log = options.log.child({ service: this.name });
    this.#sampler = visitorLines(this.#log, runtime.clock);
    this.#access = new AccessList({ allow: service.allow, block: service.block });
    this.#targets = new TargetPool({ targets: service.targets, runtime, log: this.#log });
    this.#accessLog = options.accessLog?.(service);
    const parts: ServiceParts = {
      runtime,
      log: this.#log,
      targets: this.#targets,
      failed: (error) => this.#failed(errorMessage(error)),
      ...meter === undefined ? {} : { meter },
      ...this.#accessLog === undefined ? {} : { accessLog: this.#accessLog },
    };
    this.#health = new HealthChecks({ service, targets: this.#targets, runtime });
    this.#connector = endsTlsHere(service)
      ? connectors!.terminating(service, parts)
      : passthroughConnector(service, parts);
  }

  /** Its name in logs. */
  get name(): string {
    return this.service.names[0]!;
  }

  get certificates(): readonly CertificateFacts[] {
    return this.#connector.certificates?.() ?? [];
  }

  get facts(): ServiceFacts {
    const { names, tls } = this.service;
    let [bytesIn, bytesOut] = [this.#bytesIn, this.#bytesOut];
    for (const visitor of this.#visitors) {
      bytesIn += visitor.bytesIn;
      bytesOut += visitor.bytesOut;
    }
    return {
      names,
      tls: typeof tls === "string" ? tls : "file",
      targets: this.#targets.facts,
      certificates: this.certificates,
      visitors: this.#visitors.size,
      visitorsTotal: this.#visitorsTotal,
      bytesIn,
      bytesOut,
      errors: this.#errors,
    };
  }

  /** Any failure ends the visitor. */
  serve(name: string, visitor: Visitor): void {
    const { address, port } = visitor.caller;
    if (!this.#access.permits(address)) {
      return this.#refuse(visitor, "access_denied", "the access list refuses the visitor");
    }
    const { connections, connectionsPerVisitor } = this.service.limits;
    const source = sourceOf(address);
    if (this.#visitors.size >= (connections ?? Infinity)) {
      return this.#refuse(visitor, "limit_exceeded", `it already has ${connections} visitors`);
    }
    if (this.#visitorsFrom.of(source) >= (connectionsPerVisitor ?? Infinity)) {
      const why = `the visitor already has ${connectionsPerVisitor} connections`;
      return this.#refuse(visitor, "limit_exceeded", why);
    }
    visitor.enter(this, { address, port, serverName: name }, source);
    this.#visitors.add(visitor);
    this.#visitorsFrom.add(source);
    this.#visitorsTotal++;
    this.#log.debug({ visitor: address, server_name: name }, "visitor connected");
    try {
      const served = this.#connector.connect(visitor);
      if (served !== undefined) this.#watch(visitor, served);
    } catch (error) {
      this.#lost(visitor, error);
    }
  }

  #watch(visitor: Visitor, served: Promise<void>): void {
    served.catch((error) => this.#lost(visitor, error));
  }

  left(visitor: Visitor, error: Error | undefined): void {
    const { bytesIn, bytesOut, source, startedMs, caller: { address, serverName = this.name } } = visitor;
    this.#visitors.delete(visitor);
    this.#bytesIn += bytesIn;
    this.#bytesOut += bytesOut;
    this.#visitorsFrom.remove(source);
    if (this.#visitors.size === 0) this.#quiet?.();
    const durationMs = Math.round(this.#options.runtime.clock.nowMs() - startedMs);
    const fields = { visitor: address, server_name: serverName, duration_ms: durationMs, error };
    this.#log.debug(fields, "visitor left");
    if (this.#seesRequests) return;
    this.#accessLog?.({
      ...{ name: serverName, visitor: address, bytesIn, bytesOut, durationMs },
      ...error === undefined ? {} : { error: errorMessage(error) },
    });
  }

  /** Accepts no new visitors; current ones may continue for `graceMs`. */
  async close(graceMs: number): Promise<void> {
    const over = new SallyportError("shutdown", `Cannot keep visitor: the service ${this.name} was removed`, {
      side: "local",
    });
    this.#health.stop();
    const closing = this.#connector.close?.(graceMs);
    const end = () => {
      for (const visitor of [...this.#visitors]) visitor.abort(over);
    };
    if (graceMs === 0) end();
    else if (this.#visitors.size > 0) {
      const timer = this.#options.runtime.clock.after(graceMs, end);
      await new Promise<void>((resolve) => this.#quiet = resolve);
      timer.cancel();
    }
    await closing;
  }

  /** Whether requests are logged individually, by the connector. */
  get #seesRequests(): boolean {
    return endsTlsHere(this.service) && this.service.targets.some(({ protocol }) => protocol !== "tcp");
  }

  /** The connector has failed. */
  #lost(visitor: Visitor, thrown: unknown): void {
    const [error, message] = [asError(thrown), errorMessage(thrown)];
    const fields = { visitor: visitor.caller.address, error };
    this.#sampler.warn("failed", fields, `Cannot serve visitor: ${message}`);
    this.#failed(message);
    visitor.abort(error);
  }

  #refuse(stream: SessionStream, reason: "access_denied" | "limit_exceeded", why: string): void {
    const { access_denied, internal_error } = AlertDescription;
    const alert = reason === "access_denied" ? access_denied : internal_error;
    const refused = () => {
      const visitor = stream.caller.address;
      const message = `Cannot serve visitor of ${this.name}: ${why}`;
      this.#sampler.info(reason, { visitor, reason }, message);
      if (reason === "limit_exceeded") this.#failed(message);
    };
    if (this.#connector.refuse !== undefined) return this.#connector.refuse({ stream, alert, refused });
    turnAway(stream, alert);
    refused();
  }

  #failed(message: string): void {
    this.#errors.push({ atMs: this.#options.runtime.clock.wallMs(), message });
    if (this.#errors.length > SERVICE_ERRORS_MAX) this.#errors.shift();
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

function sameService(a: Service, b: Service): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
