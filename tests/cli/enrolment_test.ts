/** Agents, enrolled and managed by the whole program. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { until } from "../support/until.ts";
import { programStarter, startServe } from "./program.ts";
import { runHere } from "./run_here.ts";

const timeout = 90_000;
let folder: string;
const start = programStarter();
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-enrolment-"));
});
after(() => rm(folder, { recursive: true, force: true }));

/** What a command writes that must succeed. */
async function run(...args: string[]): Promise<string> {
  const { code, out, err } = await runHere(args);
  assert.equal(code, 0, err);
  return out;
}

describe("agents add, and agent --join", () => {
  it("an agent is added, enrols, serves, comes back without the code, and ends when it is suspended", {
    timeout,
  }, async () => {
    const dataDir = join(folder, "serve");
    const agentDir = join(folder, "agent");
    const { master } = await startServe(start, dataDir);
    const key = (await readFile(join(dataDir, "admin.key"), "utf8")).trim();
    const flags = ["--master", master, "--credential", key];

    const added = JSON.parse(
      await run("agents", "add", "home", "--hostname", "home.example.org", ...flags, "--json"),
    );
    assert.match(added.id, /^agent_[0-9a-f]{16}$/);
    assert.ok(added.join.startsWith(`${master}/#`), added.join);
    const agentFlags = ["agent", "--to", "127.0.0.1:1", "--data-dir", agentDir];
    const first = start([...agentFlags, "--join", added.join]);
    await first.seen(/connected to the edge/, "stderr");
    first.signal("SIGTERM");
    await first.ended;

    const identity = join(agentDir, "agent.identity");
    assert.equal((await stat(identity)).mode & 0o777, 0o600);
    assert.ok(!(await readFile(identity, "utf8")).includes(added.join.split("#")[1]), "the code isn't kept");
    assert.equal((await stat(join(dataDir, "master.db"))).mode & 0o777, 0o600);

    // The code is good once, for others; this agent doesn't need it any more.
    const stolen = start([
      "agent",
      "--to",
      "127.0.0.1:1",
      "--data-dir",
      join(folder, "thief"),
      "--join",
      added.join,
    ]);
    assert.notEqual(await stolen.ended, 0);
    assert.match(stolen.stderr, /code has been used/);
    const second = start(agentFlags);
    await second.seen(
      /connected to the edge.*home\.example\.org|home\.example\.org.*connected to the edge/,
      "stderr",
    );

    const hostnames = async () =>
      JSON.parse(await run("sessions", "list", ...flags, "--json")).map((
        { hostname }: { hostname: string },
      ) => hostname).join();
    // The edge reports sessions soon after they begin and end.
    await until(async () => await hostnames() === "home.example.org");
    const list = await run("agents", "list", ...flags);
    assert.match(
      list,
      /^NAME +STATE +ONLINE +HOSTNAMES +ID\nhome +active +yes +home\.example\.org +agent_/,
    );
    await run("agents", "suspend", "home", ...flags);
    await second.seen(/suspended/, "stderr");
    await until(async () => await hostnames() === "");
    assert.match(await run("agents", "list", ...flags), /\nhome +suspended +no /);
    await run("agents", "resume", "home", ...flags);
    const audit = await run("audit", ...flags);
    for (const action of ["agent.resumed", "agent.suspended", "agent.enrolled", "agent.added"]) {
      assert.ok(audit.includes(action), action);
    }
  });

  it(
    "what the session master refuses is said in its words, with this program's commands",
    { timeout },
    async () => {
      const dataDir = join(folder, "words");
      const master = start(["master", "--master-listen", "127.0.0.1:0", "--data-dir", dataDir]);
      const [, url = ""] = await master.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
      const refused = async (...args: string[]) => {
        const { code, err } = await runHere([...args, "--master", url, "--data-dir", dataDir]);
        assert.equal(code, 2);
        return err.trim();
      };
      assert.equal(
        await refused("agents", "show", "nobody"),
        'error: Cannot find agent "nobody"; `agents list` shows them',
      );
      assert.match(
        await refused("webhooks", "add", "http://10.0.0.1/"),
        /^error: Cannot add webhook: url must begin/,
      );
    },
  );

  it("a backup of a running master's database serves as one", { timeout }, async () => {
    const dataDir = join(folder, "backed");
    const flags = ["--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0", "--data-dir", dataDir];
    const serve = start(["serve", ...flags]);
    const [, master = ""] = await serve.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
    await run(
      "agents",
      "add",
      "home",
      "--hostname",
      "home.example.org",
      "--master",
      master,
      "--data-dir",
      dataDir,
    );
    const copy = join(folder, "copy.db");
    assert.match(await run("backup", copy, "--data-dir", dataDir), /^Copied /);
    await assert.rejects(run("backup", copy, "--data-dir", dataDir), "a copy isn't overwritten");
    serve.signal("SIGTERM");
    await serve.ended;
    const restored = start(["serve", ...flags, "--database", copy]);
    const [, other = ""] = await restored.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
    assert.match(await run("agents", "list", "--master", other, "--data-dir", dataDir), /home\.example\.org/);
  });
});
