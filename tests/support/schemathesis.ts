/**
 * Schemathesis, which makes requests from an OpenAPI document and judges the answers by it: fetched from PyPI once, under
 * `.cache/`.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { findPython } from "../interop/reference_env.ts";
import { LineChild } from "./child.ts";
import { isCi, madeOnce, output } from "./made_once.ts";

const VERSION = "4.32.5";
const TIMEOUT_MS = 300_000;
const RUN_TIMEOUT_MS = 3_600_000;
/** The session master that is tested. */
const SERVER = join(dirname(import.meta.dirname!), "master", "api_server.ts");
/** Its program. The script that pip installs names the folder that it was installed in, which is moved afterwards. */
const MAIN = "from schemathesis.cli import schemathesis; schemathesis()";

let installed: Promise<string> | undefined;

/** The folder of its virtual environment. */
function schemathesisFolder(): Promise<string> {
  return installed ??= madeOnce(`schemathesis-${VERSION}`, TIMEOUT_MS, async (folder) => {
    await output(await findPython(), ["-m", "venv", folder], TIMEOUT_MS);
    const package_ = `schemathesis==${VERSION}`;
    await output(join(folder, "bin", "python"), ["-m", "pip", "install", "-q", package_], TIMEOUT_MS);
  });
}

/** Good values by their format. */
const SURE: Readonly<Record<string, readonly string[]>> = {
  cidr: ["192.0.2.0/24", "192.0.2.7", "2001:db8::/32"],
  cursor: ["WyJob21lIl0", "WzEyXQ", "WyJhIiwiYiJd"],
  "ed25519-public-key": ["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"],
};

/** What a failure isn't: an answer that a document can't foresee. */
const CONFIG = `
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, "5xx"]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 408, 409, 413, 415, 422, "5xx"]
`;

/** A reason to skip tests that need it, or false: with CI set they run, and fail where it can't be installed. */
export async function skipSchemathesis(): Promise<string | false> {
  if (isCi()) return false;
  return await schemathesisFolder().then(() => false as const, (error) => String(error));
}

/**
 * Tests the session master's API on a runtime. Rejects with what it found.
 *
 * @param runtime the command that runs a file, such as `["bun"]`
 * @param args Schemathesis' bounds
 */
export async function testApi(runtime: readonly string[], args: readonly string[]): Promise<string> {
  const [command = "", ...flags] = runtime;
  const child = LineChild.start({ command, args: [...flags, SERVER] });
  try {
    const { url, key } = await child.next((event) => "url" in event, 60_000) as { url: string; key: string };
    const phases = ["--phases", "coverage,fuzzing,stateful"];
    return await schemathesis({ url, key, args: [...phases, ...args], timeoutMs: RUN_TIMEOUT_MS });
  } finally {
    await child.stop();
  }
}

async function schemathesis(
  { url, key, args, timeoutMs }: {
    readonly url: string;
    readonly key: string;
    readonly args: readonly string[];
    readonly timeoutMs: number;
  },
): Promise<string> {
  const bin = join(await schemathesisFolder(), "bin", "python");
  const folder = await mkdtemp(join(tmpdir(), "sallyport-schemathesis-"));
  try {
    const document = await (await fetch(`${url}/openapi.json`)).json();
    await writeFile(join(folder, "openapi.json"), JSON.stringify(testable(document)));
    await writeFile(join(folder, "schemathesis.toml"), CONFIG);
    const run = [
      "-c",
      MAIN,
      "--config-file",
      join(folder, "schemathesis.toml"),
      "--no-color",
      "run",
    ];
    return await said(
      bin,
      [
        ...[...run, join(folder, "openapi.json"), "--url", url, "-H", `Authorization: Bearer ${key}`],
        ...["--continue-on-failure", "--warnings", "off", ...args],
      ],
      folder,
      timeoutMs,
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What a program writes, which for this one has everything that is wrong. Rejects with it where the program fails. */
function said(program: string, args: readonly string[], cwd: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      program,
      [...args],
      { cwd, timeout: timeoutMs, maxBuffer: 64 * 1024 * 1024 },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(new Error(`${stdout}\n${stderr}`.trim() || error.message));
      },
    );
  });
}

// deno-lint-ignore no-explicit-any -- any OpenAPI document
type Json = any;

/**
 * The document without what depends on earlier requests (a key that is used twice, an ETag) or on another member (days in order), and without edges' channel,
 * which is a stream. What no schema can say is left to what is surely right: networks without bits after their prefix, and
 * points of a curve.
 */
function testable(document: Json): Json {
  const paths = Object.fromEntries(
    Object.entries<Json>(document.paths).filter(([path]) => !path.startsWith("/v1/edges")),
  );
  for (const operation of Object.values<Json>(paths).flatMap((methods) => Object.values<Json>(methods))) {
    operation.parameters = operation.parameters?.filter(({ name }: { readonly name: string }) =>
      !["idempotency-key", "if-match", "from", "to"].includes(name)
    );
  }
  const text = JSON.stringify({ ...document, paths }, (_, value) => {
    const values = SURE[value?.format];
    return values === undefined ? value : { type: "string", enum: values };
  });
  return JSON.parse(text);
}
