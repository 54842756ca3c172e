import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type CommandName, settingsOf } from "../../src/config/config.ts";
import { FernetRing, isFernetKey } from "../../src/crypto/fernet.ts";
import { VERSION } from "../../src/version.ts";
import { runHere } from "./run_here.ts";

describe("help", () => {
  it("names every command, and examples", async () => {
    for (const args of [["--help-all"], ["--help", "--help-all"]]) {
      const { code, out, err } = await runHere(args);
      assert.deepEqual([code, err], [0, ""]);
      for (
        const name of [
          "serve",
          "edge",
          "master",
          "agent",
          "token",
          "keygen",
          "pipe",
          "snocat",
          "cert",
          "demo",
          "agents",
          "sessions",
          "usage",
          "audit",
          "keys",
          "api-keys",
          "backup",
        ]
      ) {
        assert.match(out, new RegExp(`^  ${name} `, "m"));
      }
      assert.match(out, /^Examples:$/m);
    }
  });

  it("fits a screen, groups commands, and leaves out what few need", async () => {
    const [first, ...others] = [await runHere(["--help"]), await runHere(["-h"]), await runHere(["help"])];
    for (const other of others) assert.deepEqual(other, first);
    const lines = first.out.split("\n");
    // A terminal of 24 lines shows it all above its prompt.
    assert.ok(lines.length <= 23, `${lines.length} lines`);
    for (const line of lines) assert.ok(line.length <= 80, line);
    for (
      const group of ["Start here:", "Apart from each other:", "Manage a session master:", "Run it for good:"]
    ) {
      assert.ok(lines.includes(group), group);
    }
    assert.doesNotMatch(first.out, /^ {2}(pipe|snocat|cert) /m);
    assert.match((await runHere(["agent", "--help"])).out, /^--help-all lists \d+ more flags\.$/m);
    assert.doesNotMatch((await runHere(["agent", "--help"])).out, /--protocol-version/);
  });

  for (const name of ["serve", "edge", "master", "agent", "token", "demo", "keygen"]) {
    it(`of ${name} names its flags, variables and examples`, async () => {
      const { code, out } = await runHere([name, "--help-all"]);
      assert.equal(code, 0);
      assert.match(out, /^Examples:$/m);
      assert.match(out, new RegExp(`^  sallyport ${name}\\b`, "m"));
      const plain = out.replace(/\s+/g, " ");
      for (const [, { flag, env, placeholder }] of name === "keygen" ? [] : settingsOf(name as CommandName)) {
        if (flag !== undefined) {
          assert.ok(plain.includes(placeholder === "" ? `--${flag} ` : `--${flag} <${placeholder}> `), flag);
        }
        assert.ok(plain.includes(env), env);
      }
    });
  }

  it("tells the version", async () => {
    assert.deepEqual(await runHere(["--version"]), { code: 0, out: `sallyport ${VERSION}`, err: "" });
  });
});

describe("wrong usage ends with 2 and a hint", () => {
  const cases: [string[], RegExp][] = [
    [["agnet"], /^error: unknown command "agnet"\. Did you mean agent\? `sallyport --help` shows more\.$/],
    [["frobnicate"], /^error: unknown command "frobnicate"\. Commands:/],
    [["agent", "--hostnme", "a"], /unknown option '--hostnme'\n\(Did you mean --hostname\?\)/],
    [["--lsten", "a"], /unknown option '--lsten'/],
    [["edge", "somewhere"], /too many arguments/],
    [["edge", "--listen"], /argument missing/],
    [["edge", "--throttling", "1", "--throttling", "2"], /--throttling is given twice/],
    [
      ["edge", "--listen", "foo:bar"],
      /^error: Cannot use --listen: "foo:bar" is not HOST:PORT, for example /,
    ],
    [["--listen", "foo:bar"], /^error: Cannot use --listen/],
    [["agent", "--hostname", "a.example"], /^error: Cannot start agent: --join is missing/],
    [["token"], /--hostname is missing/],
  ];
  for (const [args, message] of cases) {
    it(args.join(" "), async () => {
      const { code, out, err } = await runHere(args);
      assert.match(err, message);
      assert.deepEqual([code, out], [2, ""]);
    });
  }
});

describe("keygen", () => {
  it("prints a key that a ring takes", async () => {
    const { code, out } = await runHere(["keygen"]);
    assert.equal(code, 0);
    assert.ok(isFernetKey(out));
  });
});

describe("token", () => {
  let folder: string;
  let key: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-test-"));
    key = (await runHere(["keygen"])).out;
    await writeFile(join(folder, "fernet.keys"), `${key}\n`, { mode: 0o600 });
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const payloadOf = (token: string) =>
    JSON.parse(new TextDecoder().decode(new FernetRing([key]).open(token))) as Record<string, unknown>;

  it("prints a token made with the data folder's key", async () => {
    const { code, out } = await runHere(["token", "--data-dir", folder, "--hostname", "A.example.org."]);
    assert.equal(code, 0);
    const { hostname, protocol_version, cipher, valid } = payloadOf(out);
    assert.deepEqual({ hostname, protocol_version, cipher }, {
      hostname: "a.example.org",
      protocol_version: 2,
      cipher: "aes-gcm",
    });
    assert.ok(Math.abs(Number(valid) - Date.now() / 1000 - 24 * 3600) < 60);
  });

  it("prints everything as JSON, and takes what it is told", async () => {
    const args = [
      "--hostname",
      "a.example.org",
      "--alias",
      "b.example.org,a.example.org",
      "--alias",
      "c.example.org",
    ];
    const rest = [
      "--protocol-version",
      "1",
      "--cipher",
      "aes-cbc",
      "--ttl",
      "60",
      "--publish",
      "tcp:2222",
      "--json",
    ];
    const { out } = await runHere(["token", ...args, ...rest], { SALLYPORT_FERNET_KEYS: key });
    const { token, aes_key, aes_iv, ...told } = JSON.parse(out) as Record<string, unknown>;
    const payload = payloadOf(String(token));
    assert.deepEqual([payload.aes_key, payload.aes_iv], [aes_key, aes_iv]);
    assert.match(String(aes_key), /^[0-9a-f]{64}$/);
    assert.match(String(aes_iv), /^[0-9a-f]{32}$/);
    assert.deepEqual(told, {
      hostname: "a.example.org",
      alias: ["b.example.org", "c.example.org"],
      cipher: "aes-cbc",
      protocol_version: 1,
      publish: ["tcp:2222"],
      valid: payload.valid,
    });
    assert.deepEqual(payload.publish, ["tcp:2222"]);
    assert.ok(Math.abs(Number(payload.valid) - Date.now() / 1000 - 60) < 30);
  });

  it("has fresh key material each time", async () => {
    const args = ["token", "--data-dir", folder, "--hostname", "a.example.org", "--json"];
    const keys = [await runHere(args), await runHere(args)].map(({ out }) =>
      JSON.parse(out).aes_key as string
    );
    assert.notEqual(keys[0], keys[1]);
  });

  it("isn't made longer than edges take", async () => {
    const names = Array.from({ length: 200 }, (_, index) => `${index}.${"a".repeat(60)}.example.org`);
    const { code, err } = await runHere([
      "token",
      "--data-dir",
      folder,
      "--hostname",
      "a.example.org",
      "--alias",
      names.join(),
    ]);
    assert.equal(code, 2);
    assert.match(err, /edges accept at most 16384/);
  });

  it("isn't made without keys, and makes none", async () => {
    const dataDir = join(folder, "none");
    const { code, err } = await runHere(["token", "--data-dir", dataDir, "--hostname", "a.example.org"]);
    assert.equal(code, 2);
    assert.match(err, /^error: Cannot make a token: there are no Fernet keys in .*none/);
  });
});
