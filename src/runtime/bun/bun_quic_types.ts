/**
 * The part of `node:quic` that `bun_quic.ts` uses, as in Bun 1.4.5; neither runtime's types declare the module.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import type { KeyObject } from "node:crypto";
import type { Bytes } from "../../bytes/bytes.ts";

export interface NodeQuicOptions {
  readonly alpn?: string | readonly string[];
  readonly ca?: readonly Buffer[];
  readonly sni?: Readonly<
    Record<string, { readonly keys: readonly KeyObject[]; readonly certs: readonly Buffer[] }>
  >;
  readonly servername?: string;
  readonly verifyPeer?: "strict" | "auto" | "manual";
  /** Milliseconds. */
  readonly keepAlive?: number;
  readonly keylog?: boolean;
  readonly onkeylog?: (line: string) => void;
  readonly transportParams?: {
    readonly initialMaxStreamsBidi: number;
    readonly initialMaxStreamsUni: number;
    readonly initialMaxStreamDataBidiLocal: number;
    readonly initialMaxStreamDataBidiRemote: number;
    readonly maxIdleTimeout: number;
  };
  readonly endpoint?: NodeQuicEndpoint | NodeQuicEndpointOptions;
}

interface NodeQuicEndpointOptions {
  readonly address: string;
  readonly maxConnectionsPerHost?: number;
  readonly maxConnectionsTotal?: number;
  readonly udpReceiveBufferSize?: number;
  readonly udpSendBufferSize?: number;
  /** Always sends a Retry. */
  readonly validateAddress?: boolean;
}

interface SocketAddress {
  readonly address: string;
  readonly port: number;
}

export interface NodeQuicEndpoint {
  readonly address: SocketAddress | undefined;
  readonly closed: Promise<void>;
  /** Refuses new connections. */
  busy: boolean;
  close(): Promise<void>;
  destroy(): void;
}

export interface NodeQuicSession {
  readonly opened: Promise<{ readonly protocol: string }>;
  readonly closed: Promise<void>;
  readonly path: { readonly remote: SocketAddress } | undefined;
  readonly peerCertificate: { readonly fingerprint256: string } | undefined;
  onerror: ((error: unknown) => void) | undefined;
  onstream: ((stream: NodeQuicStream) => void) | undefined;
  createBidirectionalStream(options: { readonly highWaterMark: number }): Promise<NodeQuicStream>;
  destroy(
    error: unknown,
    how: { readonly code: number; readonly type: "application"; readonly reason: string },
  ): void;
}

export interface NodeQuicStream {
  readonly closed: Promise<void>;
  readonly destroyed: boolean;
  /** Whether the peer doesn't allow it yet. */
  readonly pending: boolean | undefined;
  readonly writer: NodeQuicWriter;
  highWaterMark: number;
  onerror: ((error: unknown) => void) | undefined;
  destroy(error: unknown, how: { readonly code: number }): void;
  [Symbol.asyncIterator](): AsyncIterator<Bytes[]>;
}

export interface NodeQuicWriter {
  /** Bytes that may be written without waiting; null if closed. */
  readonly desiredSize: number | null;
  /** Returns false if nothing was accepted. */
  writeSync(chunk: Bytes): boolean;
  end(): Promise<number>;
  /** Waits for buffer space; null if there is some, or if the writer is closed. */
  [drained: symbol]: () => Promise<unknown> | null;
}

export interface NodeQuic {
  readonly QuicEndpoint: new (options: NodeQuicEndpointOptions) => NodeQuicEndpoint;
  listen(accept: (session: NodeQuicSession) => void, options: NodeQuicOptions): Promise<NodeQuicEndpoint>;
  connect(address: string, options: NodeQuicOptions): Promise<NodeQuicSession>;
}
