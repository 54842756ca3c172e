import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import * as library from "../mod.ts";
import { runFile } from "./support/run_file.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** What embedders' programs break without; a type that goes missing breaks the examples' check. */
const VALUES = [
  "AccessList",
  "CURVE_METRICS",
  "CertificateManager",
  "DEFAULT_QUEUE_LIMITS",
  "EdgeHub",
  "EdgeLedger",
  "FernetError",
  "FernetRing",
  "FileCertificateStore",
  "GrantStock",
  "InternalError",
  "KeyRing",
  "LedgerReporter",
  "METRICS",
  "Management",
  "MemoryCertificateStore",
  "MemoryRegistryStore",
  "Metrics",
  "NetworkSet",
  "SERVICE_METRICS",
  "SallyportError",
  "ServiceTable",
  "SnocatClient",
  "TUNNEL_ALPN",
  "TlsTerminator",
  "Tunnel",
  "VERSION",
  "WebhookSender",
  "adminCredentials",
  "certificateAuthenticator",
  "certificateCredential",
  "certificateFingerprint",
  "connectRedisRegistry",
  "createAgent",
  "createEdge",
  "createLogger",
  "createMasterApp",
  "createMemoryNetwork",
  "createMemoryRegistry",
  "createRouter",
  "createServiceConnectors",
  "createStatusApp",
  "createToken",
  "createTunnelDaemon",
  "createTunnelSource",
  "currentRuntime",
  "curveTransport",
  "dialQuicTunnel",
  "dnsHookProgram",
  "enrolAgent",
  "errorCode",
  "firstOf",
  "formatTunnelAddress",
  "generateFernetKey",
  "httpControlLink",
  "httpService",
  "identityCredential",
  "joinTunnel",
  "listenQuicTunnels",
  "loadSodium",
  "makeAuthority",
  "makeCertificate",
  "makeKeyPair",
  "masterDnsHook",
  "masterGrants",
  "oidcCredentials",
  "openStore",
  "openToken",
  "parseTarget",
  "parseTunnelAddress",
  "quicTransport",
  "readIdentity",
  "sealedTransport",
  "secretAuthenticator",
  "secretCredential",
  "serve",
  "serviceDefaults",
  "silentLogger",
  "simpleAckAuthenticator",
  "simpleAckCredential",
  "snitunTransport",
  "startOpenTelemetry",
  "startSnocatServer",
  "staticCredentials",
  "tcpConnector",
  "tcpProxy",
  "tokenAuthenticator",
  "tokenCredential",
  "tokenId",
  "wantsOpenTelemetry",
  "webhookFetch",
];

/** The project's files that a module loads by itself, dynamic imports left out. */
async function loaded(path: string, found: Set<string> = new Set()): Promise<Set<string>> {
  if (found.has(path)) return found;
  found.add(path);
  const text = (await readFile(join(ROOT, path), "utf8")).replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
  // Whole statements: types are erased, and load nothing.
  for (const [, kind, target] of text.matchAll(/^(import|export)\b(?! type\b)[^;"]*?"(\.[^"]+)";/gm)) {
    assert.ok(kind);
    await loaded(join(dirname(path), target as string).replaceAll("\\", "/"), found);
  }
  return found;
}

test("the library's names are those that are meant to be public", () => {
  assert.deepEqual(Object.keys(library).sort(), VALUES);
});

test("names are listed one by one", async () => {
  const text = await readFile(join(ROOT, "mod.ts"), "utf8");
  assert.doesNotMatch(text, /export\s*\*/);
});

test("importing the library prints nothing, listens to nothing and keeps nothing alive", async () => {
  const { code, stdout, stderr } = await runFile("tests/support/import_mod.ts");
  assert.equal(code, 0, stderr);
  assert.equal(stderr, "");
  assert.deepEqual(JSON.parse(stdout), { missing: [], listeners: [] });
});

test("a command doesn't load what only others run", async () => {
  const heavy =
    /^src\/(master\/(app|management|page|api|store)|agent\/(acme\/acme|dialer)|pipe|snocat|transport\/(quic|curve)\/(accept|dial))/;
  const packages = /from "(hono|@hono|kysely|oauth4webapi|pg|qr|uplot|rate-limiter-flexible)/;
  const waste = async (command: string) => {
    const files = [...await loaded("main.ts"), ...await loaded("src/cli/main.ts"), ...await loaded(command)];
    const imports = await Promise.all(files.map((path) => readFile(join(ROOT, path), "utf8")));
    return files.filter((path, index) => heavy.test(path) || packages.test(imports[index]!));
  };
  assert.deepEqual(await waste("src/cli/edge.ts"), []);
  assert.deepEqual(await waste("src/cli/keygen.ts"), []);
  // They would be seen: `serve` runs a session master.
  const serve = await waste("src/cli/serve.ts");
  assert.ok(
    serve.includes("src/master/app.ts") && serve.includes("src/master/store/database.ts"),
    serve.join(" "),
  );
});

test("importing the library doesn't load the command line", async () => {
  const files = [...await loaded("mod.ts")];
  assert.ok(files.includes("src/edge/visitors.ts"), files.join(" "));
  assert.deepEqual(files.filter((path) => /^src\/(cli|config)\b/.test(path)), []);
  // The walk would see it: from the command line's own entry it is all there.
  assert.ok((await loaded("src/cli/main.ts")).has("src/config/settings.ts"));
});
