import assert from "node:assert/strict";
import { describe, it, test } from "node:test";
import {
  type CommandName,
  type ConfigSources,
  loadConfig,
  queueLimits,
  type SettingInfo,
  SETTINGS,
  settingsOf,
} from "../../src/config/config.ts";
import { nearest } from "../../src/config/suggest.ts";
import { SallyportError } from "../../src/errors.ts";
import { PING_INTERVAL_MS, SILENCE_MAX_MS } from "../../src/protocol/mux/heartbeat.ts";
import { DEFAULT_QUEUE_LIMITS } from "../../src/protocol/mux/queue_limits.ts";

const KEY_A = `${"A".repeat(43)}=`;
const KEY_B = `${"B".repeat(42)}A=`;
const ADMIN = "an-admin-key-of-some-length";
const AGENT = {
  master: "https://m.example.org",
  credential: ADMIN,
  hostname: "a.example.org",
  to: "127.0.0.1:443",
};

function load(
  command: CommandName,
  sources: Partial<ConfigSources> & { files?: Record<string, string> } = {},
) {
  const readFile = (path: string) => {
    const content = sources.files?.[path];
    if (content === undefined) throw new Error(`no such file: ${path}`);
    return content;
  };
  return loadConfig(command, { flags: sources.flags ?? {}, env: sources.env ?? {}, readFile });
}

function refuses(command: CommandName, sources: Parameters<typeof load>[1], message: RegExp | string) {
  assert.throws(() => load(command, sources), (error) => {
    assert.ok(error instanceof SallyportError && error.code === "config_invalid" && error.side === "config");
    if (typeof message === "string") assert.equal(error.message, message);
    else assert.match(error.message, message);
    return true;
  });
}

describe("loadConfig: --drain-timeout", () => {
  it("goes from ending streams at once to letting the last one end by itself", () => {
    const parsed = ["0s", "30s", "7d", "36500d"].map((drainTimeout) =>
      load("serve", { flags: { drainTimeout } }).config.drainTimeout
    );
    assert.deepEqual(parsed, [0, 30_000, 604_800_000, 36_500 * 86_400_000]);
    refuses("serve", { flags: { drainTimeout: "36501d" } }, /drain-timeout/);
  });
});

describe("loadConfig: precedence", () => {
  const files = { "s.json": JSON.stringify({ log_level: "error", listen: ["192.0.2.1:1"], throttling: 7 }) };

  it("starts with the defaults", () => {
    const { config, warnings, origins } = load("serve");
    assert.deepEqual(config.listen, [{ host: "::", port: 8443 }]);
    assert.deepEqual(config.agentListen, []);
    assert.deepEqual(config.masterListen, [{ host: "127.0.0.1", port: 8080 }]);
    assert.deepEqual(config.metricsListen, []);
    assert.equal(config.dataDir, "./data");
    assert.equal(config.throttling, 0);
    assert.equal(config.publicAddress, undefined);
    assert.equal(config.fernetKeys, undefined);
    assert.deepEqual([config.logLevel, config.logFormat], ["info", "text"]);
    assert.deepEqual(queueLimits(config), {
      ...DEFAULT_QUEUE_LIMITS,
      pingIntervalMs: PING_INTERVAL_MS,
      silenceMaxMs: SILENCE_MAX_MS,
    });
    assert.deepEqual([warnings.length, origins.size], [0, 0]);
  });

  it("puts the file over defaults, the environment over the file, flags over all", () => {
    const flags = { config: "s.json" };
    const env = { SALLYPORT_LOG_LEVEL: "warn" };
    assert.equal(load("edge", { flags, files }).config.logLevel, "error");
    assert.equal(load("edge", { flags, files, env }).config.logLevel, "warn");
    const all = load("edge", { flags: { ...flags, logLevel: "debug" }, files, env });
    assert.equal(all.config.logLevel, "debug");
    assert.deepEqual([all.origins.get("logLevel"), all.origins.get("throttling")], [
      "--log-level",
      "throttling in s.json:1:60",
    ]);
    assert.equal(all.config.throttling, 7);
    assert.deepEqual(all.config.listen, [{ host: "192.0.2.1", port: 1 }]);
  });

  it("finds the file by the environment too, and takes an empty variable for none", () => {
    const env = { SALLYPORT_CONFIG: "s.json", SALLYPORT_THROTTLING: "" };
    assert.equal(load("edge", { env, files }).config.throttling, 7);
  });

  it("lets one file serve several commands", () => {
    assert.deepEqual(
      load("token", { flags: { config: "s.json", hostname: "a.example.org" }, files }).config.alias,
      [],
    );
  });
});

describe("loadConfig: lists", () => {
  const expected = [{ host: "0.0.0.0", port: 8443 }, { host: "::1", port: 0 }];
  const cases: [string, Parameters<typeof load>[1]][] = [
    ["a repeated flag", { flags: { listen: ["0.0.0.0:8443", "[::1]:0"] } }],
    ["a flag with commas", { flags: { listen: ["0.0.0.0:8443, [::1]:0"] } }],
    ["a variable with commas", { env: { SALLYPORT_LISTEN: "0.0.0.0:8443,[::1]:0" } }],
    ["a list in the file", { flags: { config: "f" }, files: { f: '{"listen":["0.0.0.0:8443","[::1]:0"]}' } }],
    ["commas in the file", { flags: { config: "f" }, files: { f: '{"listen":"0.0.0.0:8443,[::1]:0"}' } }],
  ];
  for (const [name, sources] of cases) {
    it(`takes ${name}`, () => assert.deepEqual(load("edge", sources).config.listen, expected));
  }
});

describe("loadConfig: --metrics-listen", () => {
  const expected = [{ host: "127.0.0.1", port: 9090 }, { host: "::1", port: 9090 }];
  const value = "127.0.0.1:9090,[::1]:9090";

  it("is taken by edge and agent, from all sources", () => {
    const files = { f: `{"metrics_listen":"${value}"}` };
    for (const [command, flags] of [["edge", {}], ["agent", AGENT]] as const) {
      const sources: Parameters<typeof load>[1][] = [
        { flags: { ...flags, metricsListen: value } },
        { flags, env: { SALLYPORT_METRICS_LISTEN: value } },
        { flags: { ...flags, config: "f" }, files },
      ];
      for (const source of sources) assert.deepEqual(load(command, source).config.metricsListen, expected);
    }
  });

  it("is nothing for those who have a session master's address", () => {
    for (const command of ["serve", "master", "demo", "token"] as const) {
      assert.ok(settingsOf(command).every(([name]) => name !== "metricsListen"), command);
    }
    const file = { flags: { config: "f" }, files: { f: `{"metrics_listen":"${value}"}` } };
    assert.deepEqual(load("serve", file).config.metricsListen, []);
  });
});

describe("loadConfig: public ports", () => {
  it("are read with and without a port, and with and without a target", () => {
    const publish = ["tcp:2222=127.0.0.1:22", "tcp=[::1]:1883,tcp:0", "tcp:22"];
    assert.deepEqual(load("agent", { flags: { ...AGENT, publish } }).config.publish, [
      { port: 2222, target: { host: "127.0.0.1", port: 22 } },
      { target: { host: "::1", port: 1883 } },
      {},
      { port: 22 },
    ]);
    const ports = (text: string) => load("edge", { flags: { publishPorts: text } }).config.publishPorts;
    assert.deepEqual(ports("20000-20999"), { first: 20_000, last: 20_999 });
    assert.deepEqual(ports("22"), { first: 22, last: 22 });
    assert.equal(load("edge", {}).config.publishPorts, undefined);
  });
});

describe("loadConfig: sizes", () => {
  it("are bytes, with a unit of 1000 or 1024 or without", () => {
    const sizes: [string, number][] = [
      ["1", 1],
      ["500000B", 500_000],
      ["10GB", 10_000_000_000],
      ["10 GB", 10_000_000_000],
      ["3kB", 3000],
      ["3KiB", 3072],
      ["2TiB", 2 * 1024 ** 4],
    ];
    for (const [text, bytes] of sizes) {
      assert.equal(load("edge", { flags: { pipeFolderMax: text } }).config.pipeFolderMax, bytes);
    }
  });
  for (const text of ["0", "", "-1", "1.5GB", "10G", "GB", "9999999999999TB", "1iB"]) {
    it(`aren't ${JSON.stringify(text)}`, () => {
      refuses(
        "edge",
        { flags: { pipeTransferMax: text } },
        `Cannot use --pipe-transfer-max: ${JSON.stringify(text)} is not a size such as 10GB or 512MiB`,
      );
    });
  }
});

describe("loadConfig: a wrong value names itself, its origin and what would be right", () => {
  it("in a flag", () => {
    refuses(
      "serve",
      { flags: { listen: ["foo:bar"] } },
      'Cannot use --listen: "foo:bar" is not HOST:PORT, for example 0.0.0.0:8443 or [::]:8443',
    );
  });
  it("in the environment", () => {
    refuses(
      "edge",
      { env: { SALLYPORT_LOG_FORMAT: "xml" } },
      'Cannot use SALLYPORT_LOG_FORMAT: "xml" is not one of text, json',
    );
  });
  it("in the file", () => {
    const files = { "s.json": '{"throttling": -1}' };
    refuses(
      "edge",
      { flags: { config: "s.json" }, files },
      'Cannot use throttling in s.json:1:16: "-1" is not a whole number of frames a second from 0 to 1000000',
    );
  });

  const flags: [CommandName, Record<string, string | string[]>, RegExp][] = [
    ["edge", { listen: ["::1:8443"] }, /needs brackets, for example \[::1\]:8443/],
    ["edge", { listen: ["[::1]"] }, /not HOST:PORT/],
    ["edge", { listen: ["[1.2.3.4]:1"] }, /not HOST:PORT/],
    ["edge", { listen: ["999.0.0.1:1"] }, /not HOST:PORT/],
    ["edge", { listen: ["8443"] }, /not HOST:PORT/],
    ["edge", { listen: ["0.0.0.0:65536"] }, /no port from 0 to 65535/],
    ["edge", { listen: [""] }, /not HOST:PORT/],
    ["edge", { listen: ["127.0.0.1:1", "127.0.0.1:1"] }, /127\.0\.0\.1:1 is already listened on/],
    [
      "edge",
      { listen: ["[::]:1"], agentListen: ["[::]:1"] },
      /--agent-listen: \[::\]:1 is already listened on/,
    ],
    [
      "edge",
      { publishPorts: "20-10" },
      /--publish-ports: "20-10" is not a range of ports, for example 20000-20999/,
    ],
    ["edge", { publishPorts: "0-10" }, /not a range of ports/],
    ["edge", { publishPorts: "1-65536" }, /not a range of ports/],
    ["edge", { publishPorts: "1-2-3" }, /not a range of ports/],
    [
      "edge",
      { publishListen: "localhost" },
      /"localhost" is not an IP address, for example 0\.0\.0\.0 or ::/,
    ],
    [
      "agent",
      { ...AGENT, publish: ["2222"] },
      /--publish: "2222" is not a public port, for example tcp:2222/,
    ],
    ["agent", { ...AGENT, publish: ["tcp:65536=a:1"] }, /is not a public port/],
    ["agent", { ...AGENT, publish: ["tcp:1="] }, /"" is not HOST:PORT, for example 127\.0\.0\.1:22/],
    ["agent", { ...AGENT, publish: ["tcp:1=a:0"] }, /"a:0" has no port from 1 to 65535/],
    ["agent", { ...AGENT, publish: new Array(17).fill("tcp") }, /more than 16 values/],
    ["agent", { ...AGENT, transport: "any" }, /"any" is not one of sealed, .*auto/],
    ["master", { curvePort: "0" }, /--curve-port: "0" is not a port from 1 to 65535/],
    ["edge", { metricsListen: ["9090"] }, /--metrics-listen: "9090" is not HOST:PORT/],
    [
      "edge",
      { listen: ["[::]:1"], metricsListen: ["[::]:1"] },
      /--metrics-listen: \[::\]:1 is already listened on/,
    ],
    ["serve", { publicAddress: "edge.example.org:0" }, /no port from 1 to 65535/],
    [
      "serve",
      { proxyProtocolFrom: ["10.0.0.1/8"] },
      /--proxy-protocol-from: .*did you mean 10\.0\.0\.0\/8\?/,
    ],
    ["serve", { adminKey: "short" }, /the key has 5 characters, needs at least 16/],
    ["serve", { adminKey: "with spaces in the key" }, /letters, digits/],
    ["serve", { dataDir: "" }, /is not a path/],
    ["agent", { ...AGENT, master: "ftp://x" }, /--master: "ftp:\/\/x" is not a URL/],
    ["agent", { ...AGENT, master: "https://user:secret@x" }, /must hold no credentials/],
    ["agent", { ...AGENT, protocolVersion: "3" }, /--protocol-version: "3" is not one of 0, 1, 2/],
    ["agent", { ...AGENT, cipher: "rot13" }, /not one of aes-gcm, aes-gcm-siv, aes-cbc/],
    ["agent", { ...AGENT, hostname: "a b" }, /--hostname: "a b" is not a host name/],
    ["agent", { ...AGENT, alias: ["ok.example", "a..b"] }, /--alias: "a\.\.b" is not a host name/],
    ["agent", { ...AGENT, hostname: `${"a".repeat(64)}.example` }, /is not a host name/],
    ["token", { hostname: "a.example", ttl: "9" }, /--ttl: "9" is not a whole number of seconds from 10 to/],
    ["token", { hostname: "a.example", ttl: "1e3" }, /whole number/],
    ["agent", { join: "https://m.example.org/#short" }, /--join: it isn't a join link/],
    ["token", {}, /Cannot start token: --hostname is missing \(or SALLYPORT_HOSTNAME in the environment\)/],
  ];
  for (const [command, given, message] of flags) {
    it(`${command} ${JSON.stringify(given).slice(0, 70)}`, () => refuses(command, { flags: given }, message));
  }

  it("escapes controls", () => {
    refuses("edge", { flags: { listen: ["a\u001b[31m:1"] } }, /"a\\u001b\[31m:1" is not HOST:PORT/);
  });
});

describe("loadConfig: secrets", () => {
  it("come from files, trimmed, keys one a line with comments", () => {
    const files = { keys: `# newest first\n${KEY_B}\r\n\n${KEY_A}\n`, admin: `${ADMIN}\n` };
    const { config, origins } = load("serve", {
      flags: { fernetKeysFile: "keys", adminKeyFile: "admin" },
      files,
    });
    assert.deepEqual(config.fernetKeys, [KEY_B, KEY_A]);
    assert.equal(config.adminKey, ADMIN);
    assert.equal(origins.get("adminKey"), "--admin-key-file");
  });
  it("of a later source win over the file of an earlier one, and the other way round", () => {
    const files = { admin: ADMIN };
    const env = { SALLYPORT_ADMIN_KEY_FILE: "admin" };
    const own = "another-admin-key-of-some-length";
    assert.equal(load("serve", { env, flags: { adminKey: own }, files }).config.adminKey, own);
    const turned = { env: { SALLYPORT_ADMIN_KEY: own }, flags: { adminKeyFile: "admin" }, files };
    assert.equal(load("serve", turned).config.adminKey, ADMIN);
  });
  it("are refused twice from one source, from a file that isn't there, and from one without keys", () => {
    const files = { admin: ADMIN, none: "# nothing\n" };
    refuses("serve", { flags: { adminKey: ADMIN, adminKeyFile: "admin" }, files }, /--admin-key is set too/);
    refuses("serve", { flags: { adminKeyFile: "gone" }, files }, /Cannot use --admin-key-file: no such file/);
    refuses(
      "serve",
      { flags: { fernetKeysFile: "none" }, files },
      /--fernet-keys-file: there is no key in it/,
    );
  });
  it("never get into a message", () => {
    for (
      const [name, secret] of [["fernetKeys", "s3cret"], ["adminKey", "s3cret"], [
        "adminKey",
        "s3cret s3cret s3cret",
      ]]
    ) {
      assert.throws(() => load("serve", { flags: { [name as string]: secret } }), (error: Error) => {
        assert.ok(!error.message.includes("s3cret"), error.message);
        return true;
      });
    }
  });
});

describe("loadConfig: unknown settings", () => {
  it("is refused in the file", () => {
    refuses(
      "edge",
      { flags: { config: "s.json" }, files: { "s.json": '{"agent-listen": []}' } },
      "Cannot use agent-listen in s.json:1:2: there is no such setting. Did you mean agent_listen?",
    );
    refuses("edge", { flags: { config: "f" }, files: { f: "[]" } }, /must hold one object/);
    refuses("edge", { flags: { config: "f" }, files: { f: "{" } }, /Cannot read configuration file f:1:2: /);
    refuses("edge", { flags: { config: "f" }, files: { f: '{"config": "g"}' } }, /no such setting/);
    refuses("edge", { flags: { config: "f" }, files: { f: '{"throttling": true}' } }, /a string or a number/);
    refuses("edge", { flags: { config: "f" }, files: { f: '{"listen": {}}' } }, /a list of strings/);
  });
  it("is warned about in the environment", () => {
    const { warnings } = load("edge", {
      env: { SALLYPORT_LISTN: "x", SALLYPORT_HOSTNAME: "bad name", HOME: "/" },
    });
    assert.deepEqual(warnings, [
      "SALLYPORT_LISTN in the environment isn't a setting. Did you mean SALLYPORT_LISTEN?",
    ]);
  });
});

describe("queueLimits: the reference's variables", () => {
  it("are taken", () => {
    const env = {
      MULTIPLEXER_INCOMING_QUEUE_MAX_BYTES_CHANNEL: "6",
      MULTIPLEXER_INCOMING_QUEUE_MAX_BYTES_CHANNEL_V0: "7",
      MULTIPLEXER_INCOMING_QUEUE_LOW_WATERMARK: "1",
      MULTIPLEXER_INCOMING_QUEUE_HIGH_WATERMARK: "2",
      MULTIPLEXER_OUTGOING_QUEUE_MAX_BYTES_CHANNEL: "5",
      MULTIPLEXER_OUTGOING_QUEUE_LOW_WATERMARK: "3",
      MULTIPLEXER_OUTGOING_QUEUE_HIGH_WATERMARK: "4",
    };
    assert.deepEqual(queueLimits(load("edge", { env }).config), {
      incomingMaxBytes: 6,
      incomingMaxBytesV0: 7,
      incomingLowBytes: 1,
      incomingHighBytes: 2,
      outgoingMaxBytes: 5,
      outgoingLowBytes: 3,
      outgoingHighBytes: 4,
      pingIntervalMs: PING_INTERVAL_MS,
      silenceMaxMs: SILENCE_MAX_MS,
    });
  });
  it("must rise from low to high to max; the one that was set is to blame", () => {
    refuses(
      "edge",
      { env: { MULTIPLEXER_INCOMING_QUEUE_LOW_WATERMARK: "9999999" } },
      "Cannot use MULTIPLEXER_INCOMING_QUEUE_LOW_WATERMARK: MULTIPLEXER_INCOMING_QUEUE_LOW_WATERMARK (9999999) is more " +
        "than MULTIPLEXER_INCOMING_QUEUE_HIGH_WATERMARK (2097152)",
    );
    const one = { env: { MULTIPLEXER_OUTGOING_QUEUE_MAX_BYTES_CHANNEL: "9" } };
    refuses("agent", { ...one, flags: AGENT }, /^Cannot use MULTIPLEXER_OUTGOING_QUEUE_MAX_BYTES_CHANNEL: /);
    refuses(
      "edge",
      { env: { MULTIPLEXER_INCOMING_QUEUE_HIGH_WATERMARK: "0" } },
      /whole number of bytes of at least 1/,
    );
  });
});

describe("loadConfig: the agent's settings", () => {
  it("are read", () => {
    const { config } = load("agent", {
      flags: {
        ...AGENT,
        master: "https://m.example.org/base/",
        hostname: "A.Example.ORG.",
        alias: ["b.example.org"],
      },
    });
    assert.equal(config.master, "https://m.example.org/base");
    assert.equal(config.hostname, "a.example.org");
    assert.deepEqual(config.to, {
      protocol: "tcp",
      text: "127.0.0.1:443",
      endpoint: { host: "127.0.0.1", port: 443 },
    });
    assert.deepEqual([config.protocolVersion, config.cipher, config.edge], [2, "aes-gcm", undefined]);
  });
});

test("flags, variables and members follow from one another, and none occurs twice", () => {
  const seen = new Set<string>();
  for (const { flag, env, member, description, commands, required } of Object.values<SettingInfo>(SETTINGS)) {
    const named = flag === undefined ? env : `SALLYPORT_${flag.toUpperCase().replaceAll("-", "_")}`;
    assert.equal(env, named);
    assert.equal(member, env.replace("SALLYPORT_", "").toLowerCase());
    for (const name of [env, member]) assert.ok(!seen.has(name), name);
    seen.add(env).add(member);
    assert.match(description, /^[A-Z].*\.$/);
    assert.ok(required.every((command) => commands.includes(command)));
  }
  for (const command of ["serve", "edge", "master", "agent", "token", "demo"] as const) {
    assert.ok(settingsOf(command).some(([name]) => name === "config"), command);
  }
});

test("the nearest word is found, if one is near", () => {
  assert.equal(nearest("agnet", ["agent", "edge"]), "agent");
  assert.equal(nearest("MASTER", ["master"]), "master");
  assert.equal(nearest("xyz", ["agent", "edge"]), undefined);
  assert.equal(nearest("", ["agent"]), undefined);
});
