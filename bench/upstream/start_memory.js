// Both: `bun start_memory.js`, or `deno run -A start_memory.js` (Linux). What a program holds before it has done anything: resident MB, and
// how many of them are private, of an empty program, of one that listens, of one with the modules of node: that a TLS server needs, and of
// the same with 200 modules of its own that nothing calls, as JavaScript and as TypeScript. What would help is a runtime that gives back
// the memory in which it translated and parsed modules: the functions of these are never compiled, since they are never called.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

const STARTS = 5;
const MODULES = 200;
const FUNCTIONS = 25;
/** A started program is measured once it has used no processor for this many looks in a row. */
const QUIET_LOOKS = 4;
const LOOK_MS = 250;
const WAITS = "setInterval(() => {}, 1e6);\n";

const folder = mkdtempSync(join(tmpdir(), "start-memory-"));
try {
  const server =
    'import net from "node:net";\nimport "node:tls";\nimport "node:crypto";\nimport "node:fs";\n' +
    'net.createServer().listen(0, "127.0.0.1");\n';
  const programs = {
    "an empty program": file("empty.js", WAITS),
    "a listener of node:net": file(
      "listener.js",
      'import net from "node:net";\nnet.createServer().listen(0, "127.0.0.1");\n',
    ),
    "with node:tls, node:crypto and node:fs": file("server.js", server),
    "with 200 modules, JavaScript": file("javascript.js", server + modules("js", "")),
    "with 200 modules, TypeScript": file("typescript.ts", server + modules("ts", ": number")),
  };
  for (const [name, path] of Object.entries(programs)) {
    const found = [];
    for (let i = 0; i < STARTS; i++) found.push(await measure(path));
    console.log(
      `${name}: ${median(found.map(({ all }) => all))} MB, private ${median(found.map(({ own }) => own))}`,
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}

function file(name, text) {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** Writes modules of 5 KB each and returns the statements that import them. */
function modules(ending, type) {
  let imports = "";
  for (let i = 0; i < MODULES; i++) {
    let text = "";
    for (let j = 0; j < FUNCTIONS; j++) {
      text +=
        `/** Adds numbers ${i} and ${j} and their product to what it is given, which nobody does here. */\n` +
        `export function add${j}(first${type}, second${type})${type} {\n  return first + second * ${i} + first * second * ${j};\n}\n`;
    }
    file(`module${i}.${ending}`, text);
    imports += `import * as m${i} from "./module${i}.${ending}";\n`;
  }
  return `${imports}globalThis.kept = [${Array.from({ length: MODULES }, (_, i) => `m${i}`)}];\n`;
}

async function measure(path) {
  const args = "Deno" in globalThis ? ["run", "-A", "--no-check", path] : [path];
  const child = spawn(process.execPath, args, { stdio: "ignore" });
  let [quiet, used] = [0, ""];
  while (quiet < QUIET_LOOKS) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    const now = readFileSync(`/proc/${child.pid}/stat`, "utf8").replace(/.*\) /s, "").split(" ").slice(11, 13)
      .join(" ");
    quiet = now === used ? quiet + 1 : 0;
    used = now;
  }
  const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
  const megabytes = (field) => Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)[1]) * 1024 / 1e6;
  const found = { all: megabytes("VmRSS"), own: megabytes("RssAnon") };
  child.kill("SIGKILL");
  await new Promise((resolve) => child.on("exit", resolve));
  return found;
}

function median(values) {
  return values.sort((a, b) => a - b)[values.length >> 1].toFixed(0);
}
