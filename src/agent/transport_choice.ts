/**
 * Chooses the transports that an agent tries, and their order: what worked in this network is tried first.
 *
 * @module
 */
import { DAY_MS } from "../calendar.ts";
import { errorMessage, SallyportError } from "../errors.ts";
import type { Clock } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import { type TransportName, TRANSPORTS, type TransportSetting } from "../transport/names.ts";
import type { Dialers } from "./dialer.ts";
import type { GrantEdge } from "../transport/grant.ts";
import { localNetworks } from "./local_networks.ts";

/** `--transport auto`: what worked in a network is tried first for this long, then preferred ones are tried again. */
export const TRANSPORT_REMEMBERED_MS = DAY_MS;
/** `--transport auto`: networks remembered; beyond this number the oldest is forgotten. */
export const NETWORKS_REMEMBERED_MAX = 64;

/** A transport to try first. */
export interface RememberedTransport {
  /** Its name. */
  readonly transport: string;
  /** When it expires, in milliseconds since 1970. */
  readonly untilMs: number;
}

/** Persistent memory of which transport worked. */
export interface TransportMemory {
  /** The entry for a place: an edge and the networks that the agent was in, without spaces. */
  read(place: string): Promise<RememberedTransport | undefined>;
  /** Stores an entry. */
  write(place: string, remembered: RememberedTransport): Promise<void>;
}

/** Options of {@link TransportChoice}. */
interface TransportChoiceOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly dialers: Dialers;
  /** Defaults to "snitun". */
  readonly transport?: TransportSetting;
  readonly transportMemory?: TransportMemory;
  /** Identifies this machine's networks. Defaults to {@link localNetworks}. */
  readonly networks?: () => string;
}

/** Transports to try, in this order, and the place they apply to. */
export interface TransportPlan {
  readonly names: readonly TransportName[];
  readonly place: string;
}

/** How a session over UDP ends when the network stops passing it. */
const STALLED: ReadonlySet<SallyportError["code"]> = new Set(
  ["connection_lost", "deadline_exceeded", "pong_missing", "session_idle", "session_stalled"] as const,
);

/** Orders the transports of one agent. */
export class TransportChoice {
  readonly #options: TransportChoiceOptions;
  /** By place, most recent last; a cache in front of the options' memory. */
  readonly #known = new Map<string, RememberedTransport>();

  #written: Promise<void> = Promise.resolve();

  constructor(options: TransportChoiceOptions) {
    this.#options = options;
  }

  /** The plan for an edge named by the session master. */
  async plan(edge: GrantEdge): Promise<TransportPlan> {
    const { transport = "snitun", networks = localNetworks } = this.#options;
    if (transport !== "auto") return { names: [transport], place: "" };
    // A session master that doesn't list transports is a plain SniTun one.
    const offered = edge.transports ?? ["snitun"];
    const names = TRANSPORTS.filter((name) => offered.includes(name));
    if (names.length === 0) {
      const why = `the edge offers ${offered.join(", ") || "none"}, this agent has ${TRANSPORTS.join(", ")}`;
      throw new SallyportError("not_supported", `Cannot choose a transport: ${why}`, {
        side: "peer",
        retryable: true,
      });
    }
    const place = `${edge.host}:${edge.port}/${networks()}`.replaceAll(/\s/g, "");
    const first = (await this.#read(place))?.transport;
    const rank = (name: TransportName) => Number(name !== first);
    return { names: names.toSorted((a, b) => rank(a) - rank(b)), place };
  }

  /** This transport connected first. */
  won(plan: TransportPlan, name: TransportName): void {
    if (plan.names.length < 2) return;
    this.#inTurn(async () => {
      if ((await this.#read(plan.place))?.transport !== name) await this.#write(plan.place, name);
    });
  }

  /** A session has ended: if it stalled, TCP is tried first from now on. Returns that transport. */
  ended(plan: TransportPlan, name: TransportName, code: SallyportError["code"]): TransportName | undefined {
    const { dialers } = this.#options;
    if (!STALLED.has(code) || !dialers.of(name).overUdp) return undefined;
    const tcp = TRANSPORTS.find((other) => plan.names.includes(other) && !dialers.of(other).overUdp);
    if (tcp !== undefined) this.#inTurn(() => this.#write(plan.place, tcp));
    return tcp;
  }

  /** Resolves when everything learned has been stored. */
  get written(): Promise<void> {
    return this.#written;
  }

  /** Runs tasks one by one: of two that rewrite a whole file concurrently, one would be lost. */
  #inTurn(task: () => Promise<void>): void {
    this.#written = this.#written.then(task);
  }

  async #read(place: string): Promise<RememberedTransport | undefined> {
    const { clock, transportMemory, log } = this.#options;
    const known = this.#known.get(place) ??
      await transportMemory?.read(place).catch((error) => {
        log.warn({ error }, `Cannot look up which transport worked: ${errorMessage(error)}`);
        return undefined;
      });
    return known !== undefined && known.untilMs > clock.wallMs() ? known : undefined;
  }

  async #write(place: string, transport: TransportName): Promise<void> {
    const { clock, transportMemory, log } = this.#options;
    const remembered = { transport, untilMs: clock.wallMs() + TRANSPORT_REMEMBERED_MS };
    this.#known.delete(place);
    this.#known.set(place, remembered);
    const [oldest] = this.#known.keys();
    if (this.#known.size > NETWORKS_REMEMBERED_MAX && oldest !== undefined) this.#known.delete(oldest);
    await transportMemory?.write(place, remembered).catch((error) => {
      log.warn({ error }, `Cannot save which transport worked: ${errorMessage(error)}`);
    });
  }
}
