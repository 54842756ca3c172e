/**
 * snocat's server and clients in the network in memory, with an echo behind each client.
 *
 * @module
 */
import { type Identity, makeCertificate } from "../../src/crypto/certificate.ts";
import { createMemoryNetwork, type MemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { Runtime } from "../../src/runtime/port.ts";
import { SnocatClient, type SnocatClientOptions } from "../../src/snocat/client.ts";
import { type SnocatServer, type SnocatServerOptions, startSnocatServer } from "../../src/snocat/server.ts";
import type { PublicAddress } from "../../src/wire/snocat/demand_proxy.ts";
import { pattern, Watched } from "../conformance/runtime_helpers.ts";
import { type LogLine, recordingLogger } from "../support/tunnel.ts";

export const SERVER = "10.0.0.1";
export const VISITOR = "198.51.100.7";
export const QUIC_PORT = 9090;
export const TARGET_PORT = 9000;
export const NAME = "edge.example.org";

/** Virtual time begins here (memory_time.ts). */
export const VIRTUAL_NOW_MS = createMemoryNetwork().clock.wallMs();

let made: Promise<Identity> | undefined;

/** A certificate for {@link NAME}; the same one for every test of a file. */
export function serverIdentity(): Promise<Identity> {
  return made ??= makeCertificate({
    commonName: NAME,
    names: [NAME],
    validDays: 30,
    wallMs: VIRTUAL_NOW_MS,
  });
}

/** A client that runs. */
export interface RunningClient {
  readonly client: SnocatClient;
  /** What `run` came to; undefined when it was stopped. */
  readonly over: Promise<unknown>;
  /** Grants so far. */
  readonly grants: (readonly PublicAddress[])[];
  /** The next grant that hasn't been waited for. */
  granted(): Promise<readonly PublicAddress[]>;
}

export class SnocatWorld {
  readonly network: MemoryNetwork = createMemoryNetwork({ seed: 5 });
  readonly serverLines: LogLine[] = [];
  readonly clientLines: LogLine[] = [];

  run(body: () => Promise<void>): Promise<void> {
    return this.network.settle(body());
  }

  async server(options: Partial<SnocatServerOptions> = {}): Promise<SnocatServer> {
    return await startSnocatServer({
      runtime: this.network.runtime(SERVER),
      listen: { host: SERVER, port: QUIC_PORT },
      identity: await serverIdentity(),
      publicHost: SERVER,
      ports: { first: 8080, last: 8081 },
      log: recordingLogger(this.serverLines),
      ...options,
    });
  }

  /** An echo, half-closing, on a host. */
  async echo(host: string, port = TARGET_PORT, listenOn = host): Promise<void> {
    await this.network.runtime(host).listen({
      host: listenOn,
      port,
      accept: (conn) => {
        const echo = new Watched(conn, { keep: false });
        echo.onData = (chunk) => {
          if (!echo.write(chunk)) echo.pause();
        };
        echo.onDrain = () => echo.resume();
        echo.onEnd = () => echo.closeWrite();
      },
    });
  }

  async client(host: string, options: Partial<SnocatClientOptions> = {}): Promise<RunningClient> {
    const { certificatePem } = await serverIdentity();
    const grants: (readonly PublicAddress[])[] = [];
    let taken = 0;
    let wake = () => {};
    const client = new SnocatClient({
      runtime: this.network.runtime(host),
      server: { host: SERVER, port: QUIC_PORT },
      serverName: NAME,
      authoritiesPem: certificatePem,
      target: { host, port: TARGET_PORT },
      log: recordingLogger(this.clientLines),
      opened: (addresses) => {
        grants.push(addresses);
        wake();
      },
      ...options,
    });
    const over = client.run().then(() => undefined, (error) => error ?? "rejected");
    return {
      client,
      over,
      grants,
      async granted() {
        const failed = over.then((error) => {
          if (grants.length <= taken) throw error ?? new Error("the client was stopped");
        });
        while (grants.length <= taken) {
          const next = new Promise<void>((resolve) => wake = resolve);
          await Promise.race([next, failed]);
        }
        return grants[taken++]!;
      },
    };
  }

  runtime(host: string): Runtime {
    return this.network.runtime(host);
  }

  async visit(port: number): Promise<Watched> {
    return new Watched(await this.runtime(VISITOR).dial({ host: SERVER, port, timeoutMs: 5_000 }));
  }

  /** A visitor ends its direction at once, and all of its bytes come back all the same. */
  async echoes(port: number, bytes = pattern(200_000)): Promise<void> {
    await (await this.visit(port)).assertEchoed(bytes);
  }

  wait(durationMs: number): Promise<void> {
    return new Promise((resolve) => void this.network.clock.after(durationMs, resolve));
  }
}
