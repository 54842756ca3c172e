/**
 * Chooses the edges for an agent: first those of its region, then those with fewer sessions, never one that is about to
 * stop or has not reported for a while.
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

/** The session master refreshes its view of a cluster's edges after this. */
export const EDGES_FRESH_MS = 1_000;

/** Dependencies of {@link EdgeChoice}. */
interface EdgeChoiceOptions {
  /** The live nodes of the cluster. */
  nodes(): Promise<readonly NodeRecord[]>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Random numbers from 0 to 1. Defaults to `Math.random`. */
  readonly random?: () => number;
}

interface KnownEdge {
  readonly address: EdgeAddress;
  readonly region: string | undefined;
  sessions: number;
  /** Whether any of its processes accepts agents. */
  open: boolean;
}

/** Chooses edges from the latest records of the cluster. */
export class EdgeChoice {
  readonly #options: EdgeChoiceOptions;
  #edges: readonly KnownEdge[] = [];
  #askedAtMs = -Infinity;
  #asking: Promise<void> | undefined;

  constructor(options: EdgeChoiceOptions) {
    this.#options = options;
  }

  /** Edges for an agent, best first; none if no node says how agents reach it. */
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
   * Of two edges drawn at random the one with fewer sessions comes first: agents that arrive together do not all go to
   * the edge with the fewest.
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

  /** While the directory is unavailable, agents are sent to the same edges as before. */
  async #ask(): Promise<void> {
    const { nodes, clock, log } = this.#options;
    try {
      this.#edges = edgesOf(await nodes());
    } catch (error) {
      log.debug(
        {},
        `Cannot look up the edges; agents are sent to those already known: ${errorMessage(error)}`,
      );
    }
    this.#askedAtMs = clock.nowMs();
  }
}

/** The edges of the given nodes: the workers of one machine count as one. */
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
