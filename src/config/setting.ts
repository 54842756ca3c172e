/**
 * Definition of a setting: its flag, environment variable and configuration file member, its default, its description,
 * and the schema that validates it.
 *
 * @module
 */
import { z } from "zod";
import * as value from "./values.ts";

/** A command that takes settings. */
export type CommandName = "serve" | "edge" | "master" | "agent" | "token" | "demo" | "backup" | "manage";

/** A setting without its schema. */
export interface SettingInfo {
  /** The flag without dashes; absent if there is none. */
  readonly flag?: string;
  /** The environment variable. */
  readonly env: string;
  /** The member of the configuration file. */
  readonly member: string;
  /** Placeholder for its value in help texts, such as `HOST:PORT`; empty if the flag takes none. */
  readonly placeholder: string;
  /** Whether it takes several values: the flag repeated, or separated by commas; in the file also as a list. */
  readonly many: boolean;
  /** Default value as text; several values for `many`. */
  readonly default?: string | readonly string[];
  /** Its purpose, in one or two sentences. */
  readonly description: string;
  /** The commands that take it. */
  readonly commands: readonly CommandName[];
  /** The commands that require it. */
  readonly required: readonly CommandName[];
  /** The setting whose value is read from the file that this one names. */
  readonly fileOf?: string;
}

/** A setting with the schema of its value: from text, or a list of texts for `many`. */
export interface Setting<Schema extends z.ZodType = z.ZodType> extends SettingInfo {
  readonly schema: Schema;
}

type Given<Schema extends z.ZodType> =
  & { readonly flag: string; readonly schema: Schema }
  & Pick<SettingInfo, "placeholder" | "description" | "commands">
  & Partial<Pick<SettingInfo, "default" | "required" | "fileOf">>;

/** A setting that always has a value, its default. */
export function setting<Schema extends z.ZodType>(given: Given<Schema>): Setting<Schema> {
  const word = given.flag.replaceAll("-", "_");
  const many = given.schema instanceof z.ZodArray;
  return { required: [], ...given, env: `SALLYPORT_${word.toUpperCase()}`, member: word, many };
}

/** A boolean setting: its flag takes no value; elsewhere it is `true` or `false`. */
export function toggle(given: Omit<Given<z.ZodType>, "schema" | "placeholder">) {
  const schema = value.oneOf(["true", "false"]).transform((word) => word === "true");
  return setting({ ...given, placeholder: "", default: "false", schema });
}

/** A setting without a default, which may be unset. */
export function optional<Schema extends z.ZodType>(given: Given<Schema>): Setting<z.ZodOptional<Schema>> {
  return { ...setting(given), schema: given.schema.optional() };
}

/** One of SniTun's queue limits: set only by environment and file, under the reference's name. */
export function queueFigure(name: string, figure: number, description: string) {
  const env = `MULTIPLEXER_${name}`;
  return {
    env,
    member: env.toLowerCase(),
    placeholder: "BYTES",
    many: false,
    default: String(figure),
    description,
    commands: ["serve", "edge", "agent"] as CommandName[],
    required: [],
    schema: value.count("bytes", 1),
  } satisfies Setting;
}

/** Commands that call the management API of a session master: `agents`, `sessions`, `keys`, `usage`, `audit`. */
export const MANAGE: readonly CommandName[] = ["manage"];
/** Commands with an edge. */
export const EDGES: readonly CommandName[] = ["serve", "edge"];
/** Commands with a session master. */
export const MASTERS: readonly CommandName[] = ["serve", "master"];
/** Commands that make or open tokens. */
export const KEY_HOLDERS: readonly CommandName[] = ["serve", "edge", "master", "token"];
/** Only the agent. */
export const AGENT: readonly CommandName[] = ["agent"];
/** Every command that takes settings. */
export const ALL: readonly CommandName[] = [
  "serve",
  "edge",
  "master",
  "agent",
  "token",
  "demo",
  "backup",
  "manage",
];
