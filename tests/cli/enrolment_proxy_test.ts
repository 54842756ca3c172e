/** An agent that reaches the world through a proxy alone: it enrols through it too. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { until } from "../support/until.ts";
import { programStarter } from "./program.ts";

let folder: string;
const start = programStarter();
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-enrolment-proxy-"));
});
after(() => rm(folder, { recursive: true, force: true }));

/** A proxy that takes CONNECT to names of `.test`, which are this machine, and notes where it was asked to go. */
async function startProxy() {
  const asked: string[] = [];
  const server = createServer((socket) => {
    socket.on("error", () => {});
    let head = "";
    const read = (part: Uint8Array) => {
      head += new TextDecoder("latin1").decode(part);
      if (!head.includes("\r\n\r\n")) return;
      socket.off("data", read);
      const [, where = "", port = ""] = /^CONNECT (\S+):(\d+) HTTP/.exec(head) ?? [];
      asked.push(where);
      const target = connect(Number(port), "127.0.0.1", () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        socket.pipe(target).pipe(socket);
      });
      target.on("error", () => socket.destroy());
      socket.on("close", () => target.destroy());
    };
    socket.on("data", read);
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  return {
    asked,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop: () => server.close(),
  };
}

describe("agent --join behind a proxy", () => {
  it(
    "enrols, gets its tokens, serves and asks for certificates through it",
    { timeout: 60_000 },
    async () => {
      const proxy = await startProxy();
      const dataDir = join(folder, "serve");
      const serve = start([
        ...["serve", "--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0", "--data-dir", dataDir],
      ]);
      const [, port = ""] = await serve.seen(/session master +http:\/\/127\.0\.0\.1:(\d+)/);
      const edgePort = /visitors and agents +127\.0\.0\.1:(\d+)/.exec(serve.stdout)?.[1];
      const key = (await readFile(join(dataDir, "admin.key"), "utf8")).trim();
      const answer = await fetch(`http://127.0.0.1:${port}/v1/agents`, {
        method: "POST",
        headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
        body: JSON.stringify({ name: "home", hostnames: ["home.example.org"] }),
      });
      const { join_code } = await answer.json();
      // Only the proxy knows these names.
      const agent = start([
        ...["agent", "--join", `http://master.test:${port}/#${join_code}`, "--insecure-master"],
        ...[
          "--to",
          "http://127.0.0.1:9",
          "--acme-directory",
          "https://authority.test:1/dir",
          "--proxy",
          proxy.url,
          "--edge",
          `edge.test:${edgePort}`,
        ],
        ...["--data-dir", join(folder, "agent")],
      ]);
      await agent.seen(/connected to the edge/, "stderr");
      assert.deepEqual(proxy.asked.slice(0, 2), ["master.test", "master.test"]);
      assert.ok(proxy.asked.includes("edge.test"), proxy.asked.join());
      await until(() => proxy.asked.includes("authority.test"));
      proxy.stop();
    },
  );
});
