/** Agent and demo need nothing that only Linux or Unix has: each such use has a condition, or a way without it. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { settingsOf } from "../../src/config/config.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Files of Linux, its libraries, signals that Windows lacks, modes of files, systemd. */
const NOT_EVERYWHERE =
  /\/proc\/|\/sys\/|\w\.so\.\d|systemd-notify|"SIG(HUP|USR1|USR2)"|\bchmod\(|unixpacket|path: "\\0|\bget(e?[ug]id)\b/;

/** The modules with such a use, and the code by which the program does without it. */
const WITHOUT: Readonly<Record<string, RegExp>> = {
  "src/agent/acme/file_certificate_store.ts": /process\.platform !== "win32" && .*OTHERS/,
  "src/agent/status/socket.ts": /if \(isFile\) await chmod/,
  "src/cli/data_dir.ts": /process\.platform === "win32"\) return/,
  "src/pipe/sink.ts": /process\.platform !== "linux"\) return false/,
  "src/cli/io.ts": /process\.platform === "win32"\) return \(\) => \{\}/,
  "src/cli/systemd.ts": /env\.NOTIFY_SOCKET \? send : undefined/,
  "src/runtime/deno/deno_openssl.ts": /Deno\.build\.os !== "linux"\) return/,
  "src/runtime/deno/system_library.ts": /Deno\.build\.os !== "linux"\) return undefined/,
  "src/runtime/descriptors.ts": /readPermitted\("\/proc\/self\/limits"\)\) return undefined[^]*catch/,
};

/** Imported for messages and names, and used with --workers alone, which neither command takes. */
const FOR_WORKERS = ["src/cli/workers.ts", "src/cluster/upgrade_socket.ts"];

/** Source text without comments. */
function codeOf(path: string): string {
  return readFileSync(join(ROOT, path), "utf8").replace(/\/\*[^]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
}

/** The modules that these import, directly or not, lazily or not. */
function reachedFrom(entries: readonly string[]): ReadonlySet<string> {
  const reached = new Set(entries);
  for (const path of reached) {
    for (const [, target] of codeOf(path).matchAll(/(?:\bfrom\s*|\bimport\s*\(?\s*)"(\.[^"]+\.tsx?)"/g)) {
      reached.add(join(dirname(path), target!).replaceAll("\\", "/"));
    }
  }
  return reached;
}

it("agent and demo do without what only some systems have", () => {
  const modules = reachedFrom(["src/cli/agent.ts", "src/cli/demo.ts", "src/runtime/mod.ts", "src/cli/io.ts"]);
  assert.ok(modules.size > 100 && [...modules].every((path) => existsSync(join(ROOT, path))));
  for (const command of ["agent", "demo"] as const) {
    assert.ok(!settingsOf(command).some(([name]) => name === "workers"));
  }
  const found = [...modules].filter((path) =>
    NOT_EVERYWHERE.test(codeOf(path)) && !FOR_WORKERS.includes(path)
  ).sort();
  assert.deepEqual(found, Object.keys(WITHOUT).sort(), "say here how the program does without it");
  for (const path of found) assert.match(codeOf(path), WITHOUT[path]!, path);
});
