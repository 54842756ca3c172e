/**
 * Two ends of a socket inside this process, for code of the runtime's that wants a real one.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

/** Makes pairs of sockets; nobody else can connect to them. */
export class SocketPairs {
  #listening:
    | Promise<{ readonly server: Server; readonly path: string; readonly folder?: string }>
    | undefined;
  readonly #folders: readonly string[];
  /** Pairs are made one by one, so that it is certain which end belongs to which. */
  #last: Promise<unknown> = Promise.resolve();

  /** @param folders where the socket may be, in the order of choice; the system's for temporary files when absent */
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

  /** No further pair is made; those that are there go on. */
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

/** A folder for its owner alone (mkdtemp: 0700), in the first place that can be written. */
async function makeFolder([first = tmpdir(), ...others]: readonly string[]): Promise<string> {
  try {
    await mkdir(first, { recursive: true, mode: 0o700 });
    return await mkdtemp(join(first, "sallyport-h2-"));
  } catch (error) {
    if (others.length === 0) throw error;
    return await makeFolder(others);
  }
}
