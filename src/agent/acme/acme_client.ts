/**
 * An ACME client (RFC 8555, RFC 9773 for renewal information): the subset that an agent needs, with JWS by jose.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { calculateJwkThumbprint, FlattenedSign, importJWK, type JWK } from "jose";
import { z } from "zod";
import { SallyportError } from "../../errors.ts";
import type { AuthorityAnswer, AuthorityFetch } from "./https_client.ts";

/** Attempts for a request whose nonce is refused. */
const NONCE_ATTEMPTS = 10;

/**
 * External account binding: a key id and MAC key that link a new account to an authority's customer (RFC 8555 §7.3.4).
 */
export interface ExternalAccount {
  readonly keyId: string;
  /** base64url. */
  readonly macKey: string;
}

/** An account with an authority. */
export interface AcmeAccount {
  /** A private P-256 key. */
  readonly key: JWK;
  /** Its URL at the authority; undefined before registration. */
  readonly url?: string;
}

/** Options of an {@link AcmeClient}. */
interface AcmeClientOptions {
  /** The authority's directory. */
  readonly directoryUrl: string;
  readonly fetch: AuthorityFetch;
  readonly account: AcmeAccount;
}

const directorySchema = z.object({
  newNonce: z.string(),
  newAccount: z.string(),
  newOrder: z.string(),
  renewalInfo: z.string().optional(),
  meta: z.object({
    termsOfService: z.string().optional(),
    externalAccountRequired: z.boolean().optional(),
  }).optional(),
});
/** An authority's directory. */
type AcmeDirectory = z.output<typeof directorySchema>;

const problemSchema = z.object({
  type: z.string().optional(),
  detail: z.string().optional(),
  subproblems: z.array(
    z.object({ detail: z.string().optional(), identifier: z.object({ value: z.string() }).optional() }),
  ).optional(),
});

const orderSchema = z.object({
  status: z.enum(["pending", "ready", "processing", "valid", "invalid"]),
  authorizations: z.array(z.string()),
  finalize: z.string(),
  certificate: z.string().optional(),
  error: problemSchema.optional(),
});
/** An order for a certificate. */
type AcmeOrder = z.output<typeof orderSchema> & { readonly url: string };

const challengeSchema = z.object({
  type: z.string(),
  url: z.string(),
  token: z.string().optional(),
  status: z.string(),
  error: problemSchema.optional(),
});
const authorizationSchema = z.object({
  status: z.enum(["pending", "valid", "invalid", "deactivated", "expired", "revoked"]),
  identifier: z.object({ value: z.string() }),
  wildcard: z.boolean().optional(),
  challenges: z.array(challengeSchema),
});
/** An authorization: a name whose control must be proved, and the available challenges. */
export type AcmeAuthorization = z.output<typeof authorizationSchema> & { readonly url: string };
/** One challenge of an authorization. */
type AcmeChallenge = z.output<typeof challengeSchema>;

const renewalSchema = z.object({
  suggestedWindow: z.object({ start: z.string(), end: z.string() }),
  explanationURL: z.string().optional(),
});

/** When an authority wants a certificate renewed. */
interface RenewalWindow {
  readonly startMs: number;
  readonly endMs: number;
  readonly explanationUrl?: string;
  /** How long to wait before asking again; undefined if not given. */
  readonly retryAfterMs?: number;
}

/** An authority's refusal. */
export class AcmeProblem extends SallyportError {
  /** The last part of the problem's type, such as `rateLimited`. */
  readonly kind: string;

  constructor(kind: string, message: string, retryAfterMs: number | undefined) {
    const lasting = [
      "unsupportedIdentifier",
      "rejectedIdentifier",
      "caa",
      "externalAccountRequired",
      "userActionRequired",
    ];
    super("certificate_unavailable", message, {
      side: "config",
      retryable: !lasting.includes(kind),
      retryAfterMs,
    });
    this.kind = kind;
  }
}

/** A client of one authority with one account. */
export class AcmeClient {
  readonly #options: AcmeClientOptions;
  #account: AcmeAccount;
  #directory: Promise<AcmeDirectory> | undefined;
  #nonces: string[] = [];

  constructor(options: AcmeClientOptions) {
    this.#options = options;
    this.#account = options.account;
  }

  /** The authority's directory; fetched once, and again after a failure. */
  async directory(signal?: AbortSignal): Promise<AcmeDirectory> {
    this.#directory ??= this.#options.fetch({ method: "GET", url: this.#options.directoryUrl, signal })
      .then((answer) => {
        if (answer.status !== 200) throw this.#problem(answer, "read its directory");
        return this.#parse(directorySchema, answer, "its directory");
      });
    try {
      return await this.#directory;
    } catch (error) {
      this.#directory = undefined;
      throw error;
    }
  }

  /** Registers the account, or finds it. Agrees to the authority's terms. */
  async register(
    options: {
      readonly mails?: readonly string[];
      readonly external?: ExternalAccount;
      readonly signal?: AbortSignal;
    },
  ): Promise<AcmeAccount> {
    const { mails = [], external, signal } = options;
    const { newAccount, meta } = await this.directory(signal);
    if (meta?.externalAccountRequired === true && external === undefined) {
      const why =
        `${this.#origin} opens accounts only for its customers; set --acme-eab-kid and --acme-eab-key`;
      throw new AcmeProblem("externalAccountRequired", `Cannot register ACME account: ${why}`, undefined);
    }
    const answer = await this.#post(newAccount, {
      termsOfServiceAgreed: true,
      contact: mails.map((mail) => `mailto:${mail}`),
      ...external === undefined ? {} : { externalAccountBinding: await this.#bind(newAccount, external) },
    }, { asNew: true, signal });
    if (answer.status !== 200 && answer.status !== 201) throw this.#problem(answer, "register ACME account");
    const url = answer.headers["location"];
    if (url === undefined) throw this.#odd("its new account has no URL");
    this.#account = { ...this.#account, url };
    return this.#account;
  }

  /** Orders a certificate. `replaces` identifies the certificate being replaced ({@link certificateId}). */
  async order(names: readonly string[], replaces?: string, signal?: AbortSignal): Promise<AcmeOrder> {
    const { newOrder, renewalInfo } = await this.directory(signal);
    const identifiers = names.map((value) => ({ type: "dns", value }));
    const send = (also: object) => this.#post(newOrder, { identifiers, ...also }, { signal });
    let answer = await send(replaces === undefined || renewalInfo === undefined ? {} : { replaces });
    // RFC 9773 §5: if the certificate has already been replaced or is unknown to the authority, order without
    // `replaces`.
    if (answer.status !== 201 && replaces !== undefined && answer.status < 500 && answer.status !== 429) {
      answer = await send({});
    }
    if (answer.status !== 201) throw this.#problem(answer, `order certificate for ${names.join(", ")}`);
    return this.#order(answer, answer.headers["location"]);
  }

  /** An order's status, and when to ask again. */
  async orderAt(
    url: string,
    signal?: AbortSignal,
  ): Promise<{ order: AcmeOrder; retryAfterMs: number | undefined }> {
    const answer = await this.#post(url, undefined, { signal });
    if (answer.status !== 200) throw this.#problem(answer, "read order");
    return { order: this.#order(answer, url), retryAfterMs: retryAfterMs(answer) };
  }

  /** An authorization's status. */
  async authorizationAt(url: string, signal?: AbortSignal): Promise<
    { authorization: AcmeAuthorization; retryAfterMs: number | undefined }
  > {
    const answer = await this.#post(url, undefined, { signal });
    if (answer.status !== 200) throw this.#problem(answer, "read authorization");
    const authorization = { ...this.#parse(authorizationSchema, answer, "its authorization"), url };
    return { authorization, retryAfterMs: retryAfterMs(answer) };
  }

  /** `TOKEN.THUMBPRINT` (RFC 8555 §8.1). */
  async keyAuthorization({ token = "" }: AcmeChallenge): Promise<string> {
    const { kty, crv, x, y } = this.#account.key;
    return `${token}.${await calculateJwkThumbprint({ kty, crv, x, y } as JWK)}`;
  }

  /** Tells the authority that the challenge is ready for validation. */
  async answerChallenge({ url }: AcmeChallenge, signal?: AbortSignal): Promise<void> {
    const answer = await this.#post(url, {}, { signal });
    if (answer.status !== 200 && answer.status !== 202) throw this.#problem(answer, "answer challenge");
  }

  /** Submits the certificate request (DER). */
  async finalize(order: AcmeOrder, csr: Uint8Array, signal?: AbortSignal): Promise<AcmeOrder> {
    const answer = await this.#post(order.finalize, { csr: Buffer.from(csr).toString("base64url") }, {
      signal,
    });
    if (answer.status !== 200) throw this.#problem(answer, "finalize order");
    return this.#order(answer, order.url);
  }

  /** The chain as PEM text. */
  async certificate(url: string, signal?: AbortSignal): Promise<string> {
    const answer = await this.#post(url, undefined, { signal, accept: "application/pem-certificate-chain" });
    if (answer.status !== 200) throw this.#problem(answer, "fetch certificate");
    return answer.text;
  }

  /** When the authority wants a certificate renewed; undefined if it gives no time. */
  async renewalWindow(id: string, signal?: AbortSignal): Promise<RenewalWindow | undefined> {
    const { renewalInfo } = await this.directory(signal);
    if (renewalInfo === undefined) return undefined;
    const url = `${renewalInfo.replace(/\/$/, "")}/${id}`;
    const answer = await this.#options.fetch({ method: "GET", url, signal });
    if (answer.status !== 200) throw this.#problem(answer, "read renewal information");
    const { suggestedWindow, explanationURL } = this.#parse(renewalSchema, answer, "its renewal information");
    const [startMs, endMs] = [Date.parse(suggestedWindow.start), Date.parse(suggestedWindow.end)];
    if (!(startMs < endMs)) throw this.#odd("its renewal window ends before it begins");
    return {
      startMs,
      endMs,
      ...explanationURL === undefined ? {} : { explanationUrl: explanationURL },
      retryAfterMs: retryAfterMs(answer),
    };
  }

  get #origin(): string {
    return new URL(this.#options.directoryUrl).host;
  }

  async #post(
    url: string,
    payload: object | undefined,
    { asNew = false, signal, accept }: {
      readonly asNew?: boolean;
      readonly signal?: AbortSignal;
      readonly accept?: string;
    },
  ): Promise<AuthorityAnswer> {
    const { key } = this.#account;
    const { kty, crv, x, y } = key;
    for (let attempt = 1;; attempt++) {
      const nonce = this.#nonces.pop() ?? await this.#newNonce(signal);
      const identity = asNew ? { jwk: { kty, crv, x, y } as JWK } : { kid: this.#account.url as string };
      // RFC 8555 §6.3: a POST that only reads has an empty payload.
      const text = payload === undefined ? "" : JSON.stringify(payload);
      const jws = await new FlattenedSign(new TextEncoder().encode(text))
        .setProtectedHeader({ alg: "ES256", nonce, url, ...identity })
        .sign(await importJWK(key, "ES256"));
      const answer = await this.#options.fetch({
        method: "POST",
        url,
        headers: {
          "content-type": "application/jose+json",
          ...accept === undefined ? {} : { accept },
        },
        body: JSON.stringify(jws),
        signal,
      });
      const next = answer.headers["replay-nonce"];
      if (next !== undefined) this.#nonces = [next];
      const refused = answer.status === 400 && kindOf(answer) === "badNonce";
      if (!refused || attempt >= NONCE_ATTEMPTS) return answer;
    }
  }

  async #newNonce(signal?: AbortSignal): Promise<string> {
    const { newNonce } = await this.directory(signal);
    const answer = await this.#options.fetch({ method: "HEAD", url: newNonce, signal });
    const nonce = answer.headers["replay-nonce"];
    if (nonce === undefined) throw this.#odd("it sends no nonce");
    return nonce;
  }

  async #bind(url: string, { keyId, macKey }: ExternalAccount): Promise<object> {
    const { kty, crv, x, y } = this.#account.key;
    return await new FlattenedSign(new TextEncoder().encode(JSON.stringify({ kty, crv, x, y })))
      .setProtectedHeader({ alg: "HS256", kid: keyId, url })
      .sign(new Uint8Array(Buffer.from(macKey, "base64url")));
  }

  #order(answer: AuthorityAnswer, url: string | undefined): AcmeOrder {
    if (url === undefined) throw this.#odd("its order has no address");
    return { ...this.#parse(orderSchema, answer, "its order"), url };
  }

  #parse<T>(schema: z.ZodType<T>, answer: AuthorityAnswer, what: string): T {
    let value: unknown;
    try {
      value = JSON.parse(answer.text);
    } catch {
      throw this.#odd(`${what} isn't JSON`);
    }
    const parsed = schema.safeParse(value);
    if (parsed.success) return parsed.data;
    const [issue] = parsed.error.issues;
    throw this.#odd(`${what} can't be used: ${issue?.path.join(".")}: ${issue?.message}`);
  }

  #odd(why: string): SallyportError {
    const message = `Cannot talk to certificate authority ${this.#origin}: ${why}`;
    return new SallyportError("authority_unreachable", message, { side: "network", retryable: true });
  }

  #problem(answer: AuthorityAnswer, what: string): AcmeProblem {
    const kind = kindOf(answer) ?? `status ${answer.status}`;
    return new AcmeProblem(
      kind,
      `Cannot ${what} with ${this.#origin}: ${problemText(problemOf(answer), kind)}`,
      retryAfterMs(answer),
    );
  }
}

/** The text of a problem, including its subproblems. */
export function problemText(problem: z.output<typeof problemSchema> | undefined, kind?: string): string {
  const parts = problem?.subproblems?.map(({ detail, identifier }) => `${identifier?.value}: ${detail}`) ??
    [];
  const said = [problem?.detail, ...parts].filter((part) => part !== undefined).join("; ");
  const name = kind ?? problem?.type?.split(":").at(-1);
  return [said === "" ? "it gives no reason" : said, name === undefined ? "" : ` (${name})`].join("");
}

/** A certificate's identifier in renewal information (RFC 9773 §4.1). */
export function certificateId(authorityKeyId: Uint8Array, serialNumber: Uint8Array): string {
  return `${Buffer.from(authorityKeyId).toString("base64url")}.${
    Buffer.from(serialNumber).toString("base64url")
  }`;
}

/** The value of the TXT record at `_acme-challenge` (RFC 8555 §8.4). */
export function dnsRecordOf(keyAuthorization: string): string {
  return createHash("sha256").update(keyAuthorization).digest("base64url");
}

function problemOf(answer: AuthorityAnswer): z.output<typeof problemSchema> | undefined {
  try {
    return problemSchema.parse(JSON.parse(answer.text));
  } catch {
    return undefined;
  }
}

function kindOf(answer: AuthorityAnswer): string | undefined {
  return problemOf(answer)?.type?.split(":").at(-1);
}

/** Seconds, or a date (RFC 9110 §10.2.3). */
function retryAfterMs(answer: AuthorityAnswer): number | undefined {
  const text = answer.headers["retry-after"];
  if (text === undefined) return undefined;
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}
