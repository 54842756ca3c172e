/**
 * Both ends of a socket inside this process, for runtime code that requires a real one.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

/** Creates pairs of sockets that no other process can connect to. */
export class SocketPairs {
  #listening:
    | Promise<{ readonly server: Server; readonly path: string; readonly folder?: string }>
    | undefined;
  readonly #folders: readonly string[];
  /** Pairs are created one by one, so that the two ends can be matched. */
  #last: Promise<unknown> = Promise.resolve();

  /** @param folders folders for the socket, in order of preference; defaults to the system's temporary folder */
  constructor(folders: readonly string[] = [tmpdir()]) {
    this.#folders = folders;
  }

  /** Both ends of a new socket. */
  make(): Promise<readonly [Socket, Socket]> {
    const made = this.#last.then(async () => {
      const { server, path } = await (this.#listening ??= listen(this.#folders));
      return await new Promise<readonly [Socket, Socket]>((resolve, reject) => {
        const near = connect({ path, allowHalfOpen: true });
        near.once("error", reject);
        server.once("connection", (far: Socket) => {
          near.off("error", reject);
          near.on("error", () => {});
          far.on("error", () => {});
          if (near.connecting) near.once("connect", () => resolve([near, far]));
          else resolve([near, far]);
        });
      });
    });
    this.#last = made.catch(() => {});
    return made;
  }

  /** Creates no further pairs; existing ones continue. */
  async close(): Promise<void> {
    const listening = this.#listening;
    this.#listening = Promise.reject(new Error("closed"));
    this.#listening.catch(() => {});
    const { server, folder } = await listening ?? {};
    server?.close();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  }
}

async function listen(
  folders: readonly string[],
): Promise<{ server: Server; path: string; folder?: string }> {
  const windows = process.platform === "win32";
  const name = randomBytes(12).toString("hex");
  const folder = windows ? undefined : await makeFolder(folders);
  const path = folder === undefined ? `\\\\.\\pipe\\sallyport-${name}` : join(folder, "pair");
  const server = createServer({ allowHalfOpen: true });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  server.unref?.();
  return { server, path, folder };
}

/** Creates a folder only its owner can access (mkdtemp: 0700), in the first writable place. */
async function makeFolder([first = tmpdir(), ...others]: readonly string[]): Promise<string> {
  try {
    await mkdir(first, { recursive: true, mode: 0o700 });
    return await mkdtemp(join(first, "sallyport-h2-"));
  } catch (error) {
    if (others.length === 0) throw error;
    return await makeFolder(others);
  }
}
