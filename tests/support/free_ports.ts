/**
 * Ports that nothing has open just now, and that stay so: the system gives them to nobody who doesn't ask for them. The
 * port of a listener that was closed may be given to another test at once.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import process from "node:process";

/** Below the ports that systems give out by themselves. */
const FIRST = 15_000;
const LAST = 30_000;
/** Ports of one process: a port is opened some time after it was found, and nobody else must find it in between. */
const SHARE = 60;

let given = 0;

/** The first of `count` neighbouring ports that are free over TCP and UDP on 127.0.0.1. */
export async function freePorts(count: number): Promise<number> {
  const share = FIRST + SHARE * (process.pid % ((LAST - FIRST) / SHARE));
  for (let tries = 0; tries < 100; tries++) {
    if (given + count > SHARE) given = 0;
    const first = share + given;
    given += count;
    const ports = Array.from({ length: count }, (_, i) => first + i);
    if ((await Promise.all(ports.map(isFree))).every((free) => free)) return first;
  }
  throw new Error(`Cannot find ${count} free ports`);
}

async function isFree(port: number): Promise<boolean> {
  const tcp = await new Promise<boolean>((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
  const udp = await new Promise<boolean>((resolve) => {
    const socket = createSocket("udp4");
    socket.once("error", () => resolve(false));
    socket.bind(port, "127.0.0.1", () => socket.close(() => resolve(true)));
  });
  return tcp && udp;
}
