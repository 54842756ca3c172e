/**
 * Reads the part of the Dockerfile language that packaging/container/Dockerfile uses.
 *
 * @module
 */

/** An instruction with what stands behind it. */
export interface Instruction {
  readonly name: string;
  readonly text: string;
}

/** A stage: the image that it starts from, its name, and its instructions. */
export interface Stage {
  readonly from: string;
  readonly name: string | undefined;
  readonly steps: readonly Instruction[];
}

/** The stages of a Dockerfile. */
export function parseDockerfile(text: string): Stage[] {
  const stages: { from: string; name: string | undefined; steps: Instruction[] }[] = [];
  const lines = text.split("\n").filter((line) => !/^\s*#/.test(line)).join("\n").replaceAll("\\\n", " ");
  for (const line of lines.split("\n").map((line) => line.trim()).filter((line) => line !== "")) {
    const [, name = "", rest = ""] = /^([A-Z]+) +(.*)$/.exec(line) ?? [];
    if (name === "") throw new Error(`Cannot read Dockerfile: ${line}`);
    if (name === "FROM") {
      const [, from = "", as] = /^(\S+)(?: AS (\S+))?$/i.exec(rest) ?? [];
      stages.push({ from, name: as, steps: [] });
    } else {
      const stage = stages.at(-1);
      if (stage === undefined) throw new Error(`Cannot read Dockerfile: ${name} comes before FROM`);
      stage.steps.push({ name, text: rest.replace(/ +/g, " ") });
    }
  }
  return stages;
}

/** The words of an instruction in its JSON form; throws for a shell's form, which needs a shell in the image. */
export function execForm({ name, text }: Instruction): string[] {
  const words: unknown = JSON.parse(text.slice(text.indexOf("[")));
  if (!Array.isArray(words)) throw new Error(`Cannot read Dockerfile: ${name} isn't in its JSON form`);
  return words.map(String);
}

/** NAME=value pairs, whose values may be quoted. */
export function pairs(text: string): [name: string, value: string][] {
  return [...text.matchAll(/([\w.]+)=("[^"]*"|\S*)/g)].map((
    [, name = "", value = ""],
  ) => [name, value.replace(/^"|"$/g, "")]);
}
