/**
 * A NAT between an agent and the UDP port of an edge.
 *
 * @module
 */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";

/** The NAT of one agent: from `moveAtBytes` of the agent's on, or when it is told to, packets come from another port. */
export class Nat {
  readonly #inside = createSocket("udp4");
  #outside: Socket;
  #agentPort = 0;
  #bytes = 0;
  readonly #edgePort: number;
  moveAtBytes = Infinity;
  moves = 0;

  constructor(edgePort: number) {
    this.#edgePort = edgePort;
    this.#outside = this.#open();
    this.#inside.on("message", (data, from) => {
      this.#agentPort = from.port;
      this.#bytes += data.length;
      if (this.#bytes >= this.moveAtBytes) {
        this.moveAtBytes = Infinity;
        this.move();
      }
      this.#outside.send(data, this.#edgePort, "127.0.0.1");
    });
  }

  #open(): Socket {
    const socket = createSocket("udp4");
    socket.on("message", (data) => this.#inside.send(data, this.#agentPort, "127.0.0.1"));
    socket.bind(0, "127.0.0.1");
    return socket;
  }

  /** Goes on with another port. */
  move(): void {
    this.moves++;
    this.#outside.close();
    this.#outside = this.#open();
  }

  async listen(): Promise<number> {
    this.#inside.bind(0, "127.0.0.1");
    await once(this.#inside, "listening");
    return this.#inside.address().port;
  }

  close(): void {
    this.#inside.close();
    this.#outside.close();
  }
}
