/**
 * Many SniTun agents in one process, as cheap as can be: token, challenge, then a ping, whose pong proves that the edge
 * has let the session in. A child of the bench; its arguments are the edge's port and the number of sessions, the Fernet
 * key comes from SNITUN_FERNET_KEY. Commands on stdin: "dial" (all at once) and "drop".
 *
 * @module
 */

import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";
import { type IssuedToken, issueToken } from "../../tests/support/tokens.ts";

const UNIT_BYTES = 32;
const PING = 0x08;
/** A refused agent dials again after a draw between nothing and this; 10 s for what hangs. */
const RETRY_MS = 200;
const ATTEMPT_LIMIT_MS = 10_000;

const port = Number(process.argv[2]);
const count = Number(process.argv[3]);
const fernetKey = process.env.SNITUN_FERNET_KEY ?? "";

class Session {
  #socket: Socket | undefined;
  #token: IssuedToken;

  constructor(readonly index: number) {
    this.#token = issueToken(fernetKey, { hostname: `idle-${index}.test` });
  }

  /** Makes the next attempt's token beforehand: the storm measures the edge. */
  renew(): void {
    this.#token = issueToken(fernetKey, { hostname: `idle-${this.index}.test` });
  }

  drop(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  /** Calls back with true once the session stands, with false when this attempt has failed. */
  dial(done: (stands: boolean) => void): void {
    const token = this.#token;
    const [key, iv] = [Buffer.from(token.aesKey, "hex"), Buffer.from(token.aesIv, "hex")];
    const encrypt = createCipheriv("aes-256-cbc", key, iv).setAutoPadding(false);
    const decrypt = createDecipheriv("aes-256-cbc", key, iv).setAutoPadding(false);
    // Some hundred sources, each with some agents, as limits by source expect.
    const localAddress = `127.2.${this.index >> 8 & 255}.${this.index & 255 || 1}`;
    const socket = this.#socket = connect({ host: "127.0.0.1", port, localAddress, noDelay: true });
    let waiting: Buffer = Buffer.alloc(0);
    let challenged = false;
    let settled = false;
    const settle = (stands: boolean): void => {
      if (settled) return;
      settled = true;
      clearTimeout(limit);
      done(stands);
    };
    const limit = setTimeout(() => socket.destroy(), ATTEMPT_LIMIT_MS);
    socket.on("error", () => {});
    socket.on("close", () => settle(false));
    socket.on("connect", () => socket.write(token.token));
    socket.on("data", (chunk: Buffer) => {
      if (settled) return;
      waiting = waiting.length === 0 ? chunk : Buffer.concat([waiting, chunk]);
      while (waiting.length >= UNIT_BYTES) {
        const unit = decrypt.update(waiting.subarray(0, UNIT_BYTES));
        waiting = waiting.subarray(UNIT_BYTES);
        if (!challenged) {
          challenged = true;
          const answer = createHash("sha256").update(unit).digest();
          socket.write(Buffer.concat([encrypt.update(answer), encrypt.update(ping())]));
        } else if (unit[16] === PING && unit.toString("latin1", 21, 25) === "pong") settle(true);
      }
    });
  }
}

function ping(): Buffer {
  const header = randomBytes(UNIT_BYTES);
  header[16] = PING;
  header.writeUInt32BE(0, 17);
  header.write("ping", 21, "latin1");
  return header;
}

function emit(event: Record<string, unknown>): void {
  console.log(JSON.stringify(event));
}

const sessions = Array.from({ length: count }, (_, index) => new Session(index));

function dialAll(): void {
  const started = performance.now();
  let [left, retries] = [count, 0];
  for (const session of sessions) {
    const attempt = (): void =>
      session.dial((stands) => {
        if (!stands) {
          retries++;
          session.renew();
          setTimeout(attempt, Math.random() * RETRY_MS);
        } else if (--left === 0) {
          emit({ event: "all", seconds: (performance.now() - started) / 1000, retries });
        }
      });
    attempt();
  }
}

createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "dial") dialAll();
  else if (line === "drop") {
    for (const session of sessions) {
      session.drop();
      session.renew();
    }
    emit({ event: "dropped" });
  }
}).on("close", () => process.exit());
emit({ event: "ready" });
