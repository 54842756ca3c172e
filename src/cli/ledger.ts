/**
 * Connects an edge to its session master, in the same process or remote.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { isLoopbackHost } from "../agent/edge_place.ts";
import type { Config } from "../config/config.ts";
import { EdgeLedger } from "../edge/ledger/ledger.ts";
import { httpControlLink } from "../edge/ledger/http_link.ts";
import { type ControlLink, LedgerReporter } from "../edge/ledger/reporter.ts";
import { SallyportError } from "../errors.ts";
import type { EdgeHub } from "../master/edge_hub.ts";
import { DataDir, EDGE_NAME_FILE, FERNET_FILE, JOURNAL_FILE } from "./data_dir.ts";
import type { FoundFernetKeys } from "./keys.ts";
import type { Base } from "./parts.ts";

/** Creates an edge's ledger, not yet connected to a session master. */
export function makeLedger(base: Base, config: Pick<Config, "dataDir">, fernet: FoundFernetKeys): EdgeLedger {
  const folder = new DataDir(config.dataDir);
  let kept = fernet.texts.join("\n");
  return new EdgeLedger({
    clock: base.runtime.clock,
    ring: fernet.value,
    keysChanged(keys) {
      const text = keys.join("\n");
      if (text === kept) return;
      kept = text;
      base.log.info({ keys: keys.length }, "the session master has other Fernet keys");
      // Keys from the settings are managed by the operator.
      if (fernet.from === "settings") return;
      folder.replace(FERNET_FILE, `${text}\n`).catch((error) =>
        base.log.warn({ error }, "Cannot keep the Fernet keys")
      );
    },
  });
}

/** Options for connecting a ledger to its session master. */
interface Joining {
  readonly ledger: EdgeLedger;
  readonly config: Pick<Config, "dataDir" | "edgeName">;
  readonly link: (edge: string) => ControlLink;
  /** This process's name, if several workers form one edge. */
  readonly worker?: string;
}

/** Reports the usage of the edge's agents, and receives the session master's rulings. Returns the edge's name. */
export async function joinMaster(base: Base, { ledger, config, link, worker }: Joining): Promise<string> {
  const { runtime: { clock }, log, life } = base;
  const folder = new DataDir(config.dataDir);
  const name = config.edgeName ??
    (await folder.readOrMake(EDGE_NAME_FILE, () => `edge-${randomBytes(4).toString("hex")}\n`)).content
      .trim();
  const edge = worker === undefined ? name : `${name}-${worker}`;
  const reporter = new LedgerReporter({
    edge,
    ledger,
    link: link(edge),
    clock,
    log,
    // A worker's name lives only as long as its process, so no one would read its journal.
    journal: worker === undefined
      ? { read: () => folder.read(JOURNAL_FILE), write: (text) => folder.replace(JOURNAL_FILE, text) }
      : { read: () => Promise.resolve(undefined), write: () => Promise.resolve() },
  });
  life.add("reports", () => reporter.close());
  await reporter.start();
  return edge;
}

/** The link of an edge to the session master in the same process. */
export function hubLink(hub: EdgeHub): ControlLink {
  return {
    async listen(since, hear, signal) {
      const undo = await hub.listen(since, hear);
      await new Promise<void>((resolve) => {
        if (signal.aborted) resolve();
        else signal.addEventListener("abort", () => resolve(), { once: true });
      });
      undo();
    },
    report: (report) => hub.report(report),
  };
}

/**
 * The link of an edge to a remote session master.
 *
 * @throws SallyportError `config_invalid` for `http://` to another machine without consent.
 */
export function masterLink(
  base: Base,
  config: Pick<Config, "insecureMaster">,
  master: string,
  fernet: FoundFernetKeys,
): (edge: string) => ControlLink {
  const { protocol, hostname } = new URL(master);
  if (protocol === "http:" && !isLoopbackHost(hostname) && !config.insecureMaster) {
    const why =
      `Cannot use --master ${master}: it is another machine, and http makes the edge's reports readable on the network; use https, ` +
      "or --insecure-master";
    throw new SallyportError("config_invalid", why, { side: "config" });
  }
  const { runtime: { clock }, tracer } = base;
  return (edge) => httpControlLink({ master, edge, ring: fernet.value, clock, tracer });
}
