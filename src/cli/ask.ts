/**
 * What `agent` asks on a terminal when it is started without the settings that it needs, and where it remembers the
 * answers.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "./command.ts";
import { ANSWERS_FILE, CREDENTIAL_FILE, IDENTITY_FILE } from "./data_dir.ts";
import type { CliIo } from "./io.ts";
import { shellWord } from "./startup.ts";

/** What a link of `agents add` has, and the mere address of a session master hasn't: its code. */
const LINK = /^https?:\/\/.+#./;

interface Question {
  /** The member of a configuration file that the answer becomes. */
  readonly member: string;
  /** Option names of which one suffices. */
  readonly options: readonly string[];
  readonly text: string;
  /** What an empty answer means. */
  readonly standard?: string;
}

const QUESTIONS: readonly Question[] = [
  {
    member: "master",
    options: ["master"],
    text: "The link that `agents add` printed, or the session master's address",
    standard: "http://127.0.0.1:8080",
  },
  {
    member: "credential",
    options: ["credential", "credentialFile"],
    text: "The credential for it (admin.key)",
  },
  {
    member: "hostname",
    options: ["hostname", "service"],
    text: "The name that visitors ask for",
    standard: "demo.localhost",
  },
  {
    member: "to",
    options: ["to", "service"],
    text: "Where their connections go: HOST:PORT of a server that speaks TLS, or http://HOST:PORT",
    standard: "127.0.0.1:443",
  },
];

/**
 * Completes the settings of `agent`: with the file of earlier answers, or by questions where there is a terminal.
 * Does nothing where a configuration file is named or nothing is missing.
 */
export async function askForMissing(command: Command, io: CliIo): Promise<void> {
  const given = command.opts();
  const known = (option: string) => given[option] !== undefined || Boolean(io.env[variableOf(option)]);
  if (known("config")) return;
  const folder = String(given.dataDir ?? (io.env.SALLYPORT_DATA_DIR || "data"));
  // An agent that has enrolled, or does so now, knows its session master, its key and its names.
  const enrolled = !known("credential") && !known("credentialFile") &&
    (known("join") || existsSync(join(folder, IDENTITY_FILE)));
  const missing = QUESTIONS.filter(({ member, options }) =>
    !options.some(known) && !(enrolled && member !== "to")
  );
  if (missing.length === 0) return;
  const path = join(folder, ANSWERS_FILE);
  if (existsSync(path)) {
    command.setOptionValue("config", path);
    return;
  }
  if (io.ask === undefined) return;
  io.err(`The agent needs ${missing.length} settings; it remembers the answers in ${path}.`);
  const answers = new Map<string, string>();
  for (const { member, text, standard } of missing) {
    // The link stands for the agent's names and for a key of its own.
    if (command.opts().join !== undefined && member !== "to") continue;
    const hint = standard === undefined ? "" : ` [${standard}]`;
    let answer = "";
    while (answer === "") answer = (await io.ask(`${text}${hint}: `)).trim() || (standard ?? "");
    // The link is good once: this start takes it, and the identity that it gives is what is remembered.
    if (member === "master" && LINK.test(answer)) command.setOptionValue("join", answer);
    else answers.set(member, answer);
  }
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const secret = answers.get("credential");
  if (secret !== undefined) {
    const file = join(folder, CREDENTIAL_FILE);
    await writeFile(file, `${secret}\n`, { mode: 0o600 });
    answers.delete("credential");
    answers.set("credential_file", file);
  }
  await writeFile(path, `${JSON.stringify(Object.fromEntries(answers), null, 2)}\n`, { mode: 0o600 });
  command.setOptionValue("config", path);
  io.err(
    `Remembered in ${
      shellWord(path)
    }: \`agent\` without flags uses it from now on. Delete it to be asked again.\n`,
  );
}

/** The environment variable of a setting, by its option's name: `credentialFile` is SALLYPORT_CREDENTIAL_FILE. */
function variableOf(option: string): string {
  return `SALLYPORT_${option.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}
