import assert from "node:assert/strict";
import process from "node:process";
import { describe, it } from "node:test";
import { type CliIo, scriptPath, type StopSignal, withoutEchoes } from "../../src/cli/io.ts";
import { Lifecycle } from "../../src/cli/lifecycle.ts";
import { shellWord, typeable } from "../../src/cli/startup.ts";
import { SIGNAL_ECHO_MS } from "../../src/cli/io.ts";

function fakeIo() {
  const handlers = new Set<(signal: StopSignal) => void>();
  const exits: number[] = [];
  const errors: string[] = [];
  const io: CliIo = {
    program: "sallyport",
    env: {},
    out: () => {},
    err: (line) => void errors.push(line),
    onStop: (handler) => {
      handlers.add(handler);
      return () => handlers.delete(handler);
    },
    onReload: () => () => {},
    exit: (code) => void exits.push(code),
  };
  return { io, handlers, exits, errors, signal: () => handlers.forEach((handler) => handler("SIGINT")) };
}

describe("Lifecycle", () => {
  it("ends at a signal, stops its parts in reverse, and then listens to no signal", async () => {
    const { io, handlers, signal, exits } = fakeIo();
    const life = new Lifecycle(io);
    const stopped: string[] = [];
    const running = life.run(() => {
      for (const name of ["edge", "master"]) life.add(name, () => void stopped.push(name));
      return Promise.resolve();
    });
    assert.equal(handlers.size, 1);
    signal();
    assert.equal(await running, 0);
    assert.deepEqual(stopped, ["master", "edge"]);
    assert.deepEqual([handlers.size, exits.length, life.stopped], [0, 0, true]);
  });

  it("ends at once at the second signal", async () => {
    const { io, signal, exits } = fakeIo();
    const life = new Lifecycle(io);
    const grace = Promise.withResolvers<void>();
    const running = life.run(() => {
      life.add("edge", () => grace.promise);
      return Promise.resolve();
    });
    signal();
    assert.deepEqual(exits, []);
    signal();
    assert.deepEqual(exits, [1]);
    grace.resolve();
    await running;
  });

  it("ends with what it runs", async () => {
    const life = new Lifecycle(fakeIo().io);
    assert.equal(await life.run(() => Promise.resolve({ over: Promise.resolve() })), 0);
    const failing = new Lifecycle(fakeIo().io);
    await assert.rejects(
      failing.run(() => Promise.resolve({ over: Promise.reject(new Error("refused")) })),
      /refused/,
    );
  });

  it("stops what stands already when a later part doesn't start", async () => {
    const { io, handlers } = fakeIo();
    const life = new Lifecycle(io);
    let stopped = false;
    const running = life.run(() => {
      life.add("edge", () => void (stopped = true));
      return Promise.reject(new Error("port in use"));
    });
    await assert.rejects(running, /port in use/);
    assert.ok(stopped && handlers.size === 0);
  });

  it("stops the others when one can't be", async () => {
    const { io, errors } = fakeIo();
    const life = new Lifecycle(io);
    let stopped = false;
    life.add("edge", () => void (stopped = true));
    life.add("master", () => Promise.reject(new Error("stuck")));
    await life.stop();
    assert.ok(stopped);
    assert.deepEqual(errors, ["Cannot stop master cleanly: stuck"]);
  });
});

describe("scriptPath", { skip: process.platform === "win32" }, () => {
  it("is relative to the folder of the start, but for a service, which starts in the root folder", () => {
    const script = "/opt/sallyport/mod.ts";
    assert.equal(scriptPath(script, "/opt/sallyport"), "mod.ts");
    assert.equal(scriptPath(script, "/opt"), "sallyport/mod.ts");
    assert.equal(scriptPath(script, "/home/ada"), script);
    assert.equal(scriptPath(script, "/"), script);
  });
});

describe("shellWord", () => {
  it("quotes as the system's shell does", () => {
    const words = ["data/a.pem", "data\\a.pem", "http://127.0.0.1:8080/#CODE", "a b", "it's"];
    assert.deepEqual(words.map((word) => shellWord(word, "linux")), [
      ...["data/a.pem", "'data\\a.pem'", "'http://127.0.0.1:8080/#CODE'", "'a b'", `'it'\\''s'`],
    ]);
    assert.deepEqual(words.map((word) => shellWord(word, "win32")), [
      ...["data/a.pem", "data\\a.pem", '"http://127.0.0.1:8080/#CODE"', '"a b"', '"it\'s"'],
    ]);
  });
});

describe("typeable", () => {
  it("puts a command on one line for Windows", () => {
    const lines = ["sallyport agents add demo \\", "  --master http://127.0.0.1:8080", "sallyport health"];
    assert.deepEqual(typeable(lines, "linux"), lines);
    assert.deepEqual(typeable(lines, "win32"), [
      "sallyport agents add demo --master http://127.0.0.1:8080",
      "sallyport health",
    ]);
  });
});

describe("withoutEchoes", () => {
  it("count once when a runner passes them on, and twice when somebody means it", () => {
    const heard: string[] = [];
    let nowMs = 5;
    const stop = withoutEchoes((signal) => void heard.push(`${signal} ${nowMs}`), () => nowMs);
    stop("SIGINT");
    nowMs += SIGNAL_ECHO_MS - 1;
    stop("SIGINT");
    stop("SIGTERM");
    assert.deepEqual(heard, ["SIGINT 5"]);
    nowMs += 1;
    stop("SIGINT");
    assert.deepEqual(heard, ["SIGINT 5", `SIGINT ${5 + SIGNAL_ECHO_MS}`]);
  });
});
