/**
 * Makes the reference implementation available to the interop tests: a Python of at least {@link PYTHON_MINIMUM} and a
 * virtual environment with `snitun` of {@link REFERENCE_VERSION}, made once under `.cache/`.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { readdir, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { alone } from "../support/alone.ts";

/** The reference's version on PyPI. */
export const REFERENCE_VERSION = "0.47.0";
/** The oldest Python that it runs on. */
export const PYTHON_MINIMUM: readonly [number, number] = [3, 13];

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const FOLDER = join(ROOT, ".cache", `reference-${REFERENCE_VERSION}`);
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
 * For the `skip` option of `node:test`.
 */
export async function skipInterop(): Promise<string | false> {
  if (process.env.CI !== undefined && process.env.CI !== "" && process.env.CI !== "false") return false;
  try {
    await referencePython();
    return false;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function prepare(): Promise<string> {
  const python = interpreterOf(FOLDER);
  if (await exists(python)) return python;
  const base = await findPython();
  await alone(FOLDER, async () => {
    if (!await exists(python)) await install(base);
  });
  return python;
}

/** Builds beside the final place and moves it there whole, so that a broken run leaves nothing that looks finished. */
async function install(base: string): Promise<void> {
  // A virtual environment's scripts name its folder, but its interpreter works wherever it is moved.
  const building = `${FOLDER}.${process.pid}`;
  await rm(building, { recursive: true, force: true });
  try {
    await run(base, ["-m", "venv", building]);
    const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"];
    await run(interpreterOf(building), [...pip, `snitun==${REFERENCE_VERSION}`]);
    await run(interpreterOf(building), ["-c", "import snitun"]);
    await rm(FOLDER, { recursive: true, force: true });
    await rename(building, FOLDER);
  } catch (error) {
    await rm(building, { recursive: true, force: true });
    throw new Error(`Cannot install snitun==${REFERENCE_VERSION} with ${base}: ${messageOf(error)}`);
  }
}

async function findPython(): Promise<string> {
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

function exists(path: string): Promise<boolean> {
  return stat(path).then(() => true, () => false);
}

function run(program: string, args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: INSTALL_TIMEOUT_MS }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout.trim());
      else reject(new Error(stderr.trim().split("\n").slice(-3).join(" ") || error.message));
    });
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
