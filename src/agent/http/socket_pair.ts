/**
 * Two ends of a socket inside this process, for code of the runtime that needs a real one. It is a unix socket in a folder
 * of its own, or, where Deno does not permit one, a TCP connection over loopback.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { folderPermitted } from "../../runtime/deno/permissions.ts";

/** Makes pairs of sockets; nobody else can connect to them. */
export class SocketPairs {
  #listening: Promise<Listening> | undefined;
  /** Pairs are made one by one, so that it is certain which end belongs to which. */
  #last: Promise<unknown> = Promise.resolve();

  /** Both ends of a new socket. */
  make(): Promise<readonly [Socket, Socket]> {
    const made = this.#last.then(async () => {
      const { server, path, port } = await (this.#listening ??= listen());
      return await new Promise<readonly [Socket, Socket]>((resolve, reject) => {
        const near = path === undefined
          ? connect({ port: port!, host: LOOPBACK, allowHalfOpen: true })
          : connect({ path, allowHalfOpen: true });
        // Over loopback any process of this machine could call at this moment: the ports tell which call is ours.
        const called: Socket[] = [];
        const done = () => {
          server.off("connection", arrived);
          near.off("error", failed);
        };
        const look = () => {
          const far = near.connecting
            ? undefined
            : path !== undefined
            ? called[0]
            : called.find(({ remotePort }) => remotePort === near.localPort);
          if (far === undefined) return;
          done();
          for (const other of called) if (other !== far) other.destroy();
          near.on("error", () => {});
          far.on("error", () => {});
          resolve([near, far]);
        };
        const arrived = (far: Socket) => {
          called.push(far);
          look();
        };
        const failed = (error: Error) => {
          done();
          for (const other of called) other.destroy();
          reject(error);
        };
        server.on("connection", arrived);
        near.once("error", failed);
        near.once("connect", look);
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

const LOOPBACK = "127.0.0.1";

/** A server for the pairs, at a path or at a loopback port. */
interface Listening {
  readonly server: Server;
  readonly path?: string;
  readonly port?: number;
  readonly folder?: string;
}

async function listen(): Promise<Listening> {
  const server = createServer({ allowHalfOpen: true });
  const listening = (at: { path: string } | { port: number; host: string }) =>
    new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(at, resolve);
    });
  const windows = process.platform === "win32";
  if (!windows && !folderPermitted(tmpdir())) {
    await listening({ port: 0, host: LOOPBACK });
    server.unref?.();
    return { server, port: (server.address() as AddressInfo).port };
  }
  const name = randomBytes(12).toString("hex");
  // The folder is for its owner alone (mkdtemp: 0700).
  const folder = windows ? undefined : await mkdtemp(join(tmpdir(), "sallyport-h2-"));
  const path = folder === undefined ? `\\\\.\\pipe\\sallyport-${name}` : join(folder, "pair");
  await listening({ path });
  server.unref?.();
  return { server, path, folder };
}
