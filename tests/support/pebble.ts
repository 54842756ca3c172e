/**
 * Pebble, Let's Encrypt's authority for tests, and the DNS server that belongs to it: built once from the Go module proxy,
 * under `.cache/`.
 *
 * @module
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { makeAuthority, makeCertificate } from "../../src/crypto/certificate.ts";
import { freePorts } from "./free_ports.ts";
import { isCi, madeOnce } from "./made_once.ts";

/** Its version. */
export const PEBBLE_VERSION = "v2.10.3";

const BUILD_TIMEOUT_MS = 300_000;
const START_TIMEOUT_MS = 60_000;

let built: Promise<string> | undefined;

/** The folder with `pebble` and `pebble-challtestsrv`. */
function pebbleFolder(): Promise<string> {
  return built ??= madeOnce(`pebble-${PEBBLE_VERSION}`, BUILD_TIMEOUT_MS, async (folder) => {
    for (const name of ["pebble", "pebble-challtestsrv"]) {
      const module = `github.com/letsencrypt/pebble/v2/cmd/${name}@${PEBBLE_VERSION}`;
      await promisify(execFile)("go", ["install", module], {
        env: { ...process.env, GOBIN: folder, CGO_ENABLED: "0" },
      });
    }
  });
}

/** A reason to skip the tests with Pebble, or false: with CI set they always run. */
export async function skipPebble(): Promise<string | false> {
  if (isCi()) return false;
  try {
    await pebbleFolder();
    return false;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** What {@link startPebble} takes. */
export interface PebbleOptions {
  /** Where its TLS-ALPN-01 connects to, on 127.0.0.1. */
  readonly tlsPort: number;
  /** Accounts need one of these: MAC keys in base64url by key id. */
  readonly externalAccounts?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  /** How long its certificates are good for. */
  readonly validSeconds?: number;
}

/** A running Pebble. */
export interface Pebble {
  readonly directory: string;
  /** What its own HTTPS is to be trusted by (PEM), and a file with it. */
  readonly caPem: string;
  readonly caFile: string;
  /** Has names of its certificates' issuer, for visitors to trust (PEM); asked for anew at each start. */
  root(): Promise<string>;
  /** Says of one of its certificates (PEM) when it is to be renewed, by ARI (RFC 9773). */
  setRenewalWindow(certificate: string, start: Date, end: Date): Promise<void>;
  /** Sets or removes a TXT record. */
  setTxt(name: string, value: string): Promise<void>;
  clearTxt(name: string): Promise<void>;
  /** Where `setTxt` goes, for hook programs. */
  readonly dnsManagement: string;
  readonly output: () => string;
  stop(): Promise<void>;
}

/** Writes a program for `--acme-dns-hook` that sets Pebble's records, and notes its calls in `calls` beside it. */
export async function writeDnsHook(folder: string, { dnsManagement }: Pebble): Promise<string> {
  const program = join(folder, "hook");
  await writeFile(
    program,
    `#!/bin/sh
set -e
echo "$1 $2 $ACME_DOMAIN" >> "${join(folder, "calls")}"
if [ "$1" = present ]; then path=set-txt; else path=clear-txt; fi
curl -sSf -d "{\\"host\\": \\"$2.\\", \\"value\\": \\"$3\\"}" ${dnsManagement}/$path
`,
    { mode: 0o700 },
  );
  return program;
}

/** Starts it, and the DNS server that says 127.0.0.1 for every name. */
export async function startPebble(options: PebbleOptions): Promise<Pebble> {
  const bin = await pebbleFolder();
  const folder = await mkdtemp(join(tmpdir(), "sallyport-pebble-"));
  const api = await freePorts(5);
  const [management, dns, dnsManagement, unused] = [api + 1, api + 2, api + 3, api + 4];
  const wallMs = Date.now();
  const authority = await makeAuthority({ commonName: "Pebble's own", validDays: 2, wallMs });
  const own = await makeCertificate({
    commonName: "localhost",
    names: ["localhost", "127.0.0.1"],
    validDays: 2,
    wallMs,
    authority,
  });
  const caFile = join(folder, "ca.pem");
  await writeFile(caFile, authority.certificatePem);
  await writeFile(join(folder, "cert.pem"), own.certificatePem);
  await writeFile(join(folder, "key.pem"), own.keyPem);
  const { externalAccounts } = options;
  await writeFile(
    join(folder, "config.json"),
    JSON.stringify({
      pebble: {
        listenAddress: `127.0.0.1:${api}`,
        managementListenAddress: `127.0.0.1:${management}`,
        certificate: join(folder, "cert.pem"),
        privateKey: join(folder, "key.pem"),
        httpPort: unused,
        tlsPort: options.tlsPort,
        ocspResponderURL: "",
        externalAccountBindingRequired: externalAccounts !== undefined,
        externalAccountMACKeys: externalAccounts ?? {},
        profiles: { default: { description: "default", validityPeriod: options.validSeconds ?? 7 * 86_400 } },
        retryAfter: { authz: 1, order: 1 },
      },
    }),
  );
  let output = "";
  const start = (name: string, args: string[]): ChildProcess => {
    const env = { ...process.env, PEBBLE_VA_NOSLEEP: "1", PEBBLE_WFE_NONCEREJECT: "30", ...options.env };
    const child = spawn(join(bin, name), args, { env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (part) => output = (output + String(part)).slice(-100_000));
    }
    return child;
  };
  const children = [
    start("pebble-challtestsrv", [
      ...["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dnsserver", `127.0.0.1:${dns}`],
      ...[
        "-management",
        `127.0.0.1:${dnsManagement}`,
        "-http01",
        "",
        "-https01",
        "",
        "-tlsalpn01",
        "",
        "-doh",
        "",
      ],
    ]),
    start("pebble", ["-config", join(folder, "config.json"), "-dnsserver", `127.0.0.1:${dns}`]),
  ];
  const ask = (url: string, body?: string) =>
    new Promise<string>((resolve, reject) => {
      const method = body === undefined ? "GET" : "POST";
      const headers = { "user-agent": "tests" };
      const asked = request(
        url,
        { ca: authority.certificatePem, agent: false, method, headers },
        (response) => {
          let text = "";
          response.on("data", (part) => text += String(part));
          response.on("end", () => {
            if (response.statusCode === 200) resolve(text);
            else reject(new Error(`${url}: ${response.statusCode} ${text}`));
          });
        },
      );
      asked.on("error", reject);
      asked.end(body);
    });
  const directory = `https://127.0.0.1:${api}/dir`;
  for (const startedMs = Date.now();;) {
    const ready = await Promise.all([
      ask(directory),
      fetch(`http://127.0.0.1:${dnsManagement}/`).then((response) => response.text()),
    ]).then(() => true, () => false);
    if (ready) break;
    if (Date.now() - startedMs > START_TIMEOUT_MS) throw new Error(`Pebble doesn't start: ${output}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const dnsUrl = `http://127.0.0.1:${dnsManagement}`;
  const post = async (path: string, body: object) => {
    const response = await fetch(dnsUrl + path, { method: "POST", body: JSON.stringify(body) });
    await response.text();
  };
  return {
    directory,
    caPem: await readFile(caFile, "utf8"),
    caFile,
    root: () => ask(`https://127.0.0.1:${management}/roots/0`),
    async setRenewalWindow(certificate, start, end) {
      const suggestedWindow = { start: start.toISOString(), end: end.toISOString() };
      const body = { certificate, ariResponse: JSON.stringify({ suggestedWindow }) };
      await ask(`https://127.0.0.1:${management}/set-renewal-info/`, JSON.stringify(body));
    },
    setTxt: (name, value) => post("/set-txt", { host: `${name}.`, value }),
    clearTxt: (name) => post("/clear-txt", { host: `${name}.` }),
    dnsManagement: dnsUrl,
    output: () => output,
    async stop() {
      await Promise.all(children.map(async (child) => {
        if (child.exitCode !== null) return;
        child.kill("SIGKILL");
        await once(child, "close");
      }));
      await rm(folder, { recursive: true, force: true });
    },
  };
}
