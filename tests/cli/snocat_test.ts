/** snocat's commands as whole programs: server and client of ours, on one runtime and across the two. */
import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { after, afterEach, before, describe, it } from "node:test";
import { freePorts } from "../support/free_ports.ts";
import { otherRuntime } from "../support/other_runtime.ts";
import { type Player, SnocatPrograms } from "../support/snocat_programs.ts";
import { startEcho, untilRefused, visitEcho } from "../support/tcp_echo.ts";

const timeout = 120_000;
const other = await otherRuntime();
const own = process.versions.deno === undefined ? "bun" : "deno";
const players: { readonly name: string; readonly player: Player }[] = [{ name: own, player: undefined }];
if (other !== undefined) players.push({ name: other.name, player: other });

let programs: SnocatPrograms;
before(async () => {
  assert.ok(other !== undefined || !process.env.CI, "the other runtime isn't on PATH");
  programs = await SnocatPrograms.open();
});
after(() => programs?.close());
afterEach(() => programs.reset());

for (const { name, player } of players) {
  describe(`snocat, server on ${own}, client on ${name}`, () => {
    it("visitors reach the target, half-close kept, and Ctrl-C ends both in order", { timeout }, async () => {
      const parts = await programs.parts(2, "leaf");
      const server = await programs.server(parts);
      const client = programs.client(parts, player);
      assert.equal(await programs.port(client), parts.firstPort);
      await visitEcho(parts.firstPort, 3_000_000);
      client.signal("SIGINT");
      assert.equal(await client.ended, 0, client.stderr);
      await untilRefused(parts.firstPort);
      server.signal("SIGINT");
      assert.equal(await server.ended, 0, server.stderr);
    });

    it("two clients get two ports, a third none, and who leaves makes room", { timeout }, async () => {
      const parts = await programs.parts(2);
      await programs.server(parts);
      const first = programs.client(parts, player);
      assert.equal(await programs.port(first), parts.firstPort);
      assert.equal(await programs.port(programs.client(parts)), parts.lastPort);
      const third = programs.client(parts, player);
      assert.equal(await third.ended, 1);
      assert.match(third.stderr, /^error: Cannot get a public port: the server has none free/m);
      await Promise.all([visitEcho(parts.firstPort, 50_000), visitEcho(parts.lastPort, 50_000)]);
      first.signal("SIGTERM");
      assert.equal(await first.ended, 0, first.stderr);
      const next = programs.client(parts, player);
      assert.equal(await programs.port(next), parts.firstPort);
      await visitEcho(parts.firstPort, 10);
    });

    it("an untrusted certificate and a wrong name are refused", { timeout }, async () => {
      const parts = await programs.parts(1);
      await programs.server(parts);
      const strange = programs.client(parts, player, ["--authority", "ca.pub.pem"]);
      assert.equal(await strange.ended, 1);
      assert.match(strange.stderr, /^error: Cannot connect to \S+: its certificate isn't trusted/m);
      const misnamed = programs.client(parts, player, ["--server-name", "other.example.org"]);
      assert.equal(await misnamed.ended, 1);
      assert.match(misnamed.stderr, /^error: Cannot connect to \S+: its certificate isn't trusted/m);
    });

    it("200 visitors at once stay intact", { timeout }, async () => {
      const parts = await programs.parts(1);
      await programs.server(parts);
      await programs.port(programs.client(parts, player));
      const visits = Array.from(
        { length: 200 },
        (_, i) => visitEcho(parts.firstPort, 20_000 + i, "127.0.0.1", i + 1),
      );
      await Promise.all(visits);
    });

    it("a client comes back after the server's restart", { timeout }, async () => {
      const parts = await programs.parts(1);
      const server = await programs.server(parts);
      const client = programs.client(parts, player);
      await programs.port(client);
      server.signal("SIGINT");
      assert.equal(await server.ended, 0, server.stderr);
      await untilRefused(parts.firstPort);
      await programs.server(parts);
      assert.equal(await programs.port(client), parts.firstPort);
      await visitEcho(parts.firstPort, 100_000);
    });
  });
}

describe("snocat", () => {
  it("IPv6 all the way, and public ports on the one address that was named", { timeout }, async (context) => {
    const echo = await startEcho("::1").catch(() => undefined);
    if (echo === undefined) return context.skip("this machine has no ::1");
    try {
      const first = await freePorts(2);
      const certificate = ["--cert", "v6.pub.pem", "--key", "v6.priv.pem"];
      await programs.run(["cert", "v6", "--san", "localhost", "--san", "::1"]);
      const server = programs.start([
        ...["snocat", "server", "--quic", `[::1]:${first}`, "--tcp", "::1", ...certificate],
        ...["--ports", `${first + 1}-${first + 1}`],
      ]);
      await server.seen(/Clients connect to \[::1\]:/);
      const client = programs.start([
        ...["snocat", "client", "--server", `[::1]:${first}`, "--authority", "v6.pub.pem"],
        ...["--server-name", "localhost", "--target", `[::1]:${echo.port}`],
      ]);
      await client.seen(/Public at \[::1\]:\d+, connected to \[::1\]:\d+/);
      await visitEcho(first + 1, 10_000, "::1");
      await assert.rejects(visitEcho(first + 1, 1), { code: "ECONNREFUSED" });
    } finally {
      echo.server.close();
    }
  });

  it(
    "an address is a name too where the runtime can compare it, and a clear error where not",
    { timeout },
    async () => {
      const parts = await programs.parts(1, "leaf");
      await programs.server(parts);
      const client = programs.client(parts, undefined, ["--server-name", "127.0.0.1"]);
      if (own === "deno") {
        await programs.port(client);
        return;
      }
      assert.equal(await client.ended, 1);
      assert.match(
        client.stderr,
        /^error: Cannot connect to \S+: Bun matches certificates only against names/m,
      );
    },
  );

  it("a wish for a port is granted where it is free", { timeout }, async () => {
    const parts = await programs.parts(3);
    await programs.server(parts);
    const wish = ["--port", String(parts.lastPort)];
    assert.equal(await programs.port(programs.client(parts, undefined, wish)), parts.lastPort);
    const late = programs.client(parts, undefined, wish);
    assert.equal(await late.ended, 1);
    assert.match(late.stderr, /^error: Cannot get a public port/m);
  });

  it("a server that can't be reached is said to be so", { timeout }, async () => {
    const client = programs.client(await programs.parts(1));
    assert.equal(await client.ended, 1);
    assert.match(client.stderr, /^error: Cannot connect to 127\.0\.0\.1:\d+: /m);
  });

  it("cert writes a secret for its owner, and overwrites nothing", { timeout }, async () => {
    await programs.run(["cert", "fresh", "--san", "a.example.org", "--days", "7"]);
    const key = join(programs.folder, "fresh.priv.pem");
    if (process.platform !== "win32") assert.equal((await stat(key)).mode & 0o777, 0o600);
    const secret = await readFile(key, "utf8");
    const again = programs.start(["cert", "fresh"]);
    assert.equal(await again.ended, 2);
    assert.match(again.stderr, /Cannot write fresh\.priv\.pem/);
    assert.equal(await readFile(key, "utf8"), secret);
  });

  it("wrong usage is named, with exit code 2", { timeout }, async () => {
    await programs.certificates();
    const server = ["snocat", "server", "--cert", "self.pub.pem", "--key", "self.priv.pem"];
    const client = ["snocat", "client", "--server", "127.0.0.1:1", "--authority", "self.pub.pem"];
    const wrong: [readonly string[], RegExp][] = [
      [[...server, "--ports", "9000:8000"], /--ports "9000:8000"/],
      [[...server, "--ports", "0"], /--ports "0"/],
      [[...server, "--tcp", "localhost"], /--tcp "localhost"/],
      [[...server, "--quic", "localhost"], /--quic "localhost"/],
      [["snocat", "server", "--cert", "nowhere", "--key", "self.priv.pem"], /Cannot read nowhere/],
      [client, /--target/],
      [[...client, "--target", "22"], /--target "22"/],
      [["cert", "x", "--days", "0"], /--days "0"/],
      [["cert", "x", "--ca", "--san", "a"], /--ca|authority/],
      [["cert", "x", "--authority", "nowhere"], /--authority/],
    ];
    await Promise.all(wrong.map(async ([args, pattern]) => {
      const program = programs.start(args);
      assert.equal(await program.ended, 2, args.join(" "));
      assert.match(program.stderr, pattern);
    }));
  });
});
