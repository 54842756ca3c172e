/** Handshakes that strangers begin and don't finish, over real sockets, and what another address notices. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { readFile } from "node:fs/promises";
import process from "node:process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { ALPN } from "../conformance/quic_helpers.ts";
import { LineChild } from "../support/child.ts";
import { denoFlags } from "../support/deno_flags.ts";

const SERVER = fileURLToPath(new URL("./deno_quic_server.ts", import.meta.url).href);
const STRANGERS = 600;
/** Without the limit each takes 380 KB: 220 MiB. */
const GROWTH_MAX_MIB = 80;
const timeout = 60_000;
const skip = process.versions.bun !== undefined;

async function mebibytes(pid: number): Promise<number> {
  return Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}

interface Server {
  readonly port: number;
  readonly fingerprint: number[];
}

async function dial({ port, fingerprint }: Server, from: string, idleMs: number): Promise<Deno.QuicConn> {
  const hashes = [{ algorithm: "sha-256", value: Uint8Array.from(fingerprint) }];
  return await Deno.connectQuic({
    hostname: "127.0.0.1",
    port,
    alpnProtocols: [ALPN],
    endpoint: new Deno.QuicEndpoint({ hostname: from, port: 0 }),
    maxIdleTimeout: idleMs,
    ...{ serverCertificateHashes: hashes },
  });
}

/** A relay that takes packets to the server and none back, so that no handshake through it ever ends. */
async function oneWay(port: number): Promise<{ port: number; close: () => void }> {
  const socket = createSocket("udp4");
  let server = true;
  socket.on(
    "message",
    (packet, from) => void (from.port !== port && server && socket.send(packet, port, "127.0.0.1")),
  );
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  return { port: socket.address().port, close: () => (server = false, socket.close()) };
}

describe("denoQuic", { skip }, () => {
  it(
    "one address's unfinished handshakes neither shut out another address nor fill the memory",
    { timeout },
    async () => {
      const server = LineChild.start({ command: process.execPath, args: [...denoFlags(), SERVER] });
      try {
        const there = await server.next((line) => line.port !== undefined) as unknown as Server;
        const relay = await oneWay(there.port);
        const beforeMib = await mebibytes(server.pid);
        const strangers: Promise<unknown>[] = [];
        for (let count = 0; count < STRANGERS; count++) {
          strangers.push(dial({ ...there, port: relay.port }, "127.0.0.1", 3_000).catch(() => {}));
          if (count % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
        }
        // More than the limit have come by now, and the first are still unfinished.
        const good = await dial(there, "127.0.0.2", 10_000);
        const counts = async () => {
          server.send("counts");
          return await server.next((line) => line.accepted !== undefined) as Record<string, number>;
        };
        while ((await counts()).accepted === 0);
        const { limited } = await counts();
        assert.ok(limited! > STRANGERS / 2, `${limited} were refused`);
        const grownMib = await mebibytes(server.pid) - beforeMib;
        assert.ok(grownMib < GROWTH_MAX_MIB, `${grownMib} MiB for ${STRANGERS} handshakes`);
        good.close();
        relay.close();
        await Promise.all(strangers);
      } finally {
        await server.stop();
      }
    },
  );
});
