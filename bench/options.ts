/**
 * The bench's command line.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { RESULTS } from "./machine.ts";

/** What the bench was asked to do. */
export interface BenchOptions {
  readonly cases?: readonly string[];
  readonly peers?: readonly string[];
  readonly rounds: number;
  readonly quick: boolean;
  /** A folder for the results. */
  readonly out: string;
}

/** The text of `--help`. */
export const HELP = `Compares tunnels on this machine, turn by turn.

  deno task bench [options]     bun run bench [options]

  --only CASE,…      of bulk, visitors, pingpong, memory, sessions, slow, https, link, names
  --peers NAME,…     of direct, haproxy, relay-bun, relay-deno, bare-bun, bare-deno (visitors alone), sallyport-bun,
                     sallyport-deno, reference, rathole, frp, frp-kcp, frp-quic, chisel, bore, and with aes-gcm
                     sallyport-bun-gcm, sallyport-deno-gcm, reference-gcm (bulk alone); the other transports:
                     -sealed, -sealed-wasm, -curve and -quic behind sallyport-bun and sallyport-deno
  --rounds N         medians over N rounds (3; with --quick 1)
  --quick            shorter, rougher
  --out FOLDER       where results.json, results.md and chart.svg go (bench/results)
`;

/** Reads the command line; undefined when help is asked for. Throws on what it doesn't know. */
export function readOptions(args: string[]): BenchOptions | undefined {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: "string" },
      peers: { type: "string" },
      rounds: { type: "string" },
      quick: { type: "boolean", default: false },
      out: { type: "string", default: RESULTS },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return undefined;
  const rounds = Number(values.rounds ?? (values.quick ? 1 : 3));
  if (!Number.isInteger(rounds) || rounds < 1) {
    throw new Error(`Cannot parse --rounds: "${values.rounds}" is no number from 1 on`);
  }
  return {
    ...(values.only === undefined ? {} : { cases: values.only.split(",") }),
    ...(values.peers === undefined ? {} : { peers: values.peers.split(",") }),
    ...{ rounds, quick: values.quick, out: values.out },
  };
}

/** Those of `all` that were asked for by name, in their own order; all when nothing was. */
export function chosen<T extends { readonly name: string }>(
  all: readonly T[],
  names: readonly string[] | undefined,
  what: string,
): T[] {
  if (names === undefined) return [...all];
  for (const name of names) {
    if (!all.some((one) => one.name === name)) {
      throw new Error(`Cannot find ${what} "${name}": there are ${all.map((one) => one.name).join(", ")}`);
    }
  }
  return all.filter((one) => names.includes(one.name));
}
