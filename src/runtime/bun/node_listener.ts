/**
 * Accepts connections with node:net, which on Bun can take a socket that already listens: the runtime's own interface
 * only opens new ones.
 *
 * @module
 */
import { createServer, type Server, type Socket } from "node:net";
import { NodeStream } from "../node_stream.ts";
import {
  type Address,
  type Conn,
  IGNORE_STREAM,
  KEEP_ALIVE_MS,
  type Listener,
  type ListenOptions,
} from "../port.ts";
import { lostError, notListening, plainHost, type Shared } from "../shared.ts";

/** A listening socket of this process by its file descriptor, or an address to open one at. */
type NodeSocketSource = { readonly fd: number } | { readonly host: string; readonly port: number };

/** Accepts on a TCP socket that already listens. */
export async function listenOnDescriptor(
  descriptor: number,
  { accept }: Pick<ListenOptions, "accept">,
  shared: Shared,
): Promise<Listener> {
  try {
    return await listenWithNode({ fd: descriptor }, accept, shared);
  } catch (cause) {
    throw notListening(descriptor, cause);
  }
}

/** Starts accepting. Rejects with Node's own error. */
export function listenWithNode(
  source: NodeSocketSource,
  accept: ListenOptions["accept"],
  shared: Shared,
): Promise<Listener> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const conn = new NodeConn(socket, shared);
    if (!shared.descriptors.accepted()) return refuse(conn);
    try {
      accept(conn);
    } catch (thrown) {
      conn.abort(shared.faults.report("accept", thrown));
    }
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(source, () => {
      server.off("error", reject);
      // A connection that can't be accepted: others can.
      server.on("error", () => shared.descriptors.exhausted());
      resolve({ address: addressOf(server), close: () => void server.close() });
    });
  });
}

/** The runtimes accept every connection while they listen: those that don't fit are reset. */
function refuse(conn: NodeConn): void {
  conn.attach(IGNORE_STREAM);
  conn.abort();
}

function addressOf(server: Server): Address {
  const address = server.address();
  if (address === null || typeof address === "string") return { host: address ?? "", port: 0 };
  return { host: address.address, port: address.port };
}

/** A connection accepted by node:net. */
class NodeConn extends NodeStream implements Conn {
  readonly remote: Address;
  readonly local: Address;
  readonly #socket: Socket;

  constructor(socket: Socket, { clock, faults, pace }: Shared) {
    super(socket, {
      ...{ clock, faults, pace },
      failure: lostError,
      destroy: (hard) => void (hard ? socket.resetAndDestroy() : socket.destroy()),
    });
    this.#socket = socket;
    // Read now, since a closed socket no longer has them.
    this.remote = { host: plainHost(socket.remoteAddress ?? ""), port: socket.remotePort ?? 0 };
    this.local = { host: plainHost(socket.localAddress ?? ""), port: socket.localPort ?? 0 };
  }

  /** Nothing is written ahead. */
  carrySession(): void {
    this.session = this;
  }

  keepAlive(): void {
    this.#socket.setKeepAlive(true, KEEP_ALIVE_MS);
  }
}
