/** Services by the whole program: edge, session master and agent as processes, and a file that changes. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, describe, it } from "node:test";
import { clientHello } from "../support/client_hello.ts";
import { Program, programStarter, startServe } from "./program.ts";

const timeout = 90_000;

let folder: string;
let edge: Program;
let edgePort = 0;
let master = "";
/** Endpoints that send back all that comes, a ClientHello first, and count their connections. */
const endpoints: { readonly server: Server; readonly port: number; connections: number }[] = [];
const start = programStarter();

// Not in a hook, which Bun ends after 5 s.
it("an edge, a session master and endpoints are there", { timeout }, async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-services-"));
  for (let i = 0; i < 3; i++) {
    const server = createServer((socket) => {
      endpoint.connections++;
      socket.on("error", () => {});
      socket.pipe(socket);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const endpoint = { server, port: (server.address() as AddressInfo).port, connections: 0 };
    endpoints.push(endpoint);
  }
  ({ port: edgePort, master } = await startServe(
    (args) => edge = new Program(args),
    join(folder, "edge"),
    ["--log-level", "debug"],
  ));
});
after(async () => {
  await edge.kill();
  for (const { server } of endpoints) server.close();
  await rm(folder, { recursive: true, force: true });
});

function agent(...more: readonly string[]): Program {
  return start([
    ...["agent", "--master", master, "--credential-file", join(folder, "edge", "admin.key")],
    ...["--data-dir", join(folder, "agent"), ...more],
  ]);
}

/** A visitor whose ClientHello came back: the name's service is reached. Undefined where it was turned away. */
async function visit(name: string): Promise<Socket | undefined> {
  const socket = connect(edgePort, "127.0.0.1");
  socket.on("error", () => {});
  socket.write(clientHello(name));
  const [first] = await Promise.race([once(socket, "data"), once(socket, "close")]) as [Buffer | boolean];
  if (typeof first !== "object" || first[0] !== 22) {
    socket.destroy();
    return undefined;
  }
  return socket;
}

/** The edge has let in a session of this hostname, for the nth time. */
function admitted(hostname: string, times = 1): Promise<unknown> {
  const line = `agent connected[^\\n]*hostname=${hostname.replaceAll(".", "\\.")}`;
  return edge.seen(new RegExp(`(?:${line}[\\s\\S]*){${times}}`), "stderr");
}

/** Sends more on a visitor's connection, and waits until it has come back. */
async function echo(socket: Socket): Promise<void> {
  // The rest of its ClientHello may still be on the way back.
  const back = new Promise<void>((resolve, reject) => {
    let text = "";
    const take = (part: unknown) => {
      text += String(part);
      if (!text.endsWith("more")) return;
      socket.off("data", take).off("close", gone);
      resolve();
    };
    const gone = () => reject(new Error("the visitor's connection ended"));
    socket.on("data", take).once("close", gone);
  });
  socket.write("more");
  await back;
}

describe("agent --service", () => {
  it(
    "serves several names, each with its own target, and a target that isn't one is explained",
    { timeout },
    async () => {
      const wrong = agent("--service", "a.services.example=3000");
      assert.equal(await wrong.ended, 2);
      assert.match(
        wrong.stderr,
        /a port alone isn't a target; use 127\.0\.0\.1:3000 or http:\/\/127\.0\.0\.1:3000/,
      );
      const running = agent(
        ...["--service", `a.services.example=127.0.0.1:${endpoints[0]!.port}`],
        ...["--service", `b.services.example=tcp://127.0.0.1:${endpoints[1]!.port}`],
        ...["--service", `*.services.example=127.0.0.1:${endpoints[2]!.port}`],
      );
      await running.seen(/service +a\.services\.example to 127\.0\.0\.1:\d+ \(TLS: passthrough\)/);
      await admitted("a.services.example");
      const before = endpoints.map(({ connections }) => connections);
      for (const label of ["a", "b", "b", "x", "y", "z"]) {
        const name = `${label}.services.example`;

        const visitor = await visit(name);
        assert.ok(visitor, name);
        visitor.destroy();
      }
      assert.deepEqual(endpoints.map(({ connections }, i) => connections - before[i]!), [1, 2, 3]);

      const dataDir = join(folder, "agent");
      if (process.platform !== "win32") {
        assert.equal((await stat(join(dataDir, "agent.sock"))).mode & 0o777, 0o600);
      }
      const asked = start(["agent", "status", "--data-dir", dataDir, "--json"]);
      assert.equal(await asked.ended, 0, asked.stderr);
      const report = JSON.parse(asked.stdout);
      assert.equal(report.agent.session.transport, "snitun");
      assert.equal(report.agent.session.edge, `localhost:${edgePort}`);
      assert.deepEqual(report.services.map((one: Record<string, unknown>) => [one.tls, one.visitorsTotal]), [
        ["passthrough", 1],
        ["passthrough", 2],
        ["passthrough", 3],
      ]);
      const shown = start(["agent", "--data-dir", dataDir, "status"]);
      assert.equal(await shown.ended, 0);
      assert.match(shown.stdout, /^session +snitun to localhost:\d+ for /m);
      assert.match(shown.stdout, /^b\.services\.example\n {2}target +tcp:\/\/127\.0\.0\.1:\d+ {2}up$/m);
      const doctor = start([
        ...["doctor", "nobody.example", "--at", `127.0.0.1:${edgePort}`, "--data-dir", dataDir],
      ]);
      assert.equal(await doctor.ended, 1);
      assert.match(doctor.stdout, /^ok {4}port: something listens at 127\.0\.0\.1:\d+$/m);
      assert.match(doctor.stdout, /^FAIL {2}service: The agent has no service called nobody\.example/m);
      // A second agent with the same data folder serves too, and says that it can't be asked.
      const second = agent("--service", `second.services.example=127.0.0.1:${endpoints[0]!.port}`);
      await second.seen(/agent status` won't work: .*another agent answers there/, "stderr");
      second.signal("SIGTERM");
      assert.equal(await second.ended, 0);
      running.signal("SIGTERM");
      assert.equal(await running.ended, 0);
      const nobody = start(["agent", "status", "--data-dir", join(folder, "agent")]);
      assert.equal(await nobody.ended, 1);
      assert.match(nobody.stderr, /no agent runs with this data folder/);
    },
  );
});

describe("agent --config", () => {
  const yaml = (...services: readonly [name: string, port: number][]) =>
    `services:\n${
      services.map(([name, port]) => `  - name: ${name}\n    target: 127.0.0.1:${port}\n`).join("")
    }`;

  it(
    "takes up a changed file without cutting a stream whose service did not change",
    { timeout },
    async () => {
      const file = join(folder, "agent.yaml");
      const log = join(folder, "access.log");
      const [one, two, three] = endpoints.map(({ port }) => port) as [number, number, number];
      await writeFile(
        file,
        `access_log: ${log}\n${
          yaml(["keep.file.example", one], ["gone.file.example", two])
        }    access_log: ${log}\n`,
      );
      const running = agent("--config", file);
      await admitted("keep.file.example");
      const kept = await visit("keep.file.example");
      const gone = await visit("gone.file.example");
      assert.ok(kept && gone);
      assert.equal(await visit("new.file.example"), undefined);

      // A wrong file is refused, and the old one stays.
      await writeFile(file, yaml(["keep.file.example", one], ["bad name", two]));
      await running.seen(
        /Cannot reload configuration, the old one stays: .*agent\.yaml:4:11: services\[1\]\.name/,
        "stderr",
      );
      await echo(kept);
      await echo(gone);

      const over = once(gone, "close");
      gone.resume();
      await writeFile(file, yaml(["keep.file.example", one], ["new.file.example", three]));
      if (process.platform !== "win32") running.signal("SIGHUP");
      await running.seen(/configuration reloaded/, "stderr");
      await over;
      // The new session, whose token has the new names.
      await admitted("keep.file.example", 2);
      const fresh = await visit("new.file.example");
      assert.ok(fresh);
      await echo(kept);
      assert.equal(await visit("gone.file.example"), undefined);
      const lines = (await readFile(log, "utf8")).trimEnd().split("\n").map((line) => JSON.parse(line));
      assert.deepEqual(lines.map(({ service, visitor }) => [service, visitor]), [[
        "gone.file.example",
        "127.0.0.1",
      ]]);
      assert.ok(lines[0].bytes_in > 0 && lines[0].bytes_out === lines[0].bytes_in, JSON.stringify(lines[0]));
      kept.destroy();
      fresh.destroy();
      running.signal("SIGTERM");
      assert.equal(await running.ended, 0);
    },
  );

  it("loses no visitor while other services come and go", { timeout }, async () => {
    const file = join(folder, "busy.yaml");
    const [one, two] = endpoints.map(({ port }) => port) as [number, number];
    const busy: [string, number] = ["busy.file.example", one];
    await writeFile(file, yaml(busy));
    const running = agent("--config", file);
    await admitted("busy.file.example");
    let reloading = true;
    const visitors = Array.from({ length: 4 }, async () => {
      let visits = 0;
      for (; reloading; visits++) {
        const visitor = await visit("busy.file.example");
        assert.ok(visitor, "a visitor was turned away");
        await echo(visitor);
        visitor.destroy();
      }
      return visits;
    });
    // Each change is another set of names, which takes another token and a session in the place of the last one.
    for (let change = 1; change <= 4; change++) {
      await writeFile(file, yaml(busy, [`other-${change}.file.example`, two]));
      if (process.platform !== "win32") running.signal("SIGHUP");
      await admitted("busy.file.example", change + 1);
      const other = await visit(`other-${change}.file.example`);
      assert.ok(other, `the service of change ${change} isn't served`);
      other.destroy();
    }
    reloading = false;
    const visits = await Promise.all(visitors);
    assert.ok(visits.every((count) => count > 0), String(visits));
    running.signal("SIGTERM");
    assert.equal(await running.ended, 0);
  });

  it("is checked by `agent check`, with line and column", { timeout }, async () => {
    const file = join(folder, "check.yaml");
    await writeFile(file, yaml(["a.file.example", 1], ["b.file.example", 2]));
    const good = start(["agent", "check", file]);
    assert.equal(await good.ended, 0);
    assert.match(good.stdout, /is fine: 2 services/);
    await writeFile(file, "services:\n  - name: a.file.example\n    targt: 127.0.0.1:1\n");
    const bad = start(["agent", "check", file]);
    assert.equal(await bad.ended, 2);
    assert.match(
      bad.stderr,
      /check\.yaml:3:5: services\[0\]\.targt: there is no such member\. Did you mean target\?/,
    );
  });
});
