/**
 * Configuration: defaults, then the file, then the environment, then flags, each overriding the previous, validated by
 * one schema. The error for an invalid value names the value, its origin and the expected form.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import type { Service } from "../agent/services/service.ts";
import { ConfigFile, type FileFault } from "./file.ts";
import { readServices } from "./services.ts";
import { didYouMean } from "./suggest.ts";
import type { CommandName, Setting } from "./setting.ts";
import { type SettingName, SETTINGS, settingsOf } from "./settings.ts";
import { errorMessage, SallyportError } from "../errors.ts";

export type { CommandName, Setting, SettingInfo } from "./setting.ts";
export { type SettingName, SETTINGS, settingsOf } from "./settings.ts";
import type { QueueLimits } from "../protocol/mux/queue_limits.ts";
import { formatHostPort } from "../wire/ip/host_port.ts";

/** The resolved value of every setting; those that a command doesn't take have their defaults. */
export type Config = { [Name in SettingName]: z.output<(typeof SETTINGS)[Name]["schema"]> };

/** Sources of settings. */
export interface ConfigSources {
  /** Values of flags by setting name; `undefined` for those not given. */
  readonly flags: Readonly<Record<string, string | true | readonly string[] | undefined>>;
  /** Environment variables. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Allows required settings to be missing, for commands that only look something up. */
  readonly partial?: boolean;
  /** Reads a file as text. Defaults to the file system. */
  readonly readFile?: (path: string) => string;
}

/** Result of {@link loadConfig}. */
export interface LoadedConfig {
  readonly config: Config;
  /** Warnings about possible mistakes, as sentences. */
  readonly warnings: readonly string[];
  /** Settings that were set, and their origin: "--listen", "SALLYPORT_LISTEN", "listen in sallyport.yaml:3:9". */
  readonly origins: ReadonlyMap<SettingName, string>;
  /** The services in the file; only for the agent. */
  readonly services: readonly Service[];
  /** The path of the file, if there is one. */
  readonly file: string | undefined;
}

/** The file member for an agent's services. */
const SERVICES_MEMBER = "services";
/** Members that aren't settings; `$schema` is for editors. */
const NO_SETTINGS: readonly string[] = [SERVICES_MEMBER, "$schema"];

/** A value before validation. `rank` rises from file to environment to flag. */
interface Raw {
  readonly text: string | string[];
  readonly origin: string;
  readonly rank: number;
}

const shape = Object.fromEntries(Object.entries(SETTINGS).map(([name, { schema }]) => [name, schema]));
/** The schema of all settings: each by itself, and the constraints between them. */
const configSchema = z.object(shape).superRefine((given, context) => {
  const config = given as Config;
  const rising = (...names: SettingName[]) => {
    for (const [index, name] of names.slice(1).entries()) {
      const before = names[index] as SettingName;
      if ((config[before] as number) <= (config[name] as number)) continue;
      const figure = (of: SettingName) => `${SETTINGS[of].env} (${config[of]})`;
      const message = `${figure(before)} is more than ${figure(name)}`;
      context.addIssue({ code: "custom", path: [before, name], message });
    }
  };
  rising("incomingLowBytes", "incomingHighBytes", "incomingMaxBytes");
  rising("incomingHighBytes", "incomingMaxBytesV0");
  rising("pingInterval", "pingTimeout");
  rising("outgoingLowBytes", "outgoingHighBytes", "outgoingMaxBytes");
});

/** The settings whose values differ. */
export function changedSettings(before: Partial<Config>, after: Config): SettingName[] {
  return (Object.keys(after) as SettingName[]).filter((name) =>
    !isDeepStrictEqual(before[name], after[name])
  );
}

/**
 * Resolves the settings of a command.
 *
 * @throws SallyportError `config_invalid`, side "config": the first value that is invalid or missing.
 */
export function loadConfig(command: CommandName, sources: ConfigSources): LoadedConfig {
  const readFile = sources.readFile ?? ((path) => readFileSync(path, "utf8"));
  const raw = new Map<SettingName, Raw>();
  const settings = settingsOf(command);
  const put = (name: SettingName, value: Raw) => void raw.set(name, value);

  const path = sources.flags.config ?? (sources.env.SALLYPORT_CONFIG || undefined);
  const file = typeof path === "string" ? openFile(path, readFile) : undefined;
  const services = file === undefined ? [] : readFileMembers(command, file, settings, put);
  for (const [name, { env, many }] of settings) {
    const text = sources.env[env];
    // Many tools use an empty variable to mean "not set".
    if (text !== undefined && text !== "") {
      put(name, { text: many ? split(text) : text, origin: env, rank: 2 });
    }
  }
  for (const [name, { flag, many }] of settings) {
    const given = sources.flags[name];
    if (given === undefined || flag === undefined) continue;
    const text = given === true ? "true" : given;
    const list = (typeof text === "string" ? [text] : text).flatMap(many ? split : (item) => [item]);
    put(name, { text: many ? list : list.at(-1) as string, origin: `--${flag}`, rank: 3 });
  }
  for (const [name, setting] of settings) readSecret(name, setting, raw, readFile);
  const config = judge(raw);
  checkAddresses(settings.map(([name]) => name), config, raw);
  for (const [name, { required, flag, env }] of settings) {
    if (!required.includes(command) || raw.has(name) || sources.partial === true) continue;
    const twin = settings.find(([, { fileOf }]) => fileOf === name)?.[1].flag;
    const others = `${twin === undefined ? "" : `--${twin}, `}${env} in the environment`;
    throw invalid(`Cannot start ${command}: --${flag} is missing (or ${others})`);
  }
  const origins = new Map([...raw].map(([name, { origin }]) => [name, origin]));
  return { config, warnings: strangers(sources.env), origins, services, file: file?.path };
}

/** SniTun's queue limits, and how soon a vanished peer is detected, in the form that sessions take. */
export function queueLimits(config: Config): QueueLimits {
  const { incomingMaxBytes, incomingMaxBytesV0, incomingLowBytes, incomingHighBytes } = config;
  const { outgoingMaxBytes, outgoingLowBytes, outgoingHighBytes } = config;
  const incoming = { incomingMaxBytes, incomingMaxBytesV0, incomingLowBytes, incomingHighBytes };
  const { pingInterval: pingIntervalMs, pingTimeout: silenceMaxMs } = config;
  const patience = { pingIntervalMs, silenceMaxMs };
  return { ...incoming, outgoingMaxBytes, outgoingLowBytes, outgoingHighBytes, ...patience };
}

function invalid(message: string): SallyportError {
  return new SallyportError("config_invalid", message, { side: "config" });
}

function split(text: string): string[] {
  return text.split(",").map((item) => item.trim());
}

/** Validates the given values, including defaults, and reports the first fault with its origin. */
function judge(raw: ReadonlyMap<SettingName, Raw>): Config {
  const input: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(SETTINGS) as [SettingName, Setting][]) {
    input[name] = raw.get(name)?.text ?? setting.default;
  }
  const result = configSchema.safeParse(input);
  if (result.success) return result.data as Config;
  const [first] = result.error.issues;
  // The path holds one name and an index in its list, or two conflicting names: a set value is to blame, not a default.
  const names = (first?.path ?? []) as SettingName[];
  const origin = names.map((name) => raw.get(name)?.origin).find((set) => set !== undefined) ?? "a default";
  throw invalid(`Cannot use ${origin}: ${first?.message}`);
}

/** Checks that no address is listened on twice, among the settings that the command takes. */
function checkAddresses(
  names: readonly SettingName[],
  config: Config,
  raw: ReadonlyMap<SettingName, Raw>,
): void {
  const taken = new Map<string, SettingName>();
  for (const name of ["listen", "agentListen", "masterListen", "metricsListen"] as const) {
    if (!names.includes(name)) continue;
    for (const address of config[name].filter(({ port }) => port !== 0).map(formatHostPort)) {
      const other = taken.get(address);
      if (other !== undefined) {
        const origin = raw.get(name)?.origin ?? raw.get(other)?.origin;
        throw invalid(`Cannot use ${origin}: ${address} is already listened on`);
      }
      taken.set(address, name);
    }
  }
}

function openFile(path: string, readFile: (path: string) => string): ConfigFile {
  let text: string;
  try {
    text = readFile(path);
  } catch (error) {
    const isAbsent = (error as { readonly code?: unknown }).code === "ENOENT";
    const why = isAbsent ? "there is no such file" : errorMessage(error);
    throw invalid(`Cannot read configuration file ${path}: ${why}`);
  }
  return new ConfigFile(path, text);
}

/** The settings allowed in a file, by member; `services` isn't one of them. */
function settingsByMember(): Map<string, SettingName> {
  const members = new Map(
    Object.entries(SETTINGS).map(([name, { member }]) => [member, name as SettingName]),
  );
  members.delete(SETTINGS.config.member);
  return members;
}

/** Reads a file's settings, and returns its services if the command has any. */
function readFileMembers(
  command: CommandName,
  file: ConfigFile,
  settings: readonly [SettingName, Setting][],
  put: (name: SettingName, value: Raw) => void,
): readonly Service[] {
  const members = settingsByMember();
  const used = new Set(settings.map(([name]) => name));
  for (const [member, value] of Object.entries(file.members)) {
    if (NO_SETTINGS.includes(member)) continue;
    const name = members.get(member);
    const origin = `${member} in ${file.where([member], { key: name === undefined })}`;
    if (name === undefined) {
      throw invalid(`Cannot use ${origin}: ${unknownMember(member, members.keys())}`);
    }
    // One file may serve several commands.
    if (used.has(name)) put(name, { text: memberText(value, SETTINGS[name].many, origin), origin, rank: 1 });
  }
  if (command !== "agent") return [];
  const { services, faults } = readServices(file);
  const [fault] = faults;
  if (fault === undefined) return services;
  const more = faults.length === 1
    ? ""
    : ` (and ${faults.length - 1} more; \`agent check ${file.path}\` lists them)`;
  throw invalid(`Cannot use ${file.path}:${fault.line}:${fault.column}: ${fault.message}${more}`);
}

function unknownMember(member: string, members: Iterable<string>): string {
  return `there is no such setting.${didYouMean(member, [...members, SERVICES_MEMBER])}`;
}

/**
 * All faults in a file, in the order of its lines, or its services if there are none.
 *
 * @throws SallyportError `config_invalid` if it can't be read at all.
 */
export function checkFile(
  path: string,
  readFile: (path: string) => string = (path) => readFileSync(path, "utf8"),
): { readonly services: readonly Service[]; readonly faults: readonly FileFault[] } {
  const file = openFile(path, readFile);
  const members = settingsByMember();
  const { services, faults: found } = readServices(file);
  const faults = [...found];
  for (const [member, value] of Object.entries(file.members)) {
    if (NO_SETTINGS.includes(member)) continue;
    const name = members.get(member);
    if (name === undefined) {
      const message = `${member}: ${unknownMember(member, members.keys())}`;
      faults.push({ ...file.position([member], { key: true }), message });
      continue;
    }
    try {
      const { schema, many } = SETTINGS[name];
      const result = schema.safeParse(memberText(value, many, member));
      if (result.success) continue;
      for (const issue of result.error.issues) {
        faults.push({ ...file.position([member, ...issue.path]), message: `${member}: ${issue.message}` });
      }
    } catch (error) {
      faults.push({ ...file.position([member]), message: errorMessage(error).replace(/^Cannot use /, "") });
    }
  }
  return { services, faults: faults.toSorted((a, b) => a.line - b.line || a.column - b.column) };
}

/** A member as text; numbers may be written as numbers, lists as arrays or comma-separated. */
function memberText(value: unknown, many: boolean, origin: string): string | string[] {
  const plain = (item: unknown): string => {
    if (typeof item === "string") return item;
    if (typeof item === "number") return String(item);
    throw invalid(`Cannot use ${origin}: it must be ${many ? "a list of strings" : "a string or a number"}`);
  };
  if (!many) return plain(value);
  return Array.isArray(value) ? value.map(plain) : split(plain(value));
}

/**
 * Reads a setting's value from the file that its `-file` twin names, unless the value itself was set with higher
 * precedence.
 */
function readSecret(
  name: SettingName,
  { fileOf }: Setting,
  raw: Map<SettingName, Raw>,
  readFile: (path: string) => string,
): void {
  const from = raw.get(name);
  if (fileOf === undefined || from === undefined) return;
  const target = fileOf as SettingName;
  const direct = raw.get(target);
  if (direct !== undefined && direct.rank > from.rank) return;
  if (direct?.rank === from.rank) {
    throw invalid(`Cannot use ${from.origin}: ${direct.origin} is set too, leave out one of them`);
  }
  let content: string;
  try {
    content = readFile(from.text as string);
  } catch (error) {
    throw invalid(`Cannot use ${from.origin}: ${errorMessage(error)}`);
  }
  const text = SETTINGS[target].many ? keyLines(content) : content.trim();
  raw.set(target, { ...from, text });
}

/** The keys of a file: one per line, or separated by commas; empty lines and those that start with # are ignored. */
export function keyLines(content: string): string[] {
  const lines = content.split(/\r?\n/).map((line) => line.trim()).filter((line) => !line.startsWith("#"));
  return lines.flatMap(split).filter((key) => key !== "");
}

/**
 * Variables that aren't settings: secrets that `pipe` reads itself, those that the npm package's launcher reads, and
 * those that a parent process passes to its workers.
 */
const NO_VARIABLES_OF_SETTINGS = [
  ...["PIPE_LOGIN", "PIPE_PASSPHRASE", "PIPE_KEY", "PIPE_PUBLIC_KEY", "RUNTIME", "WORKER"],
].map((name) => `SALLYPORT_${name}`);

function strangers(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = new Set([
    ...Object.values(SETTINGS).map((setting) => setting.env),
    ...NO_VARIABLES_OF_SETTINGS,
  ]);
  return Object.keys(env).filter((name) => name.startsWith("SALLYPORT_") && !known.has(name)).sort()
    .map((name) => `${name} in the environment isn't a setting.${didYouMean(name, known)}`);
}
