/**
 * Grants: a token and the data needed to use it, fetched from the session master.
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
import { judgeEdgePlace, type Lookup, systemLookup } from "./edge_place.ts";
import { type MasterAnswer, MasterClient, type MasterCredential } from "./master_client.ts";
import type { Fetch } from "../runtime/port.ts";
import type { Tracer } from "../telemetry/tracing.ts";
import type { Grant, GrantEdge } from "../transport/grant.ts";

/**
 * Gets a fresh grant. Rejects with `credential_refused` if retrying is pointless. `slot` is the index, from 0, of the
 * session among those that an agent keeps at several edges.
 */
export type GrantSource = (slot?: number) => Promise<Grant>;

/** Options of {@link masterGrants}. */
export interface MasterGrantOptions {
  /** The session master's base URL, such as `https://master.example.org`. */
  readonly master: string;
  /** The key known to the session master, or a signer of requests ({@link identityCredential}). */
  readonly credential: string | MasterCredential;
  /**
   * The hostname that the agent serves. For an enrolled agent it defaults to all names that the session master has for
   * it.
   */
  readonly hostname?: string;
  /** Additional hostnames. */
  readonly aliases?: readonly string[];
  /** SniTun's version. */
  readonly protocolVersion?: 0 | 1 | 2;
  /** The cipher of the session's headers. */
  readonly cipher?: CipherName;
  /** Public ports to request: `tcp:2222`, or `tcp` for any. Defaults to none. */
  readonly publish?: readonly string[];
  /** The transports that the token may be used with, such as `["sealed"]`. Defaults to any. */
  readonly transports?: readonly string[];
  /** Identifies this agent among several that serve the same hostname at the same time. Absent: it serves alone. */
  readonly shared?: string | undefined;
  /** This agent's region: the session master prefers edges in it. */
  readonly region?: string | undefined;
  /** Number of edges at which the agent keeps sessions. Defaults to 1. */
  readonly edges?: number;
  /** Requested lifetime of the token. Defaults to the master's choice. */
  readonly ttlSeconds?: number;
  /** Allows `http://` to another machine: anyone on the path can read and modify everything. */
  readonly insecure?: boolean;
  /** Accepts any edge that the session master names. Otherwise an edge nearer than the master itself is refused. */
  readonly anyEdge?: boolean;
  /** For tests and embedders. Defaults to the platform's `fetch`. */
  readonly fetch?: Fetch;
  /** Tracer for requests. Defaults to no tracing. */
  readonly tracer?: Tracer;
  /** Name resolver. Defaults to the system's, or to none if `fetch` is given. */
  readonly lookup?: Lookup;
  /** The current time in milliseconds since 1970. Defaults to the system clock. */
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
  // What is sent to the edge in clear must be a token and nothing else, so that the master can't choose what we write
  // to whom.
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
  const lookup = options.lookup ?? (options.fetch === undefined ? systemLookup : undefined);
  const wallMs = options.wallMs ?? Date.now;
  // The same for all sessions of this run, so that they can coexist at several edges.
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

/** Removes edges that are nearer than the master itself; rejects if none is left. */
async function allowedEdges(grant: Grant, master: string, lookup: Lookup | undefined): Promise<Grant> {
  const { hostname } = new URL(master);
  const judged = await Promise.allSettled(
    (grant.edges ?? [grant.edge]).map(async (edge) => {
      const permits = await judgeEdgePlace(edge.host, hostname, lookup);
      return permits === undefined ? edge : { ...edge, permits };
    }),
  );
  const allowed = judged.flatMap((one) => one.status === "fulfilled" ? [one.value] : []);
  const [edge] = allowed;
  if (edge === undefined) throw (judged[0] as PromiseRejectedResult).reason;
  return { ...grant, edge, ...grant.edges === undefined ? {} : { edges: allowed } };
}

/**
 * The Date header of a response has whole seconds and is delayed in transit: a smaller difference says nothing about a
 * clock.
 */
const CLOCK_OFFSET_MIN_MS = 5_000;

/** A board without a battery-backed clock starts in the past, and learns the time from its session master. */
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

/** Rejects a grant weaker than what was requested. */
function insistOn({ cipher, protocolVersion }: MasterGrantOptions, grant: Grant): Grant {
  const wrong = cipher !== undefined && grant.cipher !== cipher
    ? `its cipher is ${grant.cipher}, but ${cipher} was requested`
    : protocolVersion !== undefined && grant.protocolVersion !== protocolVersion
    ? `its protocol_version is ${grant.protocolVersion}, but ${protocolVersion} was requested`
    : undefined;
  if (wrong === undefined) return grant;
  throw new SallyportError("token_invalid", `Cannot use token: ${wrong}`, { side: "peer", retryable: true });
}
