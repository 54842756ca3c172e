/**
 * A reader of the documents: runs the commands of their `sh` blocks in order, in a folder that holds the project, as real
 * processes with the permissions that the commands name. Where a command needs what only a real deployment has, the reader
 * puts in what is here: port 0 for ports to listen on, this machine's servers for `example.org`, and printed codes and keys
 * for the placeholders.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { copyFile, cp, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** A command that takes longer has failed. */
const PATIENCE_MS = 60_000;
/** What the project's folder has for a reader; the folders that the commands write are the test's own. */
const PROJECT = [
  "deno.json",
  "deno.lock",
  "package.json",
  "bun.lock",
  "bunfig.toml",
  "node_modules",
];

/** A command of a document. */
export interface DocumentCommand {
  readonly line: number;
  /** As a shell takes it, without a comment after it; continued lines are joined. */
  readonly text: string;
}

/** The commands in a document's blocks of a language. */
export function commandsOf(document: string, language: "sh" | "console"): DocumentCommand[] {
  const found: DocumentCommand[] = [];
  for (
    const { 1: inside, index } of document.matchAll(
      new RegExp(`^ *\`\`\`${language}\\n([^]*?)^ *\`\`\`$`, "gm"),
    )
  ) {
    const first = document.slice(0, index).split("\n").length + 1;
    const lines = inside!.split("\n");
    for (let i = 0; i < lines.length; i++) {
      const line = first + i;
      let text = lines[i]!.trim();
      while (text.endsWith("\\")) text = `${text.slice(0, -1)}${lines[++i]!.trim()}`;
      text = text.replace(/(^|\s+)# .*$/, "").trim();
      if (text !== "") found.push({ line, text });
    }
  }
  return found;
}

/** The program's words in a command, after `mod.ts`, `bun run server` or `sallyport`; undefined for other commands. */
export function programWords(command: string): string[] | undefined {
  const match = /^(?:[A-Z_]+=\S+ +)*(?:sudo +)?(?:.*\bmod\.ts|.*\brun server|sallyport)(?: +(.*))?$/.exec(
    command,
  );
  return match === null ? undefined : shellWords(match[1] ?? "");
}

/** A command's words, quotes taken off, up to a pipe or a redirection. */
function shellWords(text: string): string[] {
  const words = [...text.matchAll(/'([^']*)'|"([^"]*)"|([^\s'"]+)/g)].map(([, a, b, c]) => a ?? b ?? c ?? "");
  const end = words.findIndex((word) => /^[|<>&]/.test(word));
  return end < 0 ? words : words.slice(0, end);
}

/** What a command that goes on running says when it is ready; the group is the address that it listens on. */
const READY: Readonly<Record<string, RegExp>> = {
  demo: /curl --cacert \S+ \S+/,
  serve: /session master +(http:\S+)[^]*Next, /,
  edge: /agents[^\n]* +(?:by \w+ +)?(127\.0\.0\.1:\d+)/,
  master: /session master +(http:\S+)/,
  agent: /connected to the edge/,
  "pipe receive": /Listening on (\S+), public key/,
  "snocat server": /Clients connect to (\S+)/,
  "snocat client": /Public at \S+/,
};

interface Running {
  readonly role: string;
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly ended: Promise<number | string>;
}

/** One reader, in a folder of its own. */
export class Reader {
  readonly #folder: string;
  readonly #running: Running[] = [];
  readonly #site = createServer((_, answer) => answer.end("a page of my own"));
  #exports = "";
  #master: string | undefined;
  #edge: string | undefined;
  #address: string | undefined;
  #link: string | undefined;
  #publicKey: string | undefined;
  /** What the last command printed. */
  output = "";

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** A reader whose folder holds the project, a file to send, and a service at a port. */
  static async open(): Promise<Reader> {
    const folder = await mkdtemp(join(tmpdir(), "sallyport-reader-"));
    const present = new Set(await readdir(ROOT));
    for (const name of PROJECT) if (present.has(name)) await symlink(join(ROOT, name), join(folder, name));
    // Not links: the program reads files beside its modules, and Deno permits what lies below the folder.
    await cp(join(ROOT, "src"), join(folder, "src"), { recursive: true });
    for (const file of ["main.ts", "mod.ts"]) await cp(join(ROOT, file), join(folder, file));
    await writeFile(join(folder, "backup.tar"), "a file to send");
    await writeFile(join(folder, "pipe.login"), "name\na passphrase of some length\n", { mode: 0o600 });
    const reader = new Reader(folder);
    await new Promise<void>((resolve) => reader.#site.listen(0, "127.0.0.1", resolve));
    return reader;
  }

  /** Ends what runs: each process must end in order. */
  async close(): Promise<void> {
    try {
      for (const running of this.#running.splice(0).reverse()) await this.#end(running);
    } finally {
      for (const { child } of this.#running) child.kill("SIGKILL");
      this.#site.close();
      this.#site.closeAllConnections();
      await rm(this.#folder, { recursive: true, force: true });
    }
  }

  /** Runs a command: to its end with exit code 0, or, where it goes on running, until it is ready. */
  async run(command: string): Promise<void> {
    if (command.startsWith("export ")) {
      this.#exports += `${command.replaceAll("=...", "=some-long-passphrase")}; `;
      return;
    }
    const words = programWords(command);
    const role = words === undefined ? undefined : roleOf(words);
    if (needsMaster(command, role) && this.#master === undefined) await this.run("deno run -P mod.ts");
    if (role !== undefined) {
      const before = this.#running.findIndex((running) => running.role === role);
      if (before >= 0) await this.#end(this.#running.splice(before, 1)[0]!);
    }
    const text = await this.#fill(command);
    const running = this.#start(role ?? "", text);
    if (role === undefined) {
      const code = await running.ended;
      this.output = running.output();
      assert.equal(code, 0, `${text}\n${this.output}`);
    } else {
      this.#running.push(running);
      const match = await ready(running, READY[role]!, text);
      this.output = running.output();
      this.#note(role, match);
    }
    const printed = this.output;
    this.#link = /--join '?([^\s']+#[^\s']+)/.exec(printed)?.[1] ?? this.#link;
    this.#publicKey = /\b([0-9a-f]{64})\b/.exec(printed)?.[1] ?? this.#publicKey;
  }

  #note(role: string, [, address]: RegExpExecArray): void {
    if (role === "serve" || role === "master") this.#master = address;
    if (role !== "agent" && role !== "demo") this.#address = address;
    if (role === "serve") this.#edge = /visitors[^\n]* +(\S+)/.exec(this.output)?.[1] ?? this.#edge;
  }

  /** The command with what is here in place of what a deployment has. */
  async #fill(command: string): Promise<string> {
    const site = `127.0.0.1:${(this.#site.address() as AddressInfo).port}`;
    let text = command.replace(/^sallyport\b/, "deno run -P mod.ts");
    if (process.versions.bun !== undefined) {
      text = text.replace(/^deno run -P(=\w+)? mod\.ts/, "bun run server");
    }
    text = text.replace(/(--(?:[a-z]+-)?listen|--quic) \S+/g, "$1 127.0.0.1:0").replace(
      / --public-address \S+/,
      "",
    )
      .replace(/https?:\/\/[^\s'"]*#CODE/, this.#link ?? "http://127.0.0.1:1/#none")
      .replace(/\b(HEX|<hex>)/, this.#publicKey ?? "no-key")
      .replace(/(--to|--server) (?:host|edge)\.example\.org:\d+/, `$1 ${this.#address}`)
      .replace(/--to http:\/\/127\.0\.0\.1:(?!8080)\d+/, `--to http://${site}`)
      .replace(/--san edge\.example\.org/, "--san 127.0.0.1")
      .replace(/--target \S+/, `--target ${site}`);
    text = text.replace("pipe receive", "pipe receive --listen 127.0.0.1:0");
    if (this.#master !== undefined) {
      text = text.replaceAll("http://127.0.0.1:8080", this.#master).replaceAll(
        "https://master.example.org",
        this.#master,
      );
    }
    if (this.#edge !== undefined) {
      text = text.replace(/(localhost):8443/, `$1:${this.#edge.split(":").at(-1)}`);
    }
    if (/\bagent\.key\b/.test(text)) {
      await copyFile(join(this.#folder, "data", "admin.key"), join(this.#folder, "agent.key"));
    }
    return text;
  }

  #start(role: string, text: string): Running {
    const outer = Object.entries(process.env).filter(([name]) => !name.startsWith("SALLYPORT_"));
    const child = spawn("sh", ["-c", `${this.#exports}exec env ${text}`], {
      cwd: this.#folder,
      env: {
        ...Object.fromEntries(outer),
        PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}`,
        ...role === "" && this.#master !== undefined ? { SALLYPORT_MASTER: this.#master } : {},
        NO_COLOR: "1",
        DENO_NO_UPDATE_CHECK: "1",
        SALLYPORT_LISTEN: "127.0.0.1:0",
        SALLYPORT_MASTER_LISTEN: "127.0.0.1:0",
        // No test asks a public authority for certificates.
        SALLYPORT_ACME_DIRECTORY: "https://127.0.0.1:1/directory",
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    child.stdout.on("data", (part) => output += String(part));
    child.stderr.on("data", (part) => output += String(part));
    const late = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
    const ended = new Promise<number | string>((resolve) => {
      child.on("close", (code, signal) => {
        clearTimeout(late);
        resolve(code ?? signal ?? "?");
      });
    });
    return { role, child, output: () => output, ended };
  }

  async #end({ role, child, ended, output }: Running): Promise<void> {
    if (role === "pipe receive") {
      assert.equal(await ended, 0, output());
      return;
    }
    // Twice: no stream is worth its grace here.
    for (let i = 0; i < 2 && child.exitCode === null && child.pid !== undefined; i++) {
      process.kill(child.pid, "SIGINT");
    }
    const code = await ended;
    assert.ok(code === 0 || code === "SIGINT" || code === 130, `${role} ended with ${code}\n${output()}`);
  }
}

/** Which of the commands that go on running it is; undefined for those that end by themselves. */
function roleOf(words: readonly string[]): string | undefined {
  const [first = "serve", second = ""] = words[0]?.startsWith("-") ? ["serve"] : words;
  if (/^(pipe|snocat)$/.test(first)) return `${first} ${second}` in READY ? `${first} ${second}` : undefined;
  if (first === "agent" && /^[a-z]/.test(second)) return undefined;
  return first in READY ? first : undefined;
}

/** Whether a command speaks to a session master that its document takes for granted. */
function needsMaster(command: string, role: string | undefined): boolean {
  return role === "agent" ||
    /\b(agents|sessions|usage|audit|webhooks|keys|api-keys) \w|:8080\/v1|\bagent status/.test(command);
}

function ready({ child, output, ended }: Running, pattern: RegExp, text: string): Promise<RegExpExecArray> {
  return new Promise((resolve, reject) => {
    const look = () => {
      const match = pattern.exec(output());
      if (match !== null) resolve(match);
    };
    child.stdout!.on("data", look);
    child.stderr!.on("data", look);
    void ended.then((code) =>
      reject(new Error(`${text}\nended with ${code} before ${pattern} was seen\n${output()}`))
    );
  });
}
