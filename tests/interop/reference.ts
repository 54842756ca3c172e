/**
 * The reference implementation (`snitun` from PyPI) as a real peer: its server and its client as child processes.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { LineChild } from "../support/child.ts";
import type { IssuedToken } from "../support/tokens.ts";
import { referencePython } from "./reference_env.ts";

const here = dirname(fileURLToPath(import.meta.url));

/** What {@link startReferenceServer} takes. */
export interface ReferenceServerOptions {
  /** Newest first. */
  readonly fernetKeys: readonly string[];
  /** One port for visitors and agents (the default), or one for each. */
  readonly ports?: "one" | "two";
  /** 127.0.0.1 when absent. */
  readonly hosts?: readonly string[];
  readonly proxyProtocol?: boolean;
  /** Large frames a second. */
  readonly throttling?: number;
}

/** A running reference server. */
export interface ReferenceServer {
  readonly pid: number;
  readonly visitorPort: number;
  readonly agentPort: number;
  /** Resolves once an agent serves `hostname`. */
  served(hostname: string): Promise<void>;
  /** Resolves once no agent serves `hostname`. */
  gone(hostname: string): Promise<void>;
  stop(): Promise<void>;
}

/** Starts the reference server on free ports and waits until it listens. */
export async function startReferenceServer(options: ReferenceServerOptions): Promise<ReferenceServer> {
  const child = LineChild.start({
    command: await referencePython(),
    args: [
      join(here, "reference_server.py"),
      ...["--ports", options.ports ?? "one"],
      ...(options.hosts ?? []).flatMap((host) => ["--host", host]),
      ...(options.proxyProtocol ? ["--proxy-protocol"] : []),
      ...(options.throttling === undefined ? [] : ["--throttling", String(options.throttling)]),
    ],
    env: { SNITUN_FERNET_KEYS: options.fernetKeys.join(",") },
  });
  const ready = await child.event("ready");
  return {
    pid: child.pid,
    visitorPort: Number(ready.visitors),
    agentPort: Number(ready.agents),
    async served(hostname: string): Promise<void> {
      child.send(`wait ${hostname}`);
      await child.event("peer", hostname);
    },
    async gone(hostname: string): Promise<void> {
      child.send(`gone ${hostname}`);
      await child.event("gone", hostname);
    },
    stop: () => child.stop(),
  };
}

/** What {@link ReferenceClient.connect} takes. */
export interface ReferenceSessionOptions {
  readonly edge: { readonly host: string; readonly port: number };
  readonly endpointPort: number;
  readonly token: IssuedToken;
  /** Networks that may, or may not, call. */
  readonly allow?: readonly string[];
  readonly block?: readonly string[];
  /** The version that the client uses, when it differs from the token's. */
  readonly protocolVersion?: number;
}

/** A session of a reference client. */
export interface ReferenceSession {
  /** Resolves once the session has ended. */
  disconnected(): Promise<void>;
  disconnect(): void;
}

/** A process that holds sessions of the reference client. */
export interface ReferenceClient {
  readonly pid: number;
  /** Opens a session; rejects with the client's words when the edge refuses. */
  connect(options: ReferenceSessionOptions): Promise<ReferenceSession>;
  stop(): Promise<void>;
}

/** Starts a process for reference clients and waits until it takes orders. */
export async function startReferenceClient(): Promise<ReferenceClient> {
  const child = LineChild.start({
    command: await referencePython(),
    args: [join(here, "reference_client.py")],
  });
  await child.event("ready");
  let sessions = 0;
  return {
    pid: child.pid,
    async connect(options: ReferenceSessionOptions): Promise<ReferenceSession> {
      const id = `session-${++sessions}`;
      const { token } = options;
      child.send(JSON.stringify({
        connect: {
          id,
          edge: [options.edge.host, options.edge.port],
          endpoint: ["127.0.0.1", options.endpointPort],
          token: token.token,
          aes_key: token.aesKey,
          aes_iv: token.aesIv,
          protocol_version: options.protocolVersion ?? token.protocolVersion,
          cipher: token.cipher,
          ...(options.allow === undefined ? {} : { allow: options.allow }),
          ...(options.block === undefined ? {} : { block: options.block }),
        },
      }));
      const outcome = await child.next(({ event, id: about }) =>
        about === id && (event === "connected" || event === "failed")
      );
      if (outcome.event === "failed") throw new Error(`Cannot open a reference session: ${outcome.error}`);
      return {
        disconnected: async () => void await child.event("disconnected", id),
        disconnect: () => child.send(JSON.stringify({ disconnect: id })),
      };
    },
    stop: () => child.stop(),
  };
}
