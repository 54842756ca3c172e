/**
 * Makes the reference implementation available to the interop tests: a Python of at least {@link PYTHON_MINIMUM} and a
 * virtual environment with `snitun` of {@link REFERENCE_VERSION}, made once under `.cache/`.
 *
 * @module
 */
import { readdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { isCi, madeOnce, output } from "../support/made_once.ts";

/** The reference's version on PyPI. */
export const REFERENCE_VERSION = "0.47.0";
/** The oldest Python that it runs on. */
export const PYTHON_MINIMUM: readonly [number, number] = [3, 13];

const INSTALL_TIMEOUT_MS = 300_000;

let made: Promise<string> | undefined;

/**
 * The path of a Python that can `import snitun`. Makes the virtual environment on the first call; runs that come at
 * the same time (Deno's and Bun's) wait for one another.
 *
 * @throws with what is missing and what to do, when there is no fitting Python or it can't be installed.
 */
export function referencePython(): Promise<string> {
  return made ??= prepare();
}

/**
 * A reason to skip the interop tests, or false to run them: with CI set they always run, and fail where they can't.
 * For the `skip` option of `node:test`. Installing the reference takes longer than Bun's hooks may.
 */
export async function skipInterop(): Promise<string | false> {
  try {
    await referencePython();
    return false;
  } catch (error) {
    return !isCi() && (error instanceof Error ? error.message : String(error));
  }
}

async function prepare(): Promise<string> {
  return interpreterOf(
    await madeOnce(`reference-${REFERENCE_VERSION}`, INSTALL_TIMEOUT_MS, async (folder) => {
      await install(await findPython(), folder);
    }),
  );
}

/** A virtual environment's scripts name its folder, but its interpreter works wherever it is moved. */
async function install(base: string, folder: string): Promise<void> {
  try {
    await run(base, ["-m", "venv", folder]);
    const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"];
    await run(interpreterOf(folder), [...pip, `snitun==${REFERENCE_VERSION}`]);
    await run(interpreterOf(folder), ["-c", "import snitun"]);
  } catch (error) {
    throw new Error(`Cannot install snitun==${REFERENCE_VERSION} with ${base}: ${messageOf(error)}`);
  }
}

/** A Python that can make virtual environments, at least {@link PYTHON_MINIMUM}. Rejects where there is none. */
export async function findPython(): Promise<string> {
  const [major, minor] = PYTHON_MINIMUM;
  const names = ["python3.13", "python3.14", "python3.15", "python3", "python"];
  const candidates = [
    ...process.env.REFERENCE_PYTHON ? [process.env.REFERENCE_PYTHON] : [],
    ...names,
  ];
  candidates.push(...await pyenvPythons(), ...await uvPythons());
  // The answer of a shim (pyenv) names the interpreter itself: a shim may choose another one in the next folder.
  const question = `import sys, venv, ensurepip
print(sys.executable if sys.version_info[:2] >= (${major}, ${minor}) else "")`;
  for (const candidate of candidates) {
    const answer = await run(candidate, ["-c", question]).catch(() => "");
    if (answer !== "") return answer;
  }
  throw new Error(
    `Cannot run the reference: no Python ${major}.${minor} or newer found (tried ${
      names.join(", ")
    }, pyenv, uv). ` +
      "Install one, or set REFERENCE_PYTHON to its path.",
  );
}

async function pyenvPythons(): Promise<string[]> {
  const roots = new Set([process.env.PYENV_ROOT ?? "", await run("pyenv", ["root"]).catch(() => "")]);
  roots.add(join(homedir(), ".pyenv"));
  const found: string[] = [];
  for (const root of roots) {
    if (root === "") continue;
    const versions = await readdir(join(root, "versions")).catch((): string[] => []);
    const fitting = versions.filter((name) => {
      const [major = 0, minor = 0] = name.split(".").map(Number);
      return major === PYTHON_MINIMUM[0] && minor >= PYTHON_MINIMUM[1];
    });
    found.push(...fitting.map((name) => join(root, "versions", name, "bin", "python3")));
  }
  return found;
}

async function uvPythons(): Promise<string[]> {
  const path = await run("uv", ["python", "find", `>=${PYTHON_MINIMUM.join(".")}`]).catch(() => "");
  return path === "" ? [] : [path];
}

function interpreterOf(folder: string): string {
  return process.platform === "win32" ? join(folder, "Scripts", "python.exe") : join(folder, "bin", "python");
}

function run(program: string, args: string[]): Promise<string> {
  return output(program, args, INSTALL_TIMEOUT_MS);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
