/**
 * The part of Bun's own API that its adapter uses. Declared here so that type-checking against this library doesn't
 * need Bun's types, which are globals.
 *
 * @module
 */

/** A TCP or Unix socket with the adapter's data. */
export interface BunSocket<Data> {
  data: Data;
  readonly remoteAddress: string | undefined;
  readonly remotePort: number;
  readonly localAddress: string | undefined;
  readonly localPort: number;
  write(chunk: Uint8Array): number;
  shutdown(): void;
  close(): void;
  terminate(): void;
  pause(): void;
  resume(): void;
  setKeepAlive(enable: boolean, initialDelayMs: number): boolean;
}

/** Event handlers of sockets. */
export interface BunSocketHandler<Data> {
  readonly binaryType: "uint8array";
  open(socket: BunSocket<Data>): void;
  data(socket: BunSocket<Data>, chunk: Uint8Array): void;
  end(socket: BunSocket<Data>): void;
  drain(socket: BunSocket<Data>): void;
  close(socket: BunSocket<Data>, error?: Error): void;
  error(socket: BunSocket<Data>, error: Error): void;
  connectError(socket: BunSocket<Data>, error: Error): void;
}

/** A UDP socket. */
export interface BunUdpSocket {
  readonly closed: boolean;
  readonly hostname: string;
  readonly port: number;
  send(data: Uint8Array, port: number, host: string): boolean;
  sendMany(batch: readonly (Uint8Array | number | string)[]): number;
  close(): void;
}

/** An HTTP server. */
interface BunServer {
  readonly port: number | undefined;
  requestIP(request: Request): { readonly address: string; readonly port: number } | null;
  stop(closeActive: boolean): Promise<void>;
}

interface SocketSettings<Data> {
  readonly allowHalfOpen: true;
  readonly data: Data;
  readonly socket: BunSocketHandler<Data>;
}

/** The global `Bun`. */
export interface BunApi {
  readonly version: string;
  readonly dns: { lookup(host: string): Promise<{ readonly address: string }[]> };
  listen<Data>(
    options:
      & SocketSettings<Data>
      & (
        | { readonly hostname: string; readonly port: number; readonly reusePort: boolean }
        | { readonly unix: string }
      ),
  ): { readonly port: number; stop(closeActive: boolean): void };
  connect<Data>(
    options:
      & SocketSettings<Data>
      & ({ readonly hostname: string; readonly port: number } | { readonly unix: string }),
  ): Promise<unknown>;
  udpSocket(options: {
    readonly hostname: string;
    readonly port: number;
    readonly binaryType: "uint8array";
    readonly flags?: number;
    readonly socket: {
      data(socket: BunUdpSocket, data: Uint8Array, port: number, address: string): void;
      error(): void;
    };
  }): Promise<BunUdpSocket>;
  serve(options: {
    readonly hostname: string;
    readonly port: number;
    readonly development: false;
    readonly reusePort: false;
    fetch(request: Request, server: BunServer): Promise<Response>;
  }): BunServer;
}
