/**
 * A NAT between agents and the UDP port of an edge.
 *
 * @module
 */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";

/** From `moveAtBytes` of the agents' bytes on, or when it is told to, their packets come from other ports. */
export class Nat {
  readonly #inside = createSocket("udp4");
  /** The outside of each mapping, by the agent's port. */
  readonly #outside = new Map<number, Socket>();
  #bytes = 0;
  readonly #edgePort: number;
  moveAtBytes = Infinity;
  moves = 0;

  constructor(edgePort: number) {
    this.#edgePort = edgePort;
    this.#inside.on("message", (data, from) => {
      this.#bytes += data.length;
      if (this.#bytes >= this.moveAtBytes) {
        this.moveAtBytes = Infinity;
        this.move();
      }
      let outside = this.#outside.get(from.port);
      if (outside === undefined) this.#outside.set(from.port, outside = this.#open(from.port));
      outside.send(data, this.#edgePort, "127.0.0.1");
    });
  }

  #open(agentPort: number): Socket {
    const socket = createSocket("udp4");
    socket.on("message", (data) => this.#inside.send(data, agentPort, "127.0.0.1"));
    socket.bind(0, "127.0.0.1");
    return socket;
  }

  /** Forgets all mappings: the next packets come from new ports. */
  move(): void {
    this.moves++;
    for (const socket of this.#outside.values()) socket.close();
    this.#outside.clear();
  }

  async listen(): Promise<number> {
    this.#inside.bind(0, "127.0.0.1");
    await once(this.#inside, "listening");
    return this.#inside.address().port;
  }

  close(): void {
    this.#inside.close();
    for (const socket of this.#outside.values()) socket.close();
  }
}
