/** Ours and snocat-cli at either end, as processes. The bytes of either are in tests/snocat/recorded_test.ts. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, afterEach, before, describe, it } from "node:test";
import type { Program } from "../cli/program.ts";
import { type ServerParts, SnocatPrograms } from "../support/snocat_programs.ts";
import { visitEcho } from "../support/tcp_echo.ts";
import { until } from "../support/until.ts";
import { skipSnocat, SNOCAT_VERSION, snocatCli } from "./snocat_env.ts";

const skip = await skipSnocat();
if (skip !== false) console.error(`Tests with snocat-cli are left out: ${skip}`);
const timeout = 120_000;

describe("snocat-cli as the peer", { skip }, () => {
  let programs: SnocatPrograms;
  let cli: string;
  before(async () => {
    programs = await SnocatPrograms.open();
    cli = await snocatCli();
  });
  after(() => programs?.close());
  afterEach(() => programs.reset());

  const start = (args: readonly string[]): Program =>
    programs.start(args, { command: cli, args: [], foreign: true });

  const server = (parts: ServerParts): Program =>
    start([
      ...["server", "--quic", `127.0.0.1:${parts.quicPort}`],
      ...["--ports", `${parts.firstPort}:${parts.lastPort}`],
      ...["--cert", `${parts.certificate}.pub.pem`, "--key", `${parts.certificate}.priv.pem`],
    ]);

  const client = (parts: ServerParts, authority = parts.certificate): Program =>
    start([
      ...["client", "--driver", `127.0.0.1:${parts.quicPort}`, "--san", "localhost"],
      ...["--authority", `${authority}.pub.pem`, "--target", `127.0.0.1:${programs.echoPort}`],
    ]);

  /** snocat's client says nothing of its port; it asks 5 s after it has joined. */
  const isOpen = (port: number): Promise<boolean> => visitEcho(port, 1).then(() => true, () => false);
  const untilOpen = (port: number): Promise<void> => until(() => isOpen(port));

  const many = (port: number): Promise<unknown> =>
    Promise.all(Array.from({ length: 200 }, (_, i) => visitEcho(port, 20_000 + i, "127.0.0.1", i + 1)));

  it("it is the version that the tests are about", () => {
    const version = execFileSync(cli, ["--version"], { encoding: "utf8" }).trim();
    assert.equal(version, `snocat-cli ${SNOCAT_VERSION}`);
  });

  it("its clients join our server: lowest ports, half-close, 200 visitors at once", { timeout }, async () => {
    const parts = await programs.parts(2, "leaf");
    const ours = await programs.server(parts);
    const theirs = [client(parts, "ca"), client(parts, "ca")];
    await Promise.all([untilOpen(parts.firstPort), untilOpen(parts.lastPort)]);
    await Promise.all([visitEcho(parts.firstPort, 3_000_000), visitEcho(parts.lastPort, 3_000_000)]);
    await many(parts.firstPort);
    // Whoever leaves frees its port for the next.
    theirs[0]!.signal("SIGINT");
    await theirs[0]!.ended;
    // Our server may hear of it later than we do.
    const held = [parts.firstPort, parts.lastPort];
    await until(async () => (await Promise.all(held.map(isOpen))).includes(false), 45_000);
    const freed = await programs.port(programs.client(parts));
    assert.ok(freed === parts.firstPort || freed === parts.lastPort);
    await Promise.all([visitEcho(parts.firstPort, 10_000), visitEcho(parts.lastPort, 10_000)]);
    ours.signal("SIGINT");
    assert.equal(await ours.ended, 0, ours.stderr);
    await theirs[1]!.ended;
  });

  it(
    "our clients join its server: half-close, 200 visitors at once, a used-up range",
    { timeout },
    async () => {
      const parts = await programs.parts(1);
      server(parts);
      const first = programs.client(parts);
      assert.equal(await programs.port(first), parts.firstPort);
      await visitEcho(parts.firstPort, 3_000_000);
      await many(parts.firstPort);
      const second = programs.client(parts);
      assert.equal(await second.ended, 1);
      assert.match(second.stderr, /^error: Cannot get a public port/m);
      first.signal("SIGINT");
      assert.equal(await first.ended, 0, first.stderr);
      const third = programs.client(parts);
      assert.equal(await programs.port(third), parts.firstPort);
      await visitEcho(parts.firstPort, 10);
    },
  );

  it(
    "our client comes back when its server has crashed, and tells a stranger's certificate from it",
    { timeout },
    async () => {
      const parts = await programs.parts(1, "leaf");
      const first = server(parts);
      const ours = programs.client(parts);
      await programs.port(ours);
      const stranger = programs.client(parts, undefined, ["--authority", "self.pub.pem"]);
      assert.equal(await stranger.ended, 1);
      assert.match(stranger.stderr, /its certificate isn't trusted/);
      // Its Ctrl-C waits for its clients, so it crashes, which shows when nothing was heard of it for 30 s.
      await first.kill();
      server(parts);
      assert.equal(await programs.port(ours, 90_000), parts.firstPort);
      await visitEcho(parts.firstPort, 100_000);
    },
  );

  it("its own certificate works at our server and client", { timeout }, async () => {
    await start(["cert", "theirs", "--san", "localhost"]).ended;
    const parts = await programs.parts(1, "theirs");
    await programs.server(parts);
    await programs.port(programs.client(parts));
    await visitEcho(parts.firstPort, 1_000);
  });
});
