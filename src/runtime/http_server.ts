/**
 * The HTTP server of the native runtimes: their TCP listener, and {@link HttpEngine} on its connections. The runtimes'
 * own servers have neither a connection limit nor deadlines for clients, and end the process (Deno) or spin (Bun) when
 * out of file descriptors.
 *
 * @module
 */
import {
  type Address,
  type Conn,
  type HttpOptions,
  type HttpServer,
  IGNORE_STREAM,
  type Listener,
  type ListenOptions,
} from "./port.ts";
import { sourceOf } from "../wire/ip/networks.ts";
import { SourceCounts } from "../wire/ip/source_counts.ts";
import { type HttpConnection, HttpEngine } from "./http_engine.ts";
import type { Shared } from "./shared.ts";

/**
 * HTTP: connections of one server. Beyond it the longest idle one is closed, else the one waiting longest for a head.
 */
export const HTTP_CONNECTIONS_MAX = 1_024;
/** HTTP: connections from one address (an IPv6 /64 counts as one). */
export const HTTP_PER_SOURCE_MAX = 256;

/** Starts a server on the listener that `listen` opens. */
export async function listenHttp(
  options: HttpOptions,
  listen: (options: ListenOptions) => Promise<Listener>,
  { clock, faults }: Pick<Shared, "clock" | "faults">,
): Promise<HttpServer> {
  const engine = new HttpEngine<Address>({
    clock,
    keepAlive: true,
    fetch: options.fetch,
    failed: (thrown) => void faults.report("http_request", thrown),
  });
  const open = new OpenConnections();
  const { host, port, descriptor } = options;
  const listener = await listen({
    host,
    port,
    ...descriptor === undefined ? {} : { descriptor },
    accept(conn) {
      const source = sourceOf(conn.remote.host);
      if (!open.roomFor(source)) return refuse(conn);
      const served = engine.serve(conn, conn.remote, () => open.remove(entry));
      const entry = open.add(served, source);
    },
  });
  return {
    address: listener.address,
    async close(graceMs) {
      listener.close();
      const over = open.finish();
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((resolve) => timer = setTimeout(resolve, graceMs));
      await Promise.race([over, late]);
      clearTimeout(timer);
      open.giveUp();
    },
  };
}

function refuse(conn: Conn): void {
  conn.attach(IGNORE_STREAM);
  conn.abort();
}

interface Entry {
  readonly connection: HttpConnection;
  readonly source: string;
}

/** A server's connections, oldest first. */
class OpenConnections {
  readonly #entries = new Set<Entry>();
  readonly #bySource = new SourceCounts();
  #empty: (() => void) | undefined;

  add(connection: HttpConnection, source: string): Entry {
    const entry = { connection, source };
    this.#entries.add(entry);
    this.#bySource.add(source);
    return entry;
  }

  remove(entry: Entry): void {
    if (!this.#entries.delete(entry)) return;
    this.#bySource.remove(entry.source);
    if (this.#entries.size === 0) this.#empty?.();
  }

  /** Whether this source may open one more connection, if need be replacing one that isn't being answered. */
  roomFor(source: string): boolean {
    if (this.#bySource.of(source) >= HTTP_PER_SOURCE_MAX) {
      return this.#makeRoom((from) => from === source);
    }
    return this.#entries.size < HTTP_CONNECTIONS_MAX || this.#makeRoom(() => true);
  }

  #makeRoom(among: (source: string) => boolean): boolean {
    for (const state of ["idle", "head"]) {
      for (const entry of this.#entries) {
        if (entry.connection.state !== state || !among(entry.source)) continue;
        this.remove(entry);
        entry.connection.abort();
        return true;
      }
    }
    return false;
  }

  /** Resolves when every request in progress has been answered. */
  finish(): Promise<void> {
    for (const { connection } of [...this.#entries]) connection.finish();
    if (this.#entries.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#empty = resolve);
  }

  giveUp(): void {
    for (const { connection } of [...this.#entries]) connection.giveUp();
  }
}
