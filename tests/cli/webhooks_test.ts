/** Webhooks by the whole program: an agent comes, and its master is killed before anybody was told. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { freePorts } from "../support/free_ports.ts";
import { programStarter } from "./program.ts";
import { runHere } from "./run_here.ts";

let folder: string;
const start = programStarter();
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-webhooks-"));
});
after(() => rm(folder, { recursive: true, force: true }));

const run = (...args: string[]) => runHere(args);

/** A server that answers with `status.now`, and what it was told, by its types. */
async function startReceiver() {
  const status = { now: 204 };
  const told: { readonly type: string; readonly id: string }[] = [];
  const watchers = new Set<() => void>();
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (part) => body += part);
    request.on("end", () => {
      told.push({ type: JSON.parse(body).type, id: String(request.headers["webhook-id"]) });
      response.writeHead(status.now).end();
      for (const look of watchers) look();
    });
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    status,
    told,
    /** Resolves when it has been told so many times. */
    toldTimes: (count: number) =>
      new Promise<void>((resolve) => {
        const look = () => {
          if (told.length < count) return;
          watchers.delete(look);
          resolve();
        };
        watchers.add(look);
        look();
      }),
    stop: () => new Promise((resolve) => server.close(resolve)),
  };
}

describe("webhooks", () => {
  it("an agent's coming is told of though the master was killed meanwhile; the log has it", {
    timeout: 90_000,
  }, async () => {
    const receiver = await startReceiver();
    const dataDir = join(folder, "serve");
    const port = await freePorts(1);
    const args = [
      ...["serve", "--listen", "127.0.0.1:0", "--master-listen", `127.0.0.1:${port}`, "--data-dir", dataDir],
      ...["--webhook-networks", "127.0.0.1"],
    ];
    let serve = start(args);
    await serve.seen(/session master +http/);
    const master = `http://127.0.0.1:${port}`;
    const flags = [
      "--master",
      master,
      "--credential",
      (await readFile(join(dataDir, "admin.key"), "utf8")).trim(),
    ];
    const added = await run("webhooks", "add", receiver.url, "--event", "agent.online", ...flags, "--json");
    assert.equal(added.code, 0, added.err);
    const hook = JSON.parse(added.out);
    assert.match(hook.secret, /^whsec_/);
    const logged = async (pattern: RegExp) => {
      let log = "";
      for (let attempt = 0; !pattern.test(log); attempt++) {
        assert.ok(attempt < 100, log);
        log = (await run("webhooks", "log", "--webhook", hook.id, ...flags)).out;
      }
    };
    const tested = await run("webhooks", "test", hook.id, ...flags);
    assert.deepEqual([tested.code, tested.out], [0, "Delivered: it answered 204."]);
    receiver.status.now = 503;
    const failed = await run("webhooks", "test", hook.id, ...flags);
    assert.equal(failed.code, 1);
    assert.match(failed.err, /it answered 503/);

    const { out } = await run("agents", "add", "home", "--hostname", "home.localhost", ...flags, "--json");
    const { join: link } = JSON.parse(out) as { readonly join: string };
    const agent = start([
      ...["agent", "--join", link, "--to", "127.0.0.1:9"],
      ...["--data-dir", join(folder, "agent")],
    ]);
    await agent.seen(/connected to the edge/, "stderr");
    await receiver.toldTimes(3);
    // What is under way when the master ends comes again when its time is over; this one has been noted.
    await logged(/agent\.online +waiting +1 +503/);
    await serve.kill();
    receiver.status.now = 200;
    serve = start(args);
    await serve.seen(/session master +http/);
    const online = () => receiver.told.filter(({ type }) => type === "agent.online");
    for (let count = 4; online().length < 2; count++) await receiver.toldTimes(count);
    const [first, second] = online();
    assert.equal(first?.id, second?.id, "the same message");
    await logged(/agent\.online +delivered +2 +200/);
    const listed = await run("webhooks", "list", ...flags);
    assert.match(listed.out, /hook_[0-9a-f]{16}/);
    assert.ok(!listed.out.includes(hook.secret));
    const removed = await run("webhooks", "remove", hook.id, ...flags);
    assert.deepEqual([removed.code, removed.out], [0, `Removed ${hook.id}.`]);
    assert.equal((await run("webhooks", "list", ...flags)).out, "There are no webhooks.");
    await receiver.stop();
  });
});
