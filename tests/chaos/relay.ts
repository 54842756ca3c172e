/**
 * A TCP relay that misbehaves as networks do: it delays, stalls without a word, and cuts.
 *
 * @module
 */
import { connect, createServer, type Server, type Socket } from "node:net";

/** What the relay does with bytes. */
export type RelayMode = "pass" | "delay" | "stall";

const DELAY_MS = 300;

/** One relay to one port of this machine. */
export class Relay {
  #mode: RelayMode = "pass";
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  /** What a stalled relay holds back, in order. */
  #held: (() => void)[] = [];
  readonly #server: Server;

  constructor(port: number, to: number) {
    this.#server = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ port: to, host: "127.0.0.1", allowHalfOpen: true });
      const pair = [near, far] as const;
      this.#pairs.add(pair);
      for (const [from, into] of [[near, far], [far, near]] as const) {
        from.on("data", (chunk) => this.#pass(() => into.write(chunk)));
        from.on("end", () => this.#pass(() => into.end()));
        from.on("error", () => {});
        from.on("close", () => {
          this.#pairs.delete(pair);
          this.#pass(() => into.destroy());
        });
      }
    });
    this.#server.listen(port, "127.0.0.1");
  }

  /** From now on. What a stall held back comes when it is over. */
  set mode(mode: RelayMode) {
    this.#mode = mode;
    if (mode === "stall") return;
    for (const act of this.#held.splice(0)) act();
  }

  /** Ends every connection without a word to either side's program. */
  cut(): void {
    this.#held = [];
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    this.#pairs.clear();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }

  #pass(act: () => void): void {
    if (this.#mode === "stall") this.#held.push(act);
    else if (this.#mode === "delay") setTimeout(act, DELAY_MS);
    else act();
  }
}
