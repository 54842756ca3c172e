/**
 * A session master with a store, for tests.
 *
 * @module
 */
import assert from "node:assert/strict";
import { FernetRing } from "../../src/crypto/fernet.ts";
import type { MasterOptions } from "../../src/master/app.ts";
import { EdgeHub } from "../../src/master/edge_hub.ts";
import { KeyRing } from "../../src/master/key_ring.ts";
import { Management } from "../../src/master/management.ts";
import { openStore } from "../../src/master/store/sql_store.ts";
import type { Store } from "../../src/master/store/store.ts";
import { type AgentKeys, makeAgentKeys, signAgentProof } from "../../src/protocol/token/agent_proof.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { ADMIN_KEY, FERNET_KEY, handClock, testMaster, WALL_MS } from "./helpers.ts";

/** An answer: its status, headers, and body as JSON where it is one. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // deno-lint-ignore no-explicit-any -- tests look at members that a schema has judged
  readonly body: any;
}

/** A master with a store, in memory unless another is given; close it. */
export async function managedMaster(options: Partial<MasterOptions> = {}, given?: Store) {
  const { clock: still } = handClock();
  const time = { ms: WALL_MS };
  const clock = { ...still, wallMs: () => time.ms };
  const store = given ?? await openStore(":memory:");
  const ring = new FernetRing([FERNET_KEY]);
  const keys = new KeyRing(ring, [FERNET_KEY]);
  const hub = new EdgeHub({ store, keys, clock, log: silentLogger });
  await hub.start();
  const management = new Management({ store, hub, keys, clock });
  const master = testMaster({ ring, clock, management, ...options });
  const call = async (
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> => {
    const answer = await master.request(path, {
      method,
      headers: {
        Authorization: `Bearer ${ADMIN_KEY}`,
        ...body === undefined ? {} : { "Content-Type": "application/json" },
        ...headers,
      },
      ...body === undefined ? {} : { body: JSON.stringify(body) },
    });
    const text = await answer.text();
    const isJson = /json/.test(answer.headers.get("content-type") ?? "");
    return { status: answer.status, headers: answer.headers, body: isJson ? JSON.parse(text) : text };
  };
  return {
    ...master,
    ring,
    store,
    hub,
    keys,
    management,
    time,
    call,
    /** A call that must be answered with this status. */
    async must(status: number, ...args: Parameters<typeof call>): Promise<Answer> {
      const answer = await call(...args);
      assert.equal(answer.status, status, `${args[0]} ${args[1]}: ${JSON.stringify(answer.body)}`);
      return answer;
    },
    async close() {
      hub.close();
      await store.close();
    },
  };
}

/** A master with a store. */
export type ManagedMaster = Awaited<ReturnType<typeof managedMaster>>;

/** Adds an agent and enrols it; gives its id, and what signs its requests. */
export async function enrolledAgent(master: ManagedMaster, name: string, more: Record<string, unknown> = {}) {
  const wanted = { name, hostnames: [`${name}.example.org`], ...more };
  const { body } = await master.must(201, "POST", "/v1/agents", wanted);
  const keys: AgentKeys = makeAgentKeys();
  await master.must(200, "POST", "/v1/enrolments", { code: body.join_code, public_key: keys.publicKey });
  return {
    id: body.id as string,
    keys,
    join: body.join_code as string,
    proof: (path = "/v1/agent-tokens", method = "POST") =>
      signAgentProof(body.id, keys, { method, path }, master.time.ms),
    token: (options: Record<string, unknown> = {}) =>
      master.call("POST", "/v1/agent-tokens", options, {
        Authorization: `Bearer ${
          signAgentProof(body.id, keys, { method: "POST", path: "/v1/agent-tokens" }, master.time.ms)
        }`,
      }),
  };
}
