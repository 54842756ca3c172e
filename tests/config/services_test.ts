import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { agentServices } from "../../src/config/agent_services.ts";
import { checkFile, loadConfig } from "../../src/config/config.ts";
import { serviceSchema } from "../../src/config/services.ts";
import { duration, durationText } from "../../src/config/values.ts";

const BASE = { master: "https://m.example.org", credential: "an-admin-key-of-some-length" };

const FULL = `# everything that a service may have
master: https://m.example.org
transport: auto
services:
  - name: Home.example.org
    aliases: [www.example.org, "*.home.example.org"]
    targets:
      - http://127.0.0.1:8123
      - http://10.0.0.2:8123
    tls: acme
    proxy_protocol: 2
    allow: [192.0.2.0/24]
    block: [192.0.2.66]
    limits: { connections: 100, connections_per_visitor: 10, request_body: 10MB }
    health_check: { kind: http, path: /healthz, status: 200, interval: 30s, timeout: 2s }
    headers:
      request: { X-Real-Host: home }
      response: { Strict-Transport-Security: max-age=63072000 }
    idle_timeout: 1h30m
    access_log: "-"
    shared: true
    basic_auth: { users: { alice: "$scrypt$ln=15,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" } }
  - name: nas.example.org
    target: 10.0.0.5:443
    health_check: tcp
  - name: own.example.org
    target: unix:/run/app.sock
    tls: { certificate: cert.pem, key: key.pem }
`;

function load(text: string, flags: Record<string, string | string[]> = {}) {
  return loadConfig("agent", {
    flags: { ...BASE, config: "agent.yaml", ...flags },
    env: {},
    readFile: () => text,
  });
}

function faultsOf(text: string) {
  return checkFile("agent.yaml", () => text).faults.map(({ line, column, message }) =>
    `${line}:${column} ${message}`
  );
}

describe("agentServices: services in a file", () => {
  it("are read with all that they may have", () => {
    const [home, nas, own] = agentServices(load(FULL));
    assert.deepEqual({ ...home, targets: home!.targets.map(({ text }) => text) }, {
      names: ["home.example.org", "www.example.org", "*.home.example.org"],
      targets: ["http://127.0.0.1:8123", "http://10.0.0.2:8123"],
      tls: "acme",
      proxyProtocol: 2,
      allow: ["192.0.2.0/24"],
      block: ["192.0.2.66"],
      limits: { connections: 100, connectionsPerVisitor: 10, requestBodyBytes: 10_000_000 },
      healthCheck: { kind: "http", path: "/healthz", status: 200, intervalMs: 30_000, timeoutMs: 2_000 },
      requestHeaders: { "x-real-host": "home" },
      responseHeaders: { "strict-transport-security": "max-age=63072000" },
      idleTimeoutMs: 5_400_000,
      accessLog: "-",
      shared: true,
      auth: {
        basicAuth: {
          users: {
            alice: "$scrypt$ln=15,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
          },
        },
      },
    });
    assert.equal(nas!.tls, "passthrough");
    assert.deepEqual(nas!.healthCheck, { kind: "tcp", intervalMs: 10_000, timeoutMs: 5_000 });
    assert.deepEqual(own!.tls, { certificateFile: "cert.pem", keyFile: "key.pem" });
    assert.deepEqual(faultsOf(FULL), []);
  });

  it("may be JSON too, and stand behind those of flags", () => {
    const json = JSON.stringify({ services: [{ name: "a.example.org", target: "http://127.0.0.1:1" }] });
    const services = agentServices(load(json, {
      hostname: "b.example.org",
      to: "127.0.0.1:443",
      service: ["c.example.org=unix:/run/c.sock", "*.d.example.org=http://127.0.0.1:2"],
    }));
    assert.deepEqual(services.map(({ names: [name], tls }) => [name, tls]), [
      ["b.example.org", "passthrough"],
      ["c.example.org", "acme"],
      ["*.d.example.org", "acme"],
      ["a.example.org", "acme"],
    ]);
  });

  it("are refused with line and column, each fault once, and what would be right", () => {
    const cases: readonly [string, string[]][] = [
      ["services:\n  - name: a.example.org\n", [
        "2:5 services[0]: it has no target, for example `target: http://127.0.0.1:3000`",
      ]],
      ["services:\n  - target: http://127.0.0.1:1\n", ["2:5 services[0].name: it is missing"]],
      ["services:\n  - name: a.example.org\n    target: http://127.0.0.1:1\n    proxy_protocl: 2\n", [
        "4:5 services[0].proxy_protocl: there is no such member. Did you mean proxy_protocol?",
      ]],
      [
        "services:\n  - name: a.example.org\n    target: http://127.0.0.1:1\n    health_check: { kind: tcp, intervall: 5s }\n" +
        "    limits: { conections: 1 }\n    oidc: { issuer: https://a.test, client_id: x, mails: [], sesion: 1h }\n",
        [
          "4:32 services[0].health_check.intervall: there is no such member. Did you mean interval?",
          "5:15 services[0].limits.conections: there is no such member. Did you mean connections?",
          "6:51 services[0].oidc.mails: there is no such member.",
          "6:62 services[0].oidc.sesion: there is no such member. Did you mean session?",
        ],
      ],
      [
        "transprot: auto\nservices:\n  - name: a b\n    target: http://127.0.0.1:1\n    idle_timeout: soon\n",
        [
          "1:1 transprot: there is no such setting. Did you mean transport?",
          '3:11 services[0].name: "a b" is not a host name such as home.example.org or *.example.org: it has characters ' +
          "other than letters, digits, - and _",
          '5:19 services[0].idle_timeout: "soon" is not a time from 30s to 7d, such as 90s, 10m or 1h30m',
        ],
      ],
      [
        "services:\n  - name: a.example.org\n    to: x\n    targets: [3000]\n    tls: selfsigned\n    proxy_protocol: 3\n",
        [
          "3:5 services[0].to: there is no such member. Did you mean target?",
          "4:15 services[0].targets[0]: it must be a string, not a number",
          '5:10 services[0].tls.mode: "selfsigned" is not one of passthrough, acme, self-signed',
          "6:21 services[0].proxy_protocol: 3 is not one of 0, 1, 2",
        ],
      ],
      [
        "services:\n  - name: a.example.org\n    targets: []\n    limits: { connections: 1.5, connections_per_visitor: -1 }\n" +
        "    health_check: { kind: http, path: healthz, status: 999 }\n    oidc: { issuer: foo, client_id: '' }\n" +
        "    basic_auth: { users: { 'a:b': x } }\n    headers: x\n    allow: {}\n",
        [
          "3:14 services[0].targets: it is empty",
          "4:28 services[0].limits.connections: 1.5 is not a whole number",
          "4:58 services[0].limits.connections_per_visitor: -1 is less than 1",
          "5:39 services[0].health_check.path: it doesn't start with /",
          "5:56 services[0].health_check.status: 999 is more than 599",
          "6:21 services[0].oidc.issuer: it is not a URL such as https://accounts.example.org",
          "6:37 services[0].oidc.client_id: it is empty",
          "7:35 services[0].basic_auth.users.a:b: has a colon, which a user name can't contain",
          "8:14 services[0].headers: it must be an object, not a string",
          "9:12 services[0].allow: it must be an array, not an object",
        ],
      ],
      ["transport: pigeon\n", ['1:12 transport: "pigeon" is not one of sealed, snitun, curve, quic, auto']],
      [
        "services:\n  - name: a.example.org\n    target: http://127.0.0.1:1\n    tls: passthrough\n    headers:\n" +
        "      request: { x: y }\n",
        [
          "3:13 services[0].target: http://127.0.0.1:1 doesn't take the visitor's TLS, which tls: passthrough leaves to it",
          "6:7 services[0].headers: it needs TLS that ends in the agent (tls: acme), and a.example.org is passed through",
        ],
      ],
      [
        "services:\n  - { name: a.example.org, target: 127.0.0.1:1 }\n  - { name: b.example.org, aliases: [c.example.org, " +
        "a.example.org], target: 127.0.0.1:2 }\n",
        ["3:53 services[1].aliases[1]: a.example.org is served by a.example.org already"],
      ],
      ["services:\n  - name: a.example.org\n    target: 127.0.0.1:1\n    allow: [everybody]\n", [
        '4:13 services[0].allow[0]: "everybody" is not CIDR, for example 10.0.0.0/8 or fd00::/8',
      ]],
    ];
    for (const [text, faults] of cases) {
      assert.deepEqual(faultsOf(text), faults, text);
      assert.throws(() => load(text, { hostname: "z.example.org", to: "127.0.0.1:443" }), {
        code: "config_invalid",
      });
    }
    assert.throws(() => load("services:\n  - {"), {
      message: /^Cannot read configuration file agent\.yaml:2:\d+: /,
    });
  });

  it("name the first fault and how many more there are where the agent starts", () => {
    const text = "services:\n  - name: a b\n    target: c d\n";
    assert.throws(() => load(text), {
      message:
        /^Cannot use agent\.yaml:2:11: services\[0\]\.name: .* \(and 1 more; `agent check agent\.yaml` lists them\)$/,
    });
  });

  it("of flags are refused where they don't fit together", () => {
    const wrong: readonly [Record<string, string | string[]>, RegExp][] = [
      [
        { hostname: "a.example.org", to: "http://127.0.0.1:1", tls: "passthrough" },
        /^Cannot use --tls: http:/,
      ],
      [{ to: "127.0.0.1:1" }, /--to needs --hostname/],
      [{}, /--hostname and --to are missing/],
      [{ hostname: "a.example.org" }, /--to is missing \(or SALLYPORT_TO/],
      [
        { service: ["a.example.org=127.0.0.1:1", "A.example.org=127.0.0.1:2"] },
        /a\.example\.org is served twice/,
      ],
      [{ service: "a.example.org" }, /is not NAME=TARGET, for example app\.example\.org=http/],
      [{ service: "a.example.org=3000" }, /a port alone isn't a target/],
      [{ hostname: "a.example.org", to: "127.0.0.1:1", tls: "file:cert.pem" }, /file:CERT,KEY/],
    ];
    for (const [flags, message] of wrong) {
      assert.throws(() => agentServices(load("", flags)), { code: "config_invalid", message });
    }
  });

  it("stand in a file that other commands read too, which leave them alone", () => {
    const { services } = loadConfig("edge", {
      flags: { config: "agent.yaml" },
      env: {},
      readFile: () => "services: nonsense\nlisten: 127.0.0.1:1\n",
    });
    assert.deepEqual(services, []);
  });
});

describe("loadConfig: the documents' examples", () => {
  const DOCS = join(dirname(fileURLToPath(import.meta.url)), "../../docs");

  it("are in order, and docs/agent.md names every member of a service", async () => {
    const names = (await readdir(DOCS)).filter((name) => name.endsWith(".md"));
    const texts = await Promise.all(names.map((name) => readFile(join(DOCS, name), "utf8")));
    const text = texts[names.indexOf("agent.md")]!;
    const files = [...texts.join("\n").matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].map(([, file]) => file!)
      .filter((file) => file.includes("services:"));
    assert.ok(files.length >= 2, `${files.length} examples`);
    // A hash stands there shortened.
    const whole = (file: string) => file.replace("p=1$…", () => `p=1$${"A".repeat(22)}$${"A".repeat(43)}`);
    for (const file of files) assert.deepEqual(faultsOf(whole(file)), []);
    for (const member of Object.keys(serviceSchema.in.shape)) {
      assert.ok(text.includes(`\`${member}\``), member);
    }
  });
});

describe("duration", () => {
  const parse = (given: string | number) => duration(0, 86_400_000).safeParse(given).data;

  it("takes units, and seconds without one", () => {
    assert.deepEqual(["90s", "1h30m", "250ms", "1.5h", "60", 60, "0"].map(parse), [
      90_000,
      5_400_000,
      250,
      5_400_000,
      60_000,
      60_000,
      0,
    ]);
    for (const wrong of ["", "h", "1x", "-1s", "1h 2m", "1 h", "10 20", "25h"]) {
      assert.equal(parse(wrong), undefined, wrong);
    }
  });

  it("is written as people write it", () => {
    assert.deepEqual([0, 90_000, 5_400_000, 604_800_000, 1_250].map(durationText), [
      "0s",
      "1m30s",
      "1h30m",
      "7d",
      "1s250ms",
    ]);
  });
});
