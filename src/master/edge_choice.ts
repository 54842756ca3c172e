/**
 * Which edges an agent is sent to: those of its region first, then those with fewer sessions, never one that is about to
 * stop or that has not been heard of for a while.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { EdgeOffer, NodeRecord } from "../cluster/directory.ts";
import { parseFingerprint } from "../crypto/certificate.ts";
import { errorMessage } from "../errors.ts";
import type { Clock } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import { EDGES_PER_AGENT_MAX } from "../wire/token/route_group.ts";
import type { EdgeAddress } from "./app.ts";

/** What is known of the edges is asked for again after this. */
export const EDGES_FRESH_MS = 1_000;

/** What {@link EdgeChoice} works with. */
interface EdgeChoiceOptions {
  /** The living nodes of the cluster. */
  nodes(): Promise<readonly NodeRecord[]>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Draws from 0 to 1; `Math.random` when absent. */
  readonly random?: () => number;
}

interface KnownEdge {
  readonly address: EdgeAddress;
  readonly region: string | undefined;
  sessions: number;
  /** Some of its processes take agents. */
  open: boolean;
}

/** See the module. */
export class EdgeChoice {
  readonly #options: EdgeChoiceOptions;
  #edges: readonly KnownEdge[] = [];
  #askedAtMs = -Infinity;
  #asking: Promise<void> | undefined;

  constructor(options: EdgeChoiceOptions) {
    this.#options = options;
  }

  /** Edges for an agent, the best first; none where no node says how agents reach it. */
  async choose(region: string | undefined): Promise<readonly EdgeAddress[]> {
    if (this.#options.clock.nowMs() - this.#askedAtMs > EDGES_FRESH_MS) {
      this.#asking ??= this.#ask().finally(() => this.#asking = undefined);
      await this.#asking;
    }
    const left = this.#edges.filter(({ open }) => open);
    const near = (edge: KnownEdge) => region === undefined || edge.region === region;
    const chosen = [...this.#draw(left.filter(near)), ...this.#draw(left.filter((edge) => !near(edge)))];
    return chosen.slice(0, EDGES_PER_AGENT_MAX).map(({ address }) => address);
  }

  /**
   * Of two drawn at random the one with fewer sessions comes next: all agents that come at once do not go to the one edge
   * that had the fewest.
   */
  #draw(edges: readonly KnownEdge[]): KnownEdge[] {
    const { random = Math.random } = this.#options;
    const left = [...edges];
    const drawn: KnownEdge[] = [];
    while (left.length > 0) {
      const first = Math.floor(random() * left.length);
      const second = Math.floor(random() * left.length);
      const next = left[first]!.sessions <= left[second]!.sessions ? first : second;
      drawn.push(...left.splice(next, 1));
    }
    return drawn;
  }

  /** While the directory is away, agents are sent where they were sent before. */
  async #ask(): Promise<void> {
    const { nodes, clock, log } = this.#options;
    try {
      this.#edges = edgesOf(await nodes());
    } catch (error) {
      log.debug({}, `Cannot ask for the edges, so agents go to those that are known: ${errorMessage(error)}`);
    }
    this.#askedAtMs = clock.nowMs();
  }
}

/** The edges of some nodes: the workers of one machine are one. */
function edgesOf(nodes: readonly NodeRecord[]): KnownEdge[] {
  const edges = new Map<string, KnownEdge>();
  for (const { offer, region, sessions, draining } of nodes) {
    if (offer === undefined) continue;
    const key = `${offer.host}:${offer.port}`;
    const known = edges.get(key);
    if (known === undefined) edges.set(key, { address: addressOf(offer), region, sessions, open: !draining });
    else {
      known.sessions += sessions;
      known.open ||= !draining;
    }
  }
  return [...edges.values()];
}

function addressOf(
  { host, port, publicKey, curvePort, quicPort, certificateFingerprint }: EdgeOffer,
): EdgeAddress {
  const fingerprint = certificateFingerprint === undefined
    ? undefined
    : parseFingerprint(certificateFingerprint);
  return {
    ...{ host, port },
    ...publicKey === undefined ? {} : { publicKey: new Uint8Array(Buffer.from(publicKey, "base64url")) },
    ...curvePort === undefined ? {} : { curvePort },
    ...quicPort === undefined ? {} : { quicPort },
    ...fingerprint === undefined ? {} : { certificateFingerprint: fingerprint },
  };
}
