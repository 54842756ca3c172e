import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { runHere } from "./run_here.ts";

const completion = (shell: string) => runHere(["completion", shell]);

function run(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(command, args, { timeout: 60_000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${error.message}\n${stderr}`));
    });
  });
}

/** A reason to skip the tests of each shell, or false. */
const [noBash, noFish, noZsh] = await Promise.all(
  ["bash", "fish", "zsh"].map((shell) =>
    run(shell, ["-c", "true"]).then(() => false, () => `${shell} isn't installed`)
  ),
);

const timeout = 90_000;

describe("completion", { skip: process.platform === "win32" }, () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-test-"));
  });
  after(() => rm(folder, { recursive: true, force: true }));
  const written = async (shell: string): Promise<string> => {
    const { code, out, err } = await completion(shell);
    assert.deepEqual([code, err], [0, ""]);
    const path = join(folder, `completion.${shell}`);
    await writeFile(path, `${out}\n`);
    return path;
  };

  it("in bash gives commands, flags and choices, and leaves files to bash", { skip: noBash }, async () => {
    const path = await written("bash");
    const asked: [words: string[], answer: RegExp][] = [
      [["ag"], /^agent agents$/],
      [["agent", "--transp"], /^--transport$/],
      [["agent", "--transport", ""], /^sealed snitun curve quic auto$/],
      [["pipe", ""], /^keygen send receive --help$/],
      [["agent", "--master", "x", "--credential-f"], /^--credential-file$/],
      [["agent", "--credential-file", ""], /^$/],
    ];
    for (const [words, answer] of asked) {
      const given = ["sallyport", ...words].map((word) => `'${word}'`).join(" ");
      const script = `source ${path}; COMP_WORDS=(${given}); COMP_CWORD=${words.length}; _sallyport; ` +
        `echo "\${COMPREPLY[*]}"`;
      const out = await run("bash", ["-c", script]);
      assert.match(out.trim(), answer, words.join(" "));
    }
  });

  it("in fish gives commands, flags and choices", { skip: noFish }, async () => {
    const path = await written("fish");
    const ask = `source ${path}; complete -C "sallyport ag"; complete -C "sallyport agent --transport "`;
    const out = await run("fish", ["-c", ask]);
    assert.match(out, /^agent\t/m);
    assert.match(
      await run("fish", ["-c", `source ${path}; complete -C "sallyport service "`]),
      /the service's/,
    );
    for (const choice of ["snitun", "sealed", "auto"]) assert.match(out, new RegExp(`^${choice}\\b`, "m"));
  });

  it("in zsh gives commands, flags and choices, with what they do", { skip: noZsh, timeout }, async () => {
    const { out } = await completion("zsh");
    await writeFile(join(folder, "_sallyport"), `${out}\n`);
    const asked: [line: string, answer: string][] = [
      ["sallyport agents l", "agents list"],
      ["sallyport service ", "-- Show the service's state."],
      ["sallyport serve --mast", "--master-listen"],
      ["sallyport agent --hostname a --transport q", "--transport quic"],
    ];
    // The shell on the other side of a terminal echoes what is typed; only a completion has the answer in it.
    const typed = asked.map(([line, answer]) =>
      `zpty -w -n shell $'\\x15''${line}'$'\\t'; zpty -r -m shell out "*${answer}*"; print -r -- "$out"`
    );
    const script = `zmodload zsh/zpty; zpty shell zsh -f
      zpty -w shell 'PS1=; fpath=(${folder} $fpath); autoload -Uz compinit; compinit -u -D; print rea""dy'
      zpty -r -m shell out '*ready*'
      ${typed.join("\n")}
      zpty -d shell`;
    const shown = await run("zsh", ["-fc", script]);
    for (const [line, answer] of asked) assert.ok(shown.includes(answer), line);
  });

  it("names the shells that it knows", async () => {
    const { code, err } = await completion("tcsh");
    assert.equal(code, 2);
    assert.match(err, /no completion for "tcsh", only for bash, zsh, fish/);
  });
});
