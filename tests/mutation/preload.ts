/**
 * Loads one source file with a stretch of it replaced: what `MUTANT` says, as JSON. Preloaded by the mutation run into
 * Bun's test runner.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import process from "node:process";

/** A stretch of a file and what stands there instead. */
export interface Mutant {
  /** Absolute path. */
  readonly file: string;
  readonly from: number;
  readonly to: number;
  readonly text: string;
}

interface BunPlugins {
  plugin(options: {
    name: string;
    setup(build: {
      onLoad(
        what: { filter: RegExp },
        load: (file: { path: string }) => { contents: string; loader: string },
      ): void;
    }): void;
  }): void;
}

const mutant = JSON.parse(process.env.MUTANT ?? "null") as Mutant | null;
const runtime = (globalThis as unknown as Record<string, BunPlugins | undefined>)["Bun"];
if (mutant !== null && runtime !== undefined) {
  const filter = new RegExp(`${mutant.file.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`);
  runtime.plugin({
    name: "mutant",
    setup: (build) =>
      build.onLoad({ filter }, ({ path }) => {
        const text = readFileSync(path, "utf8");
        return { contents: text.slice(0, mutant.from) + mutant.text + text.slice(mutant.to), loader: "ts" };
      }),
  });
}
