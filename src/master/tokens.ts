/**
 * Tokens: the names and ports a credential may get one for, and the token's claims about its agent.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { monthOf } from "../calendar.ts";
import { fingerprintText } from "../crypto/certificate.ts";
import type { FernetRing } from "../crypto/fernet.ts";
import { createToken } from "../protocol/token/token.ts";
import type { Clock } from "../runtime/port.ts";
import { type AgentClaim, agentMembers } from "../wire/token/agent_claim.ts";
import { PUBLISH_MEMBER, SHARED_MEMBER, TRANSPORTS_MEMBER } from "../wire/token/claims.ts";
import { EDGES_PER_AGENT_MAX, INSTANCE_MEMBER } from "../wire/token/route_group.ts";
import { isWildcard } from "../wire/wildcard.ts";
import { TOKEN_MAX_BYTES } from "../wire/token/token_payload.ts";
import type { EdgeAddress } from "./app.ts";
import type { Credential } from "./credentials.ts";
import { type Agent, ALL_TENANTS, inactiveFault } from "./model.ts";
import { bodyFault, type Fault, Problem, unprocessable } from "./problem.ts";
import type { TokenRequest, TokenResponse } from "./schemas.ts";
import { ownerOf, type Store } from "./store/store.ts";

/** The prefix of every refusal's detail. */
export const CANNOT_ISSUE = "Cannot issue token";

/** Dependencies of {@link TokenIssuer}. */
interface TokenIssuerOptions {
  readonly ring: FernetRing;
  readonly edgeAddress: EdgeAddress | (() => EdgeAddress);
  readonly edges?: (region: string | undefined) => Promise<readonly EdgeAddress[]>;
  readonly clock: Clock;
  /** The agents; without a store there are none. */
  readonly store?: Store;
}

/** Issues tokens to authenticated callers. Throws {@link Problem}s. */
export class TokenIssuer {
  readonly #options: TokenIssuerOptions;

  constructor(options: TokenIssuerOptions) {
    this.#options = options;
  }

  /** Creates a token with fresh key material for a client's request. */
  async issue(credential: Credential, request: TokenRequest): Promise<TokenResponse> {
    this.#checkRights(credential, request);
    const agent = await this.#agentOf(credential, request);
    if (agent !== undefined) this.#checkAgent(agent);
    return await this.#make(credential, request, agent);
  }

  /** Creates a token for all names and ports of the credential's agent. */
  async issueOwn(
    credential: Credential,
    options: Omit<TokenRequest, "hostname" | "alias" | "publish">,
  ): Promise<TokenResponse> {
    const { agent } = credential;
    if (agent === undefined) {
      throw new Problem(
        403,
        `${CANNOT_ISSUE}: Authorization isn't an agent's signature; POST /v1/tokens takes other keys`,
        {
          errors: [{ member: "Authorization", detail: "isn't an agent's signature" }],
        },
      );
    }
    this.#checkAgent(agent);
    // A token's hostname owns its names: one that isn't a wildcard, if there is one.
    const [hostname, ...alias] = agent.hostnames.toSorted((a, b) =>
      Number(isWildcard(a)) - Number(isWildcard(b))
    );
    if (hostname === undefined) {
      throw new Problem(
        403,
        `${CANNOT_ISSUE}: ${agent.name} has only wildcards; POST /v1/tokens takes a hostname`,
      );
    }
    const request = { ...options, hostname, alias, publish: [...agent.publish] };
    return await this.#make(credential, request, agent);
  }

  #checkRights(credential: Credential, request: TokenRequest): void {
    const names = [request.hostname, ...request.alias];
    const refused = names.flatMap((name, index) =>
      credential.mayServe(name) ? [] : [
        bodyFault(
          index === 0 ? ["hostname"] : ["alias", index - 1],
          `"${name}" is not a name that this key may serve`,
        ),
      ]
    );
    for (const [index, port] of request.publish.entries()) {
      if (credential.mayPublish?.(port) === true) continue;
      refused.push(bodyFault(["publish", index], "is not a public port that this key may have"));
    }
    refuse(refused);
  }

  /**
   * The agent that a token is for: the credential's own, or the owner of the hostname. Names of another agent or tenant
   * are refused, unless a credential for all tenants requests the names of a single agent.
   */
  async #agentOf(credential: Credential, request: TokenRequest): Promise<Agent | undefined> {
    const { store } = this.#options;
    if (store === undefined) return credential.agent;
    const { agent } = credential;
    const names = [request.hostname, ...request.alias];
    const refused: Fault[] = [];
    const owners: string[] = [];
    for (const [index, name] of names.entries()) {
      if (agent?.hostnames.includes(name)) continue;
      const held = await store.hostnameOwner(name);
      if (held === undefined) continue;
      const where = index === 0 ? ["hostname"] : ["alias", index - 1];
      const foreign = agent !== undefined
        ? held.owner !== ownerOf(agent)
        : (credential.tenant ?? ALL_TENANTS) !== ALL_TENANTS && held.tenant !== credential.tenant;
      if (foreign || (owners.length > 0 && !owners.includes(held.owner))) {
        refused.push(bodyFault(where, "belongs to another agent"));
      } else owners.push(held.owner);
    }
    refuse(refused);
    if (agent !== undefined) return agent;
    const id = /^agent:(.+)$/.exec(owners[0] ?? "")?.[1];
    return id === undefined ? undefined : await store.agent(id);
  }

  #checkAgent(agent: Agent): void {
    const why = inactiveFault(agent, this.#options.clock.wallMs());
    if (why !== undefined) throw new Problem(403, `${CANNOT_ISSUE}: agent ${agent.name} ${why}`);
  }

  async #claim(credential: Credential, agent: Agent | undefined): Promise<AgentClaim | undefined> {
    if (agent === undefined) {
      const { claim } = credential;
      return claim && { generation: 0, limits: {}, agentNetworks: [], visitorNetworks: [], ...claim };
    }
    const { id, tenant, generation, limits, agentNetworks, visitorNetworks } = agent;
    const { store, clock } = this.#options;
    const month = monthOf(clock.wallMs());
    const used = limits.monthly_bytes === undefined ? undefined : await store?.monthUsed([id], month);
    return {
      ...{ id, tenant, generation, limits, agentNetworks, visitorNetworks },
      ...used === undefined ? {} : { month: { month, bytes: used.get(id) ?? 0 } },
    };
  }

  async #make(
    credential: Credential,
    request: TokenRequest,
    agent: Agent | undefined,
  ): Promise<TokenResponse> {
    const claim = await this.#claim(credential, agent);
    const { ring, clock } = this.#options;
    const { hostname } = request;
    const nowMs = clock.wallMs();
    const untilMs = Math.min(agent?.expiresAtMs ?? Infinity, credential.expiresAtMs ?? Infinity);
    const ttlSeconds = Math.max(1, Math.min(request.ttl_seconds, Math.floor((untilMs - nowMs) / 1000)));
    const { token, claims } = createToken(ring, {
      hostname,
      aliases: [...new Set(request.alias)].filter((name) => name !== hostname),
      protocolVersion: request.protocol_version,
      cipher: request.cipher,
      ttlSeconds,
      extra: {
        ...request.publish.length > 0 ? { [PUBLISH_MEMBER]: request.publish } : {},
        ...request.shared === undefined ? {} : { [SHARED_MEMBER]: request.shared },
        ...request.transports === undefined ? {} : { [TRANSPORTS_MEMBER]: request.transports },
        ...request.instance === undefined
          ? {}
          : { [INSTANCE_MEMBER]: `${request.instance}/${request.edges ?? EDGES_PER_AGENT_MAX}` },
        ...claim === undefined ? {} : agentMembers(shareOf(claim, request)),
      },
      nowMs,
    });
    if (token.length > TOKEN_MAX_BYTES) {
      const detail = `makes a token of ${token.length} bytes; edges accept at most ${TOKEN_MAX_BYTES}`;
      throw unprocessable(CANNOT_ISSUE, [bodyFault(["alias"], detail)]);
    }
    const { edgeAddress } = this.#options;
    const chosen = await this.#options.edges?.(request.region) ?? [];
    const [edge, ...others] = chosen.length > 0
      ? chosen
      : [typeof edgeAddress === "function" ? edgeAddress() : edgeAddress];
    return {
      token,
      hostname: claims.hostname,
      alias: [...claims.aliases],
      aes_key: claims.aesKey.toHex(),
      aes_iv: claims.aesIv.toHex(),
      cipher: claims.cipher,
      protocol_version: request.protocol_version,
      publish: request.publish,
      valid: claims.valid,
      edge: answerOf(edge!),
      ...others.length === 0 ? {} : { edges: [edge!, ...others].map(answerOf) },
    };
  }
}

/** The limits of one session: the agent's limits at an edge, divided by the number of edges where it has a session. */
function shareOf(claim: AgentClaim, { instance, edges }: TokenRequest): AgentClaim {
  if (instance === undefined) return claim;
  const { limits } = claim;
  const share = Object.fromEntries(
    LIMITS_PER_EDGE.flatMap((name) =>
      limits[name] === undefined ? [] : [[name, Math.ceil(limits[name] / (edges ?? EDGES_PER_AGENT_MAX))]]
    ),
  );
  return { ...claim, limits: { ...limits, ...share } };
}

/** Limits counted separately by each edge. */
const LIMITS_PER_EDGE = [
  "streams",
  "visitors_per_second",
  "bytes_per_second_to_agent",
  "bytes_per_second_to_visitor",
] as const;

/** An edge, in the response. */
function answerOf(edge: EdgeAddress): TokenResponse["edge"] {
  return { host: edge.host, port: edge.port, ...offerOf(edge) };
}

function refuse(faults: readonly Fault[]): void {
  const [first] = faults;
  if (first === undefined) return;
  throw new Problem(403, `${CANNOT_ISSUE}: ${first.member} ${first.detail}`, { errors: faults });
}

/** The edge's transports besides SniTun, and the keys that identify it. */
function offerOf({ publicKey, curvePort, quicPort, certificateFingerprint }: EdgeAddress) {
  const keyed = publicKey !== undefined;
  const curve = keyed && curvePort !== undefined;
  const quic = quicPort !== undefined && certificateFingerprint !== undefined;
  if (!keyed && !quic) return {};
  return {
    ...keyed ? { public_key: Buffer.from(publicKey).toString("base64url") } : {},
    ...curve ? { curve_port: curvePort } : {},
    ...quic ? { quic_port: quicPort, certificate_fingerprint: fingerprintText(certificateFingerprint) } : {},
    transports: ["snitun", ...keyed ? ["sealed"] : [], ...curve ? ["curve"] : [], ...quic ? ["quic"] : []],
  };
}
