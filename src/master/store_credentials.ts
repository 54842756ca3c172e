/**
 * Credentials in the store: API keys, and enrolled agents, which sign their requests.
 *
 * @module
 */
import { proofAgent, verifyAgentProof } from "../protocol/token/agent_proof.ts";
import type { Clock } from "../runtime/port.ts";
import { allowsPort, coversAny, type Credential, type Credentials } from "./credentials.ts";
import { secretDigest } from "./management.ts";
import { type Agent, ALL_TENANTS } from "./model.ts";
import { Problem } from "./problem.ts";
import type { Store } from "./store/store.ts";

/** API keys, by digest. */
export function apiKeyCredentials(store: Store, clock: Clock): Credentials {
  return {
    async find(bearer): Promise<Credential | undefined> {
      if (!bearer.startsWith("sallyport_key_")) return undefined;
      const key = await store.apiKeyByDigest(secretDigest(bearer));
      if (key === undefined || (key.expiresAtMs ?? Infinity) < clock.wallMs()) return undefined;
      const { id, scopes, tenant, hostnames, publish, expiresAtMs } = key;
      const issues = scopes.includes("issue");
      return {
        id,
        scopes,
        ...tenant === ALL_TENANTS ? {} : { tenant },
        ...expiresAtMs === undefined ? {} : { expiresAtMs },
        mayServe: (hostname) => issues && coversAny(hostnames, hostname),
        mayPublish: (port) => issues && allowsPort(publish, port),
      };
    },
  };
}

/** Enrolled agents, by signature; each signed request is valid once. */
export function agentCredentials(store: Store, clock: Clock): Credentials {
  return {
    async find(bearer, use): Promise<Credential | undefined> {
      const id = proofAgent(bearer);
      if (id === undefined) return undefined;
      const agent = await store.agent(id);
      if (agent?.publicKey === undefined) return undefined;
      const nowMs = clock.wallMs();
      const verdict = await verifyAgentProof(bearer, agent.publicKey, use, nowMs);
      if ("fault" in verdict) return verdict.fault === "time" ? refuseTime(nowMs) : undefined;
      // Checked after the signature: a stranger can't use up an agent's nonces.
      if (!await store.useNonce(`${id}/${verdict.nonce}`, verdict.expiresAtMs)) return undefined;
      return agentCredential(agent);
    },
  };
}

/** The permissions of an enrolled agent: tokens for its names. */
function agentCredential(agent: Agent): Credential {
  return {
    id: agent.id,
    tenant: agent.tenant,
    agent,
    ...agent.expiresAtMs === undefined ? {} : { expiresAtMs: agent.expiresAtMs },
    mayServe: (hostname) => coversAny(agent.hostnames, hostname),
    mayPublish: (port) => allowsPort(agent.publish, port),
  };
}

/** The signature is valid, but the agent's clock is wrong. It is told the time and tries again. */
function refuseTime(nowMs: number): never {
  throw new Problem(401, "Cannot authenticate: Authorization is signed for another time", {
    errors: [{
      member: "Authorization",
      detail: "is signed for another time; see Date for the present one",
    }],
    headers: {
      "WWW-Authenticate": 'Bearer realm="sallyport", error="invalid_token"',
      Date: new Date(nowMs).toUTCString(),
    },
  });
}
