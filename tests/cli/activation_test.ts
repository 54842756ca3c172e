/** Sockets from systemd: the settings that they replace, and a program that is restarted while a visitor waits. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { passedSockets, withSockets } from "../../src/cli/activation.ts";
import { loadConfig } from "../../src/config/config.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { Watched } from "../conformance/runtime_helpers.ts";
import { clientHello } from "../support/client_hello.ts";
import { Program, programWords } from "./program.ts";

const PASSED = { LISTEN_PID: "7", LISTEN_FDS: "3", LISTEN_FDNAMES: "listen:master-listen:listen" };

describe("passedSockets and withSockets", () => {
  it("are those that were passed to this very process, with their names", () => {
    const found = passedSockets(PASSED, 7).map(({ name, descriptor }) => [name, descriptor]);
    assert.deepEqual(found, [["listen", 3], ["master-listen", 4], ["listen", 5]]);
    assert.deepEqual(passedSockets(PASSED, 8), []);
    assert.deepEqual(passedSockets({}), []);
  });

  it("replace the addresses that they are for", () => {
    const { config } = loadConfig("serve", { flags: { listen: "127.0.0.1:1" }, env: {} });
    const sockets = passedSockets(PASSED, 7);
    const { listen, agentListen, masterListen } = withSockets("serve", config, sockets);
    assert.deepEqual(listen, [
      { host: "127.0.0.1", port: 1, descriptor: 3 },
      { host: "::", port: 0, descriptor: 5 },
    ]);
    assert.deepEqual([agentListen, masterListen.map(({ descriptor }) => descriptor)], [[], [4]]);
  });

  it("are refused where the command has no such listener, or it isn't TCP's", () => {
    const { config } = loadConfig("edge", { flags: {}, env: {}, partial: true });
    for (const name of ["master-listen", "curve-listen", "sallyport.socket", ""]) {
      assert.throws(
        () => withSockets("edge", config, [{ name, descriptor: 3 }]),
        /FileDescriptorName= of its unit must be one of listen, agent-listen, sealed-listen, metrics-listen/,
      );
    }
    const { config: withWorkers } = loadConfig("edge", { flags: { workers: "2" }, env: {}, partial: true });
    assert.throws(
      () => withSockets("edge", withWorkers, [{ name: "listen", descriptor: 3 }]),
      /with --workers each worker opens the ports itself/,
    );
  });
});

/** Listens as systemd does, prints the ports, and runs the command in its arguments, again for each line that it reads. */
const SUPERVISOR = `
import os, socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print("ports", *[s.getsockname()[1] for s in sockets], flush=True)
for line in sys.stdin.buffer:
    # At the end of the input a rest of it would start the command once more.
    if not line.endswith(b"\\n"):
        break
    pid = os.fork()
    if pid == 0:
        copies = [os.dup(s.fileno()) for s in sockets]
        for number, copy in enumerate(copies):
            os.dup2(copy, 3 + number)
            os.set_inheritable(3 + number, True)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="listen:master-listen")
        os.execvp(sys.argv[1], sys.argv[1:])
    print("runs", pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", flush=True)
`;
const skip = process.platform === "win32" || spawnSync("python3", ["--version"]).error !== undefined;

/** The program, which a supervisor starts with two sockets. */
function supervised(folder: string): Program {
  const args = ["serve", "--data-dir", folder];
  return new Program(["-c", SUPERVISOR, ...programWords(args), ...args], {}, undefined, {
    ...{ command: "python3", args: [], foreign: true },
  });
}

/** The first byte that comes back for a ClientHello: of a TLS alert, since no agent has the name. */
async function answerTo(port: number): Promise<number> {
  const { dial } = await currentRuntime();
  const visitor = new Watched(await dial({ host: "127.0.0.1", port, timeoutMs: 30_000 }));
  visitor.write(new Uint8Array(clientHello("nobody.test")));
  const late = setTimeout(() => visitor.abort(), 30_000);
  await visitor.until(() => visitor.byteLength > 0 || visitor.closes > 0);
  clearTimeout(late);
  visitor.abort();
  const [first] = visitor.chunks;
  assert.ok(first !== undefined, "no answer within 30 s");
  return first[0]!;
}

describe("edge with sockets from systemd", { skip }, () => {
  it("serves on them, and keeps visitors waiting while it restarts", { timeout: 90_000 }, async () => {
    const folder = await mkdtemp(join(tmpdir(), "sallyport-activation-"));
    const supervisor = supervised(folder);
    try {
      const [, visitors, master] = await supervisor.seen(/ports (\d+) (\d+)/);
      // In line before the program has ever run.
      const early = answerTo(Number(visitors));
      supervisor.type("\n");
      const first = Number((await supervisor.seen(/runs (\d+)/))[1]);
      assert.equal(await early, 0x15);
      await supervisor.seen(new RegExp(`visitors and agents +127\\.0\\.0\\.1:${visitors}\n`));
      const health = await fetch(`http://127.0.0.1:${master}/healthz`, {
        signal: AbortSignal.timeout(30_000),
      });
      assert.equal(health.status, 200);
      process.kill(first, "SIGTERM");
      await supervisor.seen(/ended/);
      const between = answerTo(Number(visitors));
      supervisor.type("\n");
      assert.equal(await between, 0x15);
      const second = Number((await supervisor.seen(/ended[^]*runs (\d+)/))[1]);
      process.kill(second, "SIGTERM");
      await supervisor.seen(/ended[^]*ended/);
    } catch (error) {
      throw new Error(`${error}\n${supervisor.stdout}\n${supervisor.stderr}`, { cause: error });
    } finally {
      // One that still runs would keep the supervisor's output open.
      const [started, ended] = [/runs (\d+)/g, /ended/g].map((word) => [...supervisor.stdout.matchAll(word)]);
      for (const [, pid] of started!.slice(ended!.length)) process.kill(Number(pid), "SIGKILL");
      await supervisor.kill();
      await rm(folder, { recursive: true, force: true });
    }
  });
});
