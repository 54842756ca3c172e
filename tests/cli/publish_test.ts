/** Public ports by the whole program: edge, session master and agents as processes, over native sockets. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { programStarter } from "./program.ts";

const timeout = 90_000;
const GREETING = "SSH-2.0-device\r\n";
const BYTES = 1_000_000;

let folder: string;
/** It speaks first, and sends back all that comes, the end too. */
let device: Server;
const start = programStarter();
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-publish-"));
  device = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    socket.write(GREETING);
    socket.pipe(socket);
  });
  device.listen(0, "127.0.0.1");
  await once(device, "listening");
});
after(async () => {
  device.close();
  await rm(folder, { recursive: true, force: true });
});

/** Whether nobody listens there. */
async function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  const free = await new Promise<boolean>((resolve) => {
    probe.on("error", () => resolve(false));
    probe.listen(port, "127.0.0.1", () => resolve(true));
  });
  await new Promise((resolve) => probe.close(resolve));
  return free;
}

/** A range whose first ports are free, below those that systems give out by themselves. */
async function freeRange(): Promise<{ readonly first: number; readonly last: number }> {
  for (;;) {
    const first = 10_000 + Math.floor(Math.random() * 20_000);
    const free = await Promise.all([0, 1, 2, 3, 4].map((step) => isFree(first + step)));
    if (free.every((each) => each)) return { first, last: first + 20 };
  }
}

/** An edge with public ports, and how agents get there. */
async function startEdge(name: string, flags: readonly string[] = []) {
  const { first, last } = await freeRange();
  const dataDir = join(folder, name);
  const edge = start([
    ...["serve", "--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0", "--data-dir", dataDir],
    ...[
      "--curve-listen",
      "127.0.0.1:0",
      "--publish-ports",
      `${first}-${last}`,
      "--publish-listen",
      "127.0.0.1",
    ],
    ...["--quic-listen", "127.0.0.1:0", "--quic-on-bun", "accept-risk"],
    ...flags,
  ]);
  await edge.seen(new RegExp(`public ports +${first}-${last} on 127\\.0\\.0\\.1`));
  const [, master = ""] = await edge.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
  const agent = (...more: readonly string[]) =>
    start([
      ...[
        "agent",
        "--master",
        master,
        "--credential-file",
        join(dataDir, "admin.key"),
        "--to",
        "127.0.0.1:1",
      ],
      ...["--data-dir", join(folder, `${name}-agent`), ...more],
    ]);
  return { edge, master, agent, first };
}

const target = () => `127.0.0.1:${(device.address() as AddressInfo).port}`;

/** All that comes until the end, of a client that is greeted first, sends `bytes` and, where it says so, ends. */
async function talk(port: number, bytes: Uint8Array, halfClose: boolean): Promise<Buffer> {
  const socket: Socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  const parts: Buffer[] = [];
  let length = 0;
  const whole = GREETING.length + bytes.length;
  await new Promise<void>((resolve, reject) => {
    socket.on("error", reject);
    socket.on("data", (part) => {
      parts.push(part as Buffer);
      const before = length;
      length += part.length;
      if (before < GREETING.length && length >= GREETING.length) {
        if (halfClose) socket.end(bytes);
        else socket.write(bytes);
      }
      if (!halfClose && length === whole) resolve();
    });
    socket.on("end", resolve);
  });
  socket.destroy();
  return Buffer.concat(parts);
}

describe("agent --publish", () => {
  for (const transport of ["snitun", "sealed", "curve", "quic"]) {
    it(`reach a server that speaks first, over ${transport}, with half-close`, { timeout }, async () => {
      const { edge, master, agent, first } = await startEdge(transport);
      const device = agent(
        ...["--hostname", "a.example.org", "--transport", transport],
        ...["--publish", `tcp:${first + 3}=${target()}`, "--publish", `tcp=${target()}`],
      );
      const ports: number[] = [];
      for (const name of [`tcp:${first + 3}`, "tcp"]) {
        const [, port] = await device.seen(
          new RegExp(`public port open.*publish="?${name}"?[ ,].*public_port=(\\d+)`),
          "stderr",
        );
        ports.push(Number(port));
      }
      assert.equal(ports[0], first + 3);
      const bytes = Buffer.alloc(BYTES, "mqtt");
      for (const port of ports) {
        // SniTun can't say that one direction has ended; the others can.
        const got = await talk(port, bytes, transport !== "snitun");
        assert.equal(got.subarray(0, GREETING.length).toString(), GREETING);
        assert.ok(got.subarray(GREETING.length).equals(bytes), `${got.length} bytes came`);
      }
      const text = await (await fetch(`${master}/metrics`)).text();
      assert.equal(sampleValue(parsePrometheus(text), "sallyport_public_ports"), 2);
      device.signal("SIGTERM");
      assert.equal(await device.ended, 0);
      await edge.seen(new RegExp(`public port closed.*port=${first + 3}`), "stderr");
      await assert.rejects(talk(first + 3, bytes, false), { code: "ECONNREFUSED" });
    });
  }

  it("say which port isn't available, and why", { timeout }, async () => {
    const { agent, first } = await startEdge("refusals");
    const device = agent("--hostname", "a.example.org", "--publish", `tcp:${first + 30}=${target()}`);
    await device.seen(
      new RegExp(
        `Cannot publish tcp:${
          first + 30
        }: .*isn't allowed.*reason=access_denied|access_denied.*isn't allowed`,
      ),
      "stderr",
    );
    const wrong = agent("--hostname", "b.example.org", "--publish", "udp:53");
    assert.notEqual(await wrong.ended, 0);
    assert.match(wrong.stderr, /--publish: "udp:53" is not a public port, for example tcp:2222/);
  });
});
