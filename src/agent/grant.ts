/**
 * Grants: a token and what an agent needs to use it, fetched from the session master.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { z } from "zod";
import type { Bytes } from "../bytes/bytes.ts";
import type { CipherName } from "../crypto/header_cipher.ts";
import { parseFingerprint } from "../crypto/certificate.ts";
import { SallyportError } from "../errors.ts";
import { TOKEN_MAX_BYTES } from "../wire/token/token_payload.ts";
import { checkEdgePlace, type Lookup, systemLookup } from "./edge_place.ts";
import { type MasterAnswer, MasterClient, type MasterCredential } from "./master_client.ts";
import type { Grant, GrantEdge } from "../transport/grant.ts";

/**
 * Gets a fresh grant. Rejects with `credential_refused` where asking again is of no use. `slot` says for which of the
 * sessions that an agent keeps at several edges, from 0.
 */
export type GrantSource = (slot?: number) => Promise<Grant>;

/** What {@link masterGrants} takes. */
export interface MasterGrantOptions {
  /** The session master's base URL, such as `https://master.example.org`. */
  readonly master: string;
  /** The key that the session master knows, or what signs requests ({@link identityCredential}). */
  readonly credential: string | MasterCredential;
  /** The name that the agent serves; for an enrolled agent all names that the session master has for it when absent. */
  readonly hostname?: string;
  /** Further names. */
  readonly aliases?: readonly string[];
  /** SniTun's version. */
  readonly protocolVersion?: 0 | 1 | 2;
  /** The cipher of the session's headers. */
  readonly cipher?: CipherName;
  /** Public ports to ask for: `tcp:2222`, or `tcp` for any one; none when absent. */
  readonly publish?: readonly string[];
  /** The transports that the token may be used with, such as `["sealed"]`; any when absent. */
  readonly transports?: readonly string[];
  /** Names this agent where others serve the same hostname at the same time; it serves alone when absent. */
  readonly shared?: string | undefined;
  /** Where this agent is: the session master sends it to edges of its region first. */
  readonly region?: string | undefined;
  /** At how many edges the agent keeps sessions; 1 when absent. */
  readonly edges?: number;
  /** How long the token is to be good for; the master's choice when absent. */
  readonly ttlSeconds?: number;
  /** Allows `http://` to another machine: who is on the way sees and changes everything. */
  readonly insecure?: boolean;
  /** Takes the edge that the session master names wherever it is; else not one that is nearer than the master itself. */
  readonly anyEdge?: boolean;
  /** For tests and embedders; the platform's own when absent. */
  readonly fetch?: (request: Request) => Promise<Response>;
  /** Finds addresses of names; the system's own when absent, none where `fetch` is given. */
  readonly lookup?: Lookup;
  /** The date by this machine, in milliseconds since 1970; the system's clock when absent. */
  readonly wallMs?: () => number;
}

const hex = (byteLength: number) =>
  z.string().regex(new RegExp(`^[0-9a-f]{${2 * byteLength}}$`, "i"))
    .transform((text): Bytes => Uint8Array.from(text.match(/../g)!, (pair) => parseInt(pair, 16)));

const edgeSchema = z.object({
  host: z.string().min(1),
  port: z.int().min(1).max(65535),
  public_key: z.string().regex(/^[\w-]{43}$/).transform((text) => decodeKey(text)).optional(),
  curve_port: z.int().min(1).max(65535).optional(),
  quic_port: z.int().min(1).max(65535).optional(),
  certificate_fingerprint: z.string().transform((text, context) => {
    const fingerprint = parseFingerprint(text);
    if (fingerprint === undefined) context.addIssue("isn't a SHA-256 fingerprint");
    return fingerprint ?? z.NEVER;
  }).optional(),
  transports: z.array(z.string()).optional(),
});

const answerSchema = z.object({
  // What goes to the edge in clear must be a token and nothing else: the master doesn't choose what we write to whom.
  token: z.string().max(TOKEN_MAX_BYTES).regex(/^gAAAAA[\w-]{90,}={0,2}$/, "isn't a Fernet token"),
  hostname: z.string(),
  alias: z.array(z.string()).default([]),
  aes_key: hex(32),
  aes_iv: hex(16),
  cipher: z.enum(["aes-cbc", "aes-gcm", "aes-gcm-siv"]),
  protocol_version: z.union([z.literal(0), z.literal(1), z.literal(2)]),
  publish: z.array(z.string()).optional(),
  valid: z.number(),
  edge: edgeSchema,
  edges: z.array(edgeSchema).max(16).optional(),
});

/** A public key of 32 bytes from 43 characters of base64url (RFC 4648 §5, without padding). */
function decodeKey(text: string): Bytes {
  return new Uint8Array(Buffer.from(text, "base64url"));
}

/** Grants from a session master: `POST /v1/tokens`, fresh key material each time. */
export function masterGrants(options: MasterGrantOptions): GrantSource {
  const client = new MasterClient({ ...options, what: "Cannot get token" });
  const lookup = options.lookup ?? (options.fetch === undefined ? systemLookup : () => Promise.resolve([]));
  const wallMs = options.wallMs ?? Date.now;
  // The same for all sessions of this run, so that they stand together at several edges.
  const run = randomBytes(12).toString("base64url");
  return async (slot = 0) => {
    const { hostname, aliases, protocolVersion, cipher, publish, transports, shared, ttlSeconds } = options;
    const { region, edges = 1 } = options;
    const session = {
      ...edges > 1 ? { instance: `${run}.${slot}`, edges } : {},
      region,
      protocol_version: protocolVersion,
      cipher,
      transports,
      shared,
      ttl_seconds: ttlSeconds,
    };
    const answer = hostname === undefined
      ? await client.call("POST", "/v1/agent-tokens", session)
      : await client.call("POST", "/v1/tokens", {
        hostname,
        alias: aliases,
        publish: publish?.length === 0 ? undefined : publish,
        ...session,
      });
    if (answer.status !== 201) throw client.refusal(answer);
    const grant = insistOn(options, toGrant(client, answer.body));
    const place = options.anyEdge === true ? grant : await allowedEdges(grant, options.master, lookup);
    return { ...place, ...clockOffset(answer, wallMs()) };
  };
}

/** Leaves out edges that are nearer than the master itself; rejects where none is left. */
async function allowedEdges(grant: Grant, master: string, lookup: Lookup): Promise<Grant> {
  const { hostname } = new URL(master);
  const judged = await Promise.allSettled(
    (grant.edges ?? [grant.edge]).map(async (edge) => {
      await checkEdgePlace(edge.host, hostname, lookup);
      return edge;
    }),
  );
  const allowed = judged.flatMap((one) => one.status === "fulfilled" ? [one.value] : []);
  const [edge] = allowed;
  if (edge === undefined) throw (judged[0] as PromiseRejectedResult).reason;
  return { ...grant, edge, ...grant.edges === undefined ? {} : { edges: allowed } };
}

/** The Date of an answer has whole seconds and was on its way: less than this says nothing about a clock. */
const CLOCK_OFFSET_MIN_MS = 5_000;

/** A board without a battery starts in the past, and learns from its session master what time it is. */
function clockOffset({ headers }: MasterAnswer, wallMs: number): Pick<Grant, "clockOffsetMs"> {
  const offsetMs = Date.parse(headers.get("date") ?? "") - wallMs;
  return Math.abs(offsetMs) >= CLOCK_OFFSET_MIN_MS ? { clockOffsetMs: offsetMs } : {};
}

function toGrant(client: MasterClient, body: unknown): Grant {
  const parsed = answerSchema.safeParse(body);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const member = issue.path.length === 0 ? "body" : issue.path.join(".");
    throw client.unreachable(`its answer can't be used: ${member}: ${issue.message}`);
  }
  const answer = parsed.data;
  return {
    token: answer.token,
    hostname: answer.hostname,
    aliases: answer.alias,
    aesKey: answer.aes_key,
    aesIv: answer.aes_iv,
    cipher: answer.cipher,
    protocolVersion: answer.protocol_version,
    valid: answer.valid,
    ...(answer.publish === undefined ? {} : { publish: answer.publish }),
    edge: edgeOf(answer.edge),
    ...(answer.edges === undefined ? {} : { edges: answer.edges.map(edgeOf) }),
  };
}

function edgeOf(answer: z.output<typeof edgeSchema>): GrantEdge {
  const { host, port, public_key: publicKey, transports, curve_port: curvePort } = answer;
  const { quic_port: quicPort, certificate_fingerprint: certificateFingerprint } = answer;
  return {
    host,
    port,
    ...(publicKey === undefined ? {} : { publicKey }),
    ...(curvePort === undefined ? {} : { curvePort }),
    ...(quicPort === undefined ? {} : { quicPort }),
    ...(certificateFingerprint === undefined ? {} : { certificateFingerprint }),
    ...(transports === undefined ? {} : { transports }),
  };
}

/** What was asked for isn't weakened on the way. */
function insistOn({ cipher, protocolVersion }: MasterGrantOptions, grant: Grant): Grant {
  const wrong = cipher !== undefined && grant.cipher !== cipher
    ? `its cipher is ${grant.cipher}, and ${cipher} was asked for`
    : protocolVersion !== undefined && grant.protocolVersion !== protocolVersion
    ? `its protocol_version is ${grant.protocolVersion}, and ${protocolVersion} was asked for`
    : undefined;
  if (wrong === undefined) return grant;
  throw new SallyportError("token_invalid", `Cannot use token: ${wrong}`, { side: "peer", retryable: true });
}
