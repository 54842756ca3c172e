/** A session master and an edge in processes of their own: suspended agents, crashes, usage, and reloaded keys. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { appendFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { generateFernetKey } from "../../src/crypto/fernet.ts";
import { clientHello } from "../support/client_hello.ts";
import { freePorts } from "../support/free_ports.ts";
import { startTlsSite } from "../support/tls_site.ts";
import { until } from "../support/until.ts";
import { programStarter } from "./program.ts";

const timeout = 120_000;
let folder: string;
const start = programStarter();
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-control-"));
});
after(() => rm(folder, { recursive: true, force: true }));

describe("edge with a session master", () => {
  it(
    "a suspended agent is gone within a second, and an edge without its master goes on",
    { timeout },
    async () => {
      const site = await startTlsSite("home.example.org");
      const masterPort = await freePorts(2);
      const edgePort = masterPort + 1;
      const masterDir = join(folder, "master");
      const masterArgs = [
        "master",
        "--master-listen",
        `127.0.0.1:${masterPort}`,
        "--data-dir",
        masterDir,
        "--public-address",
        `127.0.0.1:${edgePort}`,
      ];
      let master = start(masterArgs);
      const url = `http://127.0.0.1:${masterPort}`;
      await master.seen(/session master +http/);
      const key = (await readFile(join(masterDir, "admin.key"), "utf8")).trim();
      const api = async (method: string, path: string, body?: unknown) => {
        const answer = await fetch(url + path, {
          method,
          headers: {
            authorization: `Bearer ${key}`,
            ...body === undefined ? {} : { "content-type": "application/json" },
          },
          ...body === undefined ? {} : { body: JSON.stringify(body) },
        });
        const text = await answer.text();
        assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
        return text === "" ? {} : JSON.parse(text);
      };
      const edge = start([
        ...["edge", "--listen", `127.0.0.1:${edgePort}`, "--data-dir", join(folder, "edge"), "--master", url],
        ...["--fernet-keys-file", join(masterDir, "fernet.keys"), "--log-level", "debug"],
      ]);
      await edge.seen(/which knows this edge as edge-/);
      const { join_code } = await api("POST", "/v1/agents", {
        name: "home",
        hostnames: ["home.example.org"],
      });
      const agent = start([
        ...[
          "agent",
          "--join",
          `${url}/#${join_code}`,
          "--to",
          `127.0.0.1:${site.port}`,
          "--data-dir",
          join(folder, "agent"),
        ],
      ]);
      await agent.seen(/connected to the edge/, "stderr");
      await untilSo(async () => (await api("GET", "/v1/sessions")).items.length === 1);

      // A visitor's stream stands, and ends with the suspension.
      const visit = () => {
        const socket = connect(edgePort, "127.0.0.1");
        socket.on("error", () => {});
        socket.write(clientHello("home.example.org"));
        const answered = new Promise((resolve) => socket.once("data", resolve));
        const over = new Promise((resolve) => socket.once("close", resolve));
        return { socket, answered, over };
      };
      const visitor = visit();
      await visitor.answered;
      await api("POST", "/v1/agents/home/suspend");
      await visitor.over;
      await api("POST", "/v1/agents/home/resume");
      await agent.seen(/connected to the edge[\s\S]*connected to the edge/, "stderr");

      // Killed, the master is missed by nobody who is there already; its successor has all that was counted.
      await master.kill();
      const second = visit();
      await second.answered;
      second.socket.destroy();
      master = start(masterArgs);
      await master.seen(/session master +http/);
      await untilSo(async () => {
        const { items } = await api("GET", "/v1/usage");
        return items.reduce((sum: number, { streams }: { streams: number }) => sum + streams, 0) === 2;
      });
      // The channel stands again by itself.
      await untilSo(async () => (await api("GET", "/v1/sessions")).items.length === 1);
      const [{ id }] = (await api("GET", "/v1/sessions")).items;
      await api("DELETE", `/v1/sessions/${id}`);
      await edge.seen(/the session master has ended it/, "stderr");

      // SIGHUP ends no process: it takes up a new key.
      await appendFile(join(masterDir, "fernet.keys"), `${generateFernetKey()}\n`);
      master.signal("SIGHUP");
      await master.seen(/keys reloaded/, "stderr");
      assert.equal((await api("GET", "/v1/keys")).items.length, 2);
      await site.stop();
    },
  );

  it("kill -9 of the edge and of the master loses no usage and counts none twice", { timeout }, async () => {
    const site = await startTlsSite("home.example.org");
    const masterPort = await freePorts(2);
    const edgePort = masterPort + 1;
    const url = `http://127.0.0.1:${masterPort}`;
    const [masterDir, edgeDir] = [join(folder, "killed-master"), join(folder, "killed-edge")];
    const startMaster = async () => {
      const master = start([
        ...["master", "--master-listen", `127.0.0.1:${masterPort}`, "--data-dir", masterDir],
        ...["--public-address", `127.0.0.1:${edgePort}`],
      ]);
      await master.seen(/session master +http/);
      return master;
    };
    const startEdge = async () => {
      const edge = start([
        ...["edge", "--listen", `127.0.0.1:${edgePort}`, "--data-dir", edgeDir, "--master", url],
        ...["--fernet-keys-file", join(masterDir, "fernet.keys")],
      ]);
      await edge.seen(/which knows this edge as edge-/);
      return edge;
    };
    let master = await startMaster();
    let edge = await startEdge();
    const keyFile = join(masterDir, "admin.key");
    const agent = start([
      ...["agent", "--master", url, "--credential-file", keyFile, "--hostname", "home.example.org"],
      ...["--to", `127.0.0.1:${site.port}`, "--data-dir", join(folder, "killed-agent")],
    ]);
    await agent.seen(/connected to the edge/, "stderr");
    const hello = clientHello("home.example.org");
    let visits = 0;
    const visit = async () => {
      const socket = connect(edgePort, "127.0.0.1").on("error", () => {});
      socket.write(hello);
      await once(socket, "data");
      socket.destroy();
      visits++;
    };
    const authorization = `Bearer ${(await readFile(keyFile, "utf8")).trim()}`;
    const counted = async () => {
      const { items } = await (await fetch(`${url}/v1/usage`, { headers: { authorization } })).json();
      return [items.length, items[0]?.streams, items[0]?.bytes_to_agent];
    };
    const allCounted = () =>
      untilSo(async () => isDeepStrictEqual(await counted(), [1, visits, visits * hello.length]));
    await visit();
    await allCounted();

    // The edge stands alone, and has written down what it will report.
    await master.kill();
    await visit();
    await visit();
    const journal = join(edgeDir, "edge.journal");
    await untilSo(async () => (await readFile(journal, "utf8")).includes(`:${2 * hello.length},`));
    await edge.kill();
    master = await startMaster();
    edge = await startEdge();
    await allCounted();
    await agent.seen(/connected to the edge[\s\S]*connected to the edge/, "stderr");
    await visit();
    await allCounted();
    await site.stop();
  });

  it("`master` and `serve` believe X-Forwarded-For of their proxies alike", { timeout }, async () => {
    for (const command of [["master"], ["serve", "--listen", "127.0.0.1:0"]]) {
      const program = start([
        ...[
          ...command,
          "--master-listen",
          "127.0.0.1:0",
          "--data-dir",
          join(folder, `proxied-${command[0]}`),
        ],
        ...["--forwarded-from", "127.0.0.1"],
      ]);
      const [, url = ""] = await program.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
      const ask = async (from: string) => {
        const answer = await fetch(`${url}/v1/agents`, {
          headers: { authorization: "Bearer wrong-key-of-some-length", "x-forwarded-for": from },
        });
        await answer.body?.cancel();
        return answer.status;
      };
      for (let count = 0; count < 20; count++) assert.equal(await ask("192.0.2.1"), 401);
      assert.equal(await ask("192.0.2.1"), 429, command[0]);
      assert.equal(await ask("192.0.2.2"), 401, "another client isn't locked out");
    }
  });
});

/** Asks again until it is so, also where a question gets no answer. */
function untilSo(met: () => Promise<boolean>): Promise<void> {
  return until(() => met().catch(() => false));
}
