/**
 * An agent's own identity at a session master: a key pair that it makes itself and enrols with a single-use code. The
 * master keeps the public half; the agent signs each request for a token.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { SallyportError } from "../errors.ts";
import { type AgentKeys, makeAgentKeys, signAgentProof } from "../protocol/token/agent_proof.ts";
import type { JoinLink } from "../wire/token/join_link.ts";
import { MasterClient, type MasterCredential } from "./master_client.ts";

/** Who an agent is. */
export interface AgentIdentity {
  /** The session master's base URL. */
  readonly master: string;
  /** The agent's id there. */
  readonly id: string;
  /** Its names when it last heard of them. */
  readonly hostnames: readonly string[];
  readonly keys: AgentKeys;
  /** The digest of the code that it enrolled with. */
  readonly join: string;
}

/** Where an identity is kept. */
export interface IdentityFile {
  /** Where that is, for messages. */
  readonly place: string;
  /** What is kept; undefined where nothing is. */
  read(): Promise<string | undefined>;
  write(text: string): Promise<void>;
}

/** What {@link enrolAgent} takes besides the code. */
export interface EnrolOptions {
  readonly file: IdentityFile;
  /** Allows `http://` to another machine. */
  readonly insecure?: boolean;
  /** For tests and embedders; the platform's own when absent. */
  readonly fetch?: (request: Request) => Promise<Response>;
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

/** The identity that is kept; undefined where none is, or only one that never got as far as enrolling. */
export async function readIdentity(file: IdentityFile): Promise<AgentIdentity | undefined> {
  const kept = await readKept(file);
  return kept?.id === undefined ? undefined : toIdentity({ ...kept, id: kept.id });
}

/**
 * Enrols with a code, or gives the identity that the same code has led to before.
 *
 * @throws SallyportError `credential_refused` where the master doesn't take the code; `master_unreachable`
 */
export async function enrolAgent(link: JoinLink, options: EnrolOptions): Promise<AgentIdentity> {
  const { file } = options;
  const join = createHash("sha256").update(link.code).digest("base64url");
  const before = await readKept(file);
  const same = before?.join === join && before.master === link.master ? before : undefined;
  if (same?.id !== undefined) return toIdentity({ ...same, id: same.id });
  // Made before the code is used, and kept: where the answer is lost, the next attempt comes with the same key. What the
  // agent was before stays in its place until the code is taken.
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

/** Keeps the names that the session master says the agent has now. */
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

/** Shows the session master who the agent is, by a signature for each request. */
export function identityCredential({ id, keys }: AgentIdentity, wallMs: () => number): MasterCredential {
  // Boxes without a clock of their own start in 1970; the master says what time it is.
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
