/**
 * Prompts of `agent` on a terminal when required settings are missing, and the file that stores the answers.
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

/** Distinguishes a link of `agents add`, which has a code, from a session master's address. */
const LINK = /^https?:\/\/.+#./;

interface Question {
  /** The configuration file member that stores the answer. */
  readonly member: string;
  /** Option names, any one of which suffices. */
  readonly options: readonly string[];
  readonly text: string;
  /** The default for an empty answer. */
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
    text: "Where they go, http://HOST:PORT, or HOST:PORT of a server that speaks TLS",
    standard: "127.0.0.1:443",
  },
];

/**
 * Completes the settings of `agent` from the file of earlier answers, or by prompting on a terminal. Does nothing if a
 * configuration file is given or nothing is missing.
 */
export async function askForMissing(command: Command, io: CliIo): Promise<void> {
  const given = command.opts();
  const known = (option: string) => given[option] !== undefined || Boolean(io.env[variableOf(option)]);
  if (known("config")) return;
  const folder = String(given.dataDir ?? (io.env.SALLYPORT_DATA_DIR || "data"));
  // An agent that has enrolled, or is enrolling now, knows its session master, its key and its names.
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
    // The link determines the agent's names and key.
    if (command.opts().join !== undefined && member !== "to") continue;
    // On a line of its own, so that a terminal of 80 columns breaks neither the question nor the answer.
    const hint = standard === undefined ? "\n  " : `\n  [${standard}] `;
    let answer = "";
    while (answer === "") answer = (await io.ask(`${text}:${hint}`)).trim() || (standard ?? "");
    // The link can be used only once: this start uses it, and the resulting identity is stored.
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
