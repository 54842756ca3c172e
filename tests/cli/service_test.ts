import assert from "node:assert/strict";
import { execFile, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import type { CliIo } from "../../src/cli/io.ts";
import { Lifecycle } from "../../src/cli/lifecycle.ts";
import { runCli } from "../../src/cli/main.ts";
import {
  hiddenFromUnits,
  MANAGERS,
  SERVICE_COMMANDS,
  type ServiceCommand,
  serviceText,
  socketUnits,
} from "../../src/cli/service_files.ts";
import { ServiceManager } from "../../src/cli/systemd.ts";
import { denoFlags } from "../support/deno_flags.ts";
import { Program } from "./program.ts";

function testIo(env: Record<string, string> = {}) {
  const [out, err]: [string[], string[]] = [[], []];
  let stop = () => {};
  const io: CliIo = {
    ...{ program: "sallyport", env, exit: () => {}, onReload: () => () => {} },
    out: (line) => void out.push(line),
    err: (line) => void err.push(line),
    onStop: (handler) => {
      stop = () => handler("SIGTERM");
      return () => {};
    },
  };
  return { io, out, err, stop: () => stop() };
}

/** Prints a line for each state that comes to the socket in its argument, as systemd takes them. */
const NOTIFY_LISTENER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("listening", flush=True)
while True:
    for line in s.recv(4096).decode().splitlines():
        print(line, flush=True)
`;

const timeout = 60_000;
/** A program's outcome; code NaN if it isn't installed. */
function run(command: string, args: readonly string[]): Promise<{ code: number; text: string }> {
  return new Promise((resolve) => {
    execFile(command, args, { timeout: 60_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), text: `${stdout}${stderr}` });
    });
  });
}

const noSystemd = Number.isNaN((await run("systemd-analyze", ["--version"])).code) &&
  "systemd-analyze isn't installed";

describe("service", { skip: process.platform === "win32" }, () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-test-"));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it("is installed, looked at and uninstalled", { timeout }, async () => {
    const files = {
      systemd: "etc/systemd/system/sallyport-agent.service",
      openrc: "etc/init.d/sallyport-agent",
      launchd: "Library/LaunchDaemons/org.sallyport.agent.plist",
    };
    for (const manager of MANAGERS) {
      const where = ["--manager", manager, "--root", folder];
      const installed = testIo();
      const args = ["service", "install", "agent", ...where, "--", "--hostname", "a.test"];
      assert.equal(await runCli(args, installed.io), 0, installed.err.join());
      assert.match(
        installed.out.join(),
        manager === "launchd"
          ? /Settings are the flags after `--`; keys are in \/usr\/local\/var\/sallyport/
          : /Settings go to \/etc\/sallyport\/agent\.env/,
      );
      const text = await readFile(join(folder, files[manager]), "utf8");
      assert.match(text.replace(/<\/?string>|\s+/g, " "), /agent +--hostname +a\.test/);
      const status = testIo();
      assert.equal(await runCli(["service", "status", "agent", ...where], status.io), 0);
      assert.match(status.out.join(), /^installed: /);
      assert.equal(await runCli(["service", "uninstall", "agent", ...where], testIo().io), 0);
      assert.ok(!existsSync(join(folder, files[manager])));
      const again = testIo();
      assert.equal(await runCli(["service", "uninstall", "agent", ...where], again.io), 2);
      assert.match(again.err.join(), /Cannot uninstall: there is no /);
    }
  });

  it("refuses what can't be one", { timeout }, async () => {
    const { io, err } = testIo();
    assert.equal(await runCli(["service", "install", "keygen", "--print"], io), 2);
    assert.match(err.join(), /Cannot use keygen as a service: it takes serve, edge, master, agent/);
  });

  it("says where a command's own flags go", { timeout }, async () => {
    const { io, err } = testIo();
    assert.equal(await runCli(["service", "install", "serve", "--listen", "[::]:443"], io), 2);
    assert.match(err.join("\n"), /unknown option '--listen'\n\(flags of the command itself go after --/);
  });

  it("isn't installed from a folder that systemd hides", { timeout }, async () => {
    assert.equal(hiddenFromUnits(["/usr/local/bin/bun", "/opt/sallyport/main.ts"]), undefined);
    assert.equal(hiddenFromUnits(["/home/u/.bun/bin/bun", "/opt/main.ts"]), "/home/u/.bun/bin/bun");
    assert.equal(hiddenFromUnits(["/usr/bin/deno", "run", "/tmp/main.ts"]), "/tmp/main.ts");
    if (hiddenFromUnits([process.execPath]) === undefined) return;
    const { io, err } = testIo();
    assert.equal(await runCli(["service", "install", "serve", "--manager", "systemd"], io), 2);
    assert.match(
      err.join(),
      /Cannot install service: \S+ is in a folder that systemd hides .*\/usr\/local\/bin/,
    );
  });

  it("has a cache that Deno may write, where Deno runs it", { timeout }, async () => {
    const onDeno = {
      command: "edge",
      program: ["/usr/bin/deno", "run", "/opt/main.ts"],
      args: [],
      onDeno: true,
    } as const;
    assert.match(
      serviceText("systemd", onDeno),
      /^Environment=DENO_DIR=\/var\/cache\/sallyport\nCacheDirectory=sallyport$/m,
    );
    const script = join(folder, "sallyport-on-deno");
    await writeFile(script, serviceText("openrc", onDeno));
    assert.match(await readFile(script, "utf8"), /^ {2}export DENO_DIR=\/var\/cache\/sallyport$/m);
    assert.deepEqual(await run("sh", ["-n", script]), { code: 0, text: "" });
    if (noSystemd) return;
    const unit = join(folder, "sallyport-on-deno.service");
    await writeFile(unit, serviceText("systemd", { ...onDeno, program: ["/bin/true"] }));
    assert.deepEqual(await run("systemd-analyze", ["verify", unit]), { code: 0, text: "" });
  });

  const args = ["--hostname", "a b", "100%"];

  it("has units with only the capabilities that a command needs, and scripts that a shell accepts", {
    timeout,
  }, async () => {
    for (const command of SERVICE_COMMANDS) {
      const unit = serviceText("systemd", { command, program: ["/bin/true"], args });
      assert.match(unit, /^LimitCORE=0$/m);
      assert.match(unit, /^SystemCallFilter=@system-service$/m);
      assert.match(unit, /^Type=notify$/m);
      // Bun reports SIGABRT, systemd's default for a hang, as a crash of its own.
      assert.match(unit, /^WatchdogSignal=SIGKILL$/m);
      assert.match(
        unit,
        command === "agent" ? /^CapabilityBoundingSet=$/m : /^CapabilityBoundingSet=CAP_NET_BIND/m,
      );
      const script = join(folder, `sallyport-${command}`);
      await writeFile(script, serviceText("openrc", { command, program: ["/bin/true"], args }));
      assert.deepEqual(await run("sh", ["-n", script]), { code: 0, text: "" });
    }
  });

  it(
    "has scripts that start under an OpenRC with capabilities and under one without",
    { timeout },
    async () => {
      const bin = join(folder, "bin");
      await mkdir(bin);
      const stub = (name: string, text: string) =>
        writeFile(join(bin, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
      await stub("checkpath", ":");
      await stub("ewarn", 'echo "warning: $*"');
      const script = join(folder, "prepared");
      const prepare = async (command: ServiceCommand, capable: boolean) => {
        await stub("supervise-daemon", capable ? "exit 0" : "exit 1");
        await writeFile(script, serviceText("openrc", { command, program: ["/bin/true"], args }));
        const tell = 'echo "capabilities ${capabilities-none}, core $(ulimit -c), data $SALLYPORT_DATA_DIR"';
        const words = [`PATH=${bin}:${process.env.PATH}`, "RC_SVCNAME=test", "sh", "-c"];
        return await run("env", [...words, `. ${script} && start_pre && ${tell}`]);
      };
      const capable = await prepare("serve", true);
      assert.match(
        capable.text,
        /^capabilities \^cap_net_bind_service, core 0, data \/var\/lib\/sallyport$/m,
      );
      const incapable = await prepare("serve", false);
      assert.match(incapable.text, /^warning: This OpenRC has no capabilities: ports below 1024 need /m);
      assert.match(incapable.text, /^capabilities none, /m);
      // An empty setting would make OpenRC take the next flag for its value.
      assert.match((await prepare("agent", true)).text, /^capabilities none, /m);
    },
  );

  it("has units that systemd accepts and rates as safe", { skip: noSystemd }, async () => {
    for (const command of SERVICE_COMMANDS) {
      const path = join(folder, `sallyport-${command}.service`);
      await writeFile(path, serviceText("systemd", { command, program: ["/bin/true"], args }));
      assert.deepEqual(await run("systemd-analyze", ["verify", path]), { code: 0, text: "" });
      // 20 is 2.0 on systemd's scale from 0, safe, to 10.
      const rated = await run("systemd-analyze", ["security", "--offline=true", "--threshold=20", path]);
      assert.equal(rated.code, 0, rated.text);
    }
  });
});

describe("service install --socket-activation", { skip: process.platform === "win32" }, () => {
  const install = async (args: readonly string[]) => {
    const { io, out, err } = testIo();
    const code = await runCli(["service", "install", ...args], io);
    return { code, text: out.join("\n"), error: err.join("\n") };
  };

  const args = ["--listen", "[::]:443,0.0.0.0:444", "--agent-listen=[::]:8443"];
  const unit = serviceText("systemd", { command: "serve", program: ["/bin/true"], args, sockets: true });
  const sockets = socketUnits({ command: "serve", args });
  const names = sockets.map(({ path }) => path.slice("/etc/systemd/system/".length));

  it("makes a socket unit for each listener, and a service without privileges", () => {
    assert.deepEqual(names, [
      "sallyport-serve-listen.socket",
      "sallyport-serve-agent-listen.socket",
      "sallyport-serve-master-listen.socket",
    ]);
    assert.match(unit, new RegExp(`^Sockets=${names.join(" ")}$`, "m"));
    assert.match(unit, /^CapabilityBoundingSet=$/m);
    // Bun would close the sockets if it restarted itself to get the variable.
    assert.match(unit, /^Environment=BUN_JSC_useFTLJIT=0$/m);
    assert.match(
      sockets[0]!.text,
      /ListenStream=\[::\]:443\nListenStream=0\.0\.0\.0:444\nFileDescriptorName=listen\n/,
    );
    assert.match(sockets[2]!.text, /ListenStream=127\.0\.0\.1:8080\n/);
    const quic = serviceText("systemd", {
      ...{ command: "serve", program: ["/bin/true"], sockets: true },
      args: ["--quic-listen", "[::]:443"],
    });
    assert.match(quic, /^CapabilityBoundingSet=CAP_NET_BIND_SERVICE$/m);
  });

  it("makes units that systemd takes", { timeout, skip: noSystemd }, async () => {
    const folder = await mkdtemp(join(tmpdir(), "sallyport-sockets-"));
    try {
      const written = [{ name: "sallyport-serve.service", text: unit }].concat(
        sockets.map(({ text }, index) => ({ name: names[index]!, text })),
      );
      for (const { name, text } of written) await writeFile(join(folder, name), text);
      const { code, text } = await run("systemd-analyze", [
        "verify",
        ...written.map(({ name }) => join(folder, name)),
      ]);
      assert.deepEqual([code, text], [0, ""]);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it("is refused where no socket can be passed", { timeout }, async () => {
    const wanted = ["--socket-activation", "--manager"];
    const openrc = await install(["serve", ...wanted, "openrc", "--print"]);
    assert.match(openrc.error, /Cannot use --socket-activation: openrc can't pass sockets on; systemd can/);
    const agent = await install(["agent", ...wanted, "systemd", "--print"]);
    assert.match(agent.error, /Cannot use --socket-activation: an agent has no ports/);
    const serve = await install(["serve", ...wanted, "systemd", "--print", "--", "--listen", "127.0.0.1:1"]);
    assert.match(serve.text, /^Sockets=.*\n[^]*^ListenStream=127\.0\.0\.1:1$/m);
  });

  it("writes the units, and removes them with the service", async () => {
    const folder = await mkdtemp(join(tmpdir(), "sallyport-sockets-"));
    try {
      const where = ["--manager", "systemd", "--root", folder];
      await install(["edge", "--socket-activation", ...where, "--", "--listen", "127.0.0.1:1"]);
      const socket = join(folder, "etc/systemd/system/sallyport-edge-listen.socket");
      assert.ok(existsSync(socket));
      assert.equal(await runCli(["service", "uninstall", "edge", ...where], testIo().io), 0);
      assert.ok(!existsSync(socket));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe("systemd", () => {
  it("hears that the program is ready, alive and stopping", { timeout }, async () => {
    const sent: string[] = [];
    const alive = Promise.withResolvers<void>();
    const { io, stop } = testIo({ NOTIFY_SOCKET: "/run/systemd/notify", WATCHDOG_USEC: "2000" });
    const manager = new ServiceManager(io, (state) => {
      sent.push(state);
      if (state === "WATCHDOG=1") alive.resolve();
    });
    const life = new Lifecycle(io, manager);
    const over = life.run(() => Promise.resolve());
    await alive.promise;
    stop();
    assert.equal(await over, 0);
    assert.deepEqual([sent[0], sent[1], sent.at(-1)], ["READY=1", "WATCHDOG=1", "STOPPING=1"]);
  });

  const missing = ["systemd-notify", "python3"].find((name) =>
    spawnSync(name, ["--version"]).error !== undefined
  );
  it(
    "hears it of a real process, by the socket that it names",
    { timeout: 60_000, skip: missing !== undefined && `${missing} isn't on PATH` },
    async () => {
      const folder = await mkdtemp(join(tmpdir(), "sallyport-notify-"));
      const socket = join(folder, "notify");
      // Neither runtime receives on such a socket by an interface that both have.
      const listener = spawn("python3", ["-c", NOTIFY_LISTENER, socket], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const states: string[] = [];
      const watchers = new Set<() => void>();
      listener.stdout.on("data", (part) => {
        states.push(...String(part).trim().split("\n"));
        for (const look of watchers) look();
      });
      const heard = (state: string) =>
        new Promise<void>((resolve) => {
          const look = () => states.includes(state) && resolve();
          watchers.add(look);
          look();
        });
      try {
        await heard("listening");
        const args = ["edge", "--listen", "127.0.0.1:0", "--data-dir", join(folder, "data")];
        // As the unit that `service install` writes: with the right to run systemd-notify.
        const flags = process.versions.deno === undefined ? [] : denoFlags(args);
        const program = new Program(args, { NOTIFY_SOCKET: socket, WATCHDOG_USEC: "400000" }, undefined, {
          command: process.execPath,
          args: flags.length === 0 ? [] : [...flags, "--allow-run=systemd-notify"],
        });
        try {
          await heard("READY=1");
          // By another pipe, so it may come later.
          await program.seen(/visitors and agents/);
          await heard("WATCHDOG=1");
          program.signal("SIGTERM");
          assert.equal(await program.ended, 0);
          await heard("STOPPING=1");
        } finally {
          await program.kill();
        }
      } finally {
        listener.kill();
        await rm(folder, { recursive: true, force: true });
      }
    },
  );

  it("hears nothing where none started the program", { timeout }, async () => {
    const { io, stop } = testIo();
    const manager = new ServiceManager(io, () => assert.fail("nobody listens"));
    const life = new Lifecycle(io, manager);
    const over = life.run(() => Promise.resolve());
    stop();
    assert.equal(await over, 0);
  });
});
