/**
 * Visitors through a tunnel, and the endpoint behind it, for measurements within one process.
 *
 * @module
 */
import { connect, createServer, type Server } from "node:net";
import { clientHello } from "../../tests/support/client_hello.ts";

const PIECE_BYTES = 256 * 1024;

/** Starts an endpoint that sends the ClientHello back and takes what follows. */
export async function startEndpoint(): Promise<{ readonly server: Server; readonly port: number }> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", (first) => {
      socket.write(first);
      socket.resume();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, port: (server.address() as { port: number }).port };
}

/** A visitor whose ClientHello comes back; `more` bytes follow. Rejects where the connection is cut. */
export function visit(port: number, name: string, more = 0): Promise<void> {
  return new Promise((resolve, reject) => {
    const hello = clientHello(name);
    const socket = connect({ host: "127.0.0.1", port });
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("cut")));
    let got = 0;
    socket.on("data", (chunk: Uint8Array) => {
      got += chunk.length;
      if (got < hello.length) return;
      if (more === 0) {
        resolve();
        return void socket.destroy();
      }
      const piece = new Uint8Array(PIECE_BYTES);
      let left = more;
      const send = () => {
        while (left > 0) {
          left -= piece.length;
          if (!socket.write(piece)) return void socket.once("drain", send);
        }
        socket.end(() => resolve());
      };
      send();
    });
    socket.write(hello);
  });
}
