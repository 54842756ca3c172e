/**
 * An agent's identity at a session master: a key pair that it generates and enrols with a single-use code. The master
 * keeps the public half; the agent signs each request for a token.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { SallyportError } from "../errors.ts";
import { type AgentKeys, makeAgentKeys, signAgentProof } from "../protocol/token/agent_proof.ts";
import type { Fetch } from "../runtime/port.ts";
import type { JoinLink } from "../wire/token/join_link.ts";
import { MasterClient, type MasterCredential } from "./master_client.ts";

/** An agent's identity. */
export interface AgentIdentity {
  /** The session master's base URL. */
  readonly master: string;
  /** The agent's id there. */
  readonly id: string;
  /** Its names as last reported by the master. */
  readonly hostnames: readonly string[];
  readonly keys: AgentKeys;
  /** Digest of the code that it enrolled with. */
  readonly join: string;
}

/** Storage for an identity. */
export interface IdentityFile {
  /** The storage location, for messages. */
  readonly place: string;
  /** The stored content; undefined if there is none. */
  read(): Promise<string | undefined>;
  write(text: string): Promise<void>;
}

/** Options of {@link enrolAgent} besides the code. */
export interface EnrolOptions {
  readonly file: IdentityFile;
  /** Allows `http://` to another machine. */
  readonly insecure?: boolean;
  /** For tests and embedders. Defaults to the platform's `fetch`. */
  readonly fetch?: Fetch;
}

const identitySchema = z.object({
  master: z.string(),
  id: z.string().optional(),
  hostnames: z.array(z.string()).default([]),
  public_key: z.string().regex(/^[\w-]{43}$/),
  secret_key: z.string().regex(/^[\w-]{43}$/),
  join: z.string(),
});
type Kept = z.infer<typeof identitySchema>;

const enrolledSchema = z.object({ id: z.string().min(1), hostnames: z.array(z.string()) });

/** The stored identity; undefined if there is none, or only one that never completed enrolment. */
export async function readIdentity(file: IdentityFile): Promise<AgentIdentity | undefined> {
  const kept = await readKept(file);
  return kept?.id === undefined ? undefined : toIdentity({ ...kept, id: kept.id });
}

/**
 * Enrols with a code, or returns the identity that was enrolled with the same code before.
 *
 * @throws SallyportError `credential_refused` if the master doesn't accept the code; `master_unreachable`
 */
export async function enrolAgent(link: JoinLink, options: EnrolOptions): Promise<AgentIdentity> {
  const { file } = options;
  const join = createHash("sha256").update(link.code).digest("base64url");
  const before = await readKept(file);
  const same = before?.join === join && before.master === link.master ? before : undefined;
  if (same?.id !== undefined) return toIdentity({ ...same, id: same.id });
  // Generated and stored before the code is used: if the response is lost, the next attempt uses the same key. The
  // previous identity stays in place until the code is accepted.
  const keys = same === undefined
    ? makeAgentKeys()
    : { publicKey: same.public_key, secretKey: same.secret_key };
  const draft: Kept = {
    master: link.master,
    hostnames: [],
    public_key: keys.publicKey,
    secret_key: keys.secretKey,
    join,
  };
  if (before?.id === undefined) await write(file, draft);
  const client = new MasterClient({ ...options, master: link.master, what: "Cannot enrol" });
  const answer = await client.call("POST", "/v1/enrolments", { code: link.code, public_key: keys.publicKey });
  if (answer.status !== 200) throw client.refusal(answer);
  const enrolled = enrolledSchema.safeParse(answer.body);
  if (!enrolled.success) throw client.unreachable("its answer to the join code can't be used");
  const kept = { ...draft, ...enrolled.data };
  await write(file, kept);
  return toIdentity(kept);
}

/** Stores the names that the session master now reports for the agent. */
export async function keepHostnames(
  file: IdentityFile,
  identity: AgentIdentity,
  hostnames: readonly string[],
): Promise<void> {
  const { master, id, keys, join } = identity;
  await write(file, {
    ...{ master, id, join },
    hostnames: [...hostnames],
    public_key: keys.publicKey,
    secret_key: keys.secretKey,
  });
}

/** Authenticates the agent to the session master by signing each request. */
export function identityCredential({ id, keys }: AgentIdentity, wallMs: () => number): MasterCredential {
  // Devices without a real-time clock start in 1970; the master provides the time.
  let offsetMs = 0;
  return {
    authorization: (request) => `Bearer ${signAgentProof(id, keys, request, wallMs() + offsetMs)}`,
    timeIs: (masterMs) => void (offsetMs = masterMs - wallMs()),
  };
}

function toIdentity(kept: Kept & { readonly id: string }): AgentIdentity {
  const { master, id, hostnames, join } = kept;
  return { master, id, hostnames, join, keys: { publicKey: kept.public_key, secretKey: kept.secret_key } };
}

async function readKept(file: IdentityFile): Promise<Kept | undefined> {
  const text = await file.read();
  if (text === undefined) return undefined;
  try {
    return identitySchema.parse(JSON.parse(text));
  } catch (cause) {
    const why = `Cannot use ${file.place}: it holds no agent's identity; delete it and enrol again`;
    throw new SallyportError("config_invalid", why, { side: "config", cause });
  }
}

async function write(file: IdentityFile, kept: Kept): Promise<void> {
  await file.write(`${JSON.stringify(kept, undefined, 2)}\n`);
}
