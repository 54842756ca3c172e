/**
 * The command line of a task: `--help` prints its usage and ends with 0, what it doesn't know ends with 2.
 *
 * @module
 */
import process from "node:process";
import { parseArgs, type ParseArgsConfig } from "node:util";

type Options = NonNullable<ParseArgsConfig["options"]>;
type Parsed<T extends Options> = ReturnType<typeof parseArgs<{ options: T; allowPositionals: true }>>;

/** Reads the command line of the process. `check` throws on values that make no sense. */
export function readCommandLine<T extends Options>(
  usage: string,
  options: T,
  check: (parsed: Parsed<T>) => void = () => {},
): Parsed<T> {
  try {
    const help = { help: { type: "boolean", short: "h" } } as const;
    const parsed = parseArgs({ allowPositionals: true, options: { ...options, ...help } });
    if ((parsed.values as { help?: boolean }).help) {
      console.log(usage);
      process.exit(0);
    }
    check(parsed as Parsed<T>);
    return parsed as Parsed<T>;
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    process.exit(2);
  }
}

/** Checks that an option is a number from `least` on. */
export function checkNumber(option: string, text: string | undefined, least: number): void {
  if (text === undefined || Number(text) >= least) return;
  throw new Error(`Cannot parse --${option}: "${text}" is no number from ${least} on`);
}

/** Checks that a value is one of those known. */
export function checkKnown(what: string, value: string, known: readonly string[]): void {
  if (known.includes(value)) return;
  throw new Error(`Cannot parse ${what}: "${value}" is unknown, known are ${known.join(", ")}`);
}
