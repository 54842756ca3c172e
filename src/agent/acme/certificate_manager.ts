/**
 * Maintains a certificate for each name: orders it from an authority, proves control of the name, renews it in time,
 * and falls back to the next authority if one fails.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { createSecureContext, type SecureContext } from "node:tls";
import { exportJWK, generateKeyPair, type JWK } from "jose";
import { DAY_MS } from "../../calendar.ts";
import type { Identity } from "../../crypto/certificate.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import type { Clock, Timer } from "../../runtime/port.ts";
import { untilAborted } from "../../runtime/until_aborted.ts";
import { type Logger, silentLogger } from "../../telemetry/log.ts";
import {
  type AcmeAccount,
  type AcmeAuthorization,
  AcmeClient,
  AcmeProblem,
  dnsRecordOf,
  type ExternalAccount,
  problemText,
} from "./acme_client.ts";
import { DEFAULT_AUTHORITIES } from "./authorities.ts";
import type { CertificateStore } from "./certificate_store.ts";
import type { DnsHook } from "../../dns/dns_hook.ts";
import type { LateMachine } from "../late_clock.ts";
import { authorityFetch } from "./https_client.ts";
import { type CertificateDetails, makeChallengeCertificate, makeRequest, readCertificate } from "./x509.ts";

/** Maximum time from an order to its certificate. */
export const ORDER_TIMEOUT_MS = 180_000;
/** Concurrent orders, so that an agent with a hundred names doesn't order them all in one second. */
export const ORDERS_MAX = 2;
/** The wait after the first failure; it doubles with each further one. */
export const ORDER_RETRY_FIRST_MS = 10_000;
/** The longest wait after a failure. */
export const ORDER_RETRY_MAX_MS = 6 * 3600_000;
/** How long a visitor waits for a certificate being ordered. */
export const CERTIFICATE_WAIT_MS = 10_000;
/** Default interval at which an authority is asked for its renewal window. */
export const RENEWAL_CHECK_MS = 6 * 3600_000;
/** Shortest interval, whatever the authority requests; the longest is a day. */
const RENEWAL_CHECK_MIN_MS = 60_000;
const RENEWAL_CHECK_MAX_MS = DAY_MS;
/** The fraction of its lifetime after which a certificate is renewed if the authority gives no window. */
const RENEW_AT = 2 / 3;
/** First interval between polls of an order. */
const POLL_FIRST_MS = 500;
const POLL_MAX_MS = 10_000;

/** Options of a {@link CertificateManager}. */
export interface CertificateManagerOptions {
  readonly clock: Clock;
  readonly store: CertificateStore;
  /** Directory URLs of authorities, in order of preference. Defaults to {@link DEFAULT_AUTHORITIES}. */
  readonly authorities?: readonly string[];
  /** The root certificate of a private authority (PEM), trusted in addition to the public ones. */
  readonly authorityCaPem?: string;
  /** For a machine whose clock may be behind, or which has a proxy: how authorities are reached. */
  readonly late?: LateMachine;
  /**
   * Resolves while the names can be reached from outside, such as {@link Agent.online}: no order is placed before, since
   * authorities count failed validations. Defaults to at once.
   */
  readonly reachable?: () => Promise<void>;
  /** Contact addresses for the authority. */
  readonly mails?: readonly string[];
  /** For authorities that open accounts only for their customers. */
  readonly external?: ExternalAccount;
  /** Sets DNS records, which wildcards need. */
  readonly dnsHook?: DnsHook;
  /** Domains, including their subdomains, that use DNS for non-wildcard names as well. Defaults to none. */
  readonly dnsDomains?: readonly string[];
  readonly log?: Logger;
  /** Source of jitter, from 0 to 1. Defaults to `Math.random`. */
  readonly random?: () => number;
}

/** Status of one name's certificate. */
export interface ManagedCertificate {
  readonly name: string;
  readonly issuer?: string;
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
  /** When it is due for renewal. */
  readonly renewAtMs?: number;
  /** Why there is none, or why renewal failed. */
  readonly error?: string;
}

interface Entry {
  readonly name: string;
  /** Number of services that use it. */
  users: number;
  /** Directory of the authority that issued it. */
  authority: string | undefined;
  details: CertificateDetails | undefined;
  context: SecureContext | undefined;
  renewAtMs: number | undefined;
  error: string | undefined;
  failures: number;
  timer: Timer | undefined;
  /** Settles when the current attempt is over. */
  working: Promise<void> | undefined;
}

/** Maintains certificates. */
export class CertificateManager {
  readonly #options: CertificateManagerOptions;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #authorities: readonly string[];
  readonly #entries = new Map<string, Entry>();
  readonly #challenges = new Map<string, Identity>();
  readonly #clients = new Map<string, Promise<AcmeClient>>();
  readonly #closing = new AbortController();
  #ordering = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(options: CertificateManagerOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#log = options.log ?? silentLogger;
    this.#authorities = options.authorities ?? DEFAULT_AUTHORITIES;
  }

  /** Maintains a certificate for a name or a wildcard, until {@link release}. */
  manage(name: string): void {
    const known = this.#entries.get(name);
    const entry: Entry = known ?? {
      ...{
        name,
        users: 0,
        authority: undefined,
        details: undefined,
        context: undefined,
        renewAtMs: undefined,
      },
      ...{ error: undefined, failures: 0, timer: undefined, working: undefined },
    };
    if (known === undefined) {
      this.#entries.set(name, entry);
      this.#begin(entry, () => this.#load(entry));
    }
    entry.users++;
  }

  /** A service no longer needs the name's certificate. It stays in the store. */
  release(name: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined || --entry.users > 0) return;
    entry.timer?.cancel();
    this.#entries.delete(name);
  }

  /** The current certificate; waits briefly if one is being ordered. */
  async contextOf(name: string): Promise<SecureContext | undefined> {
    const entry = this.#entries.get(name);
    if (entry?.context === undefined && entry?.working !== undefined) {
      const timer = Promise.withResolvers<void>();
      const pending = this.#clock.after(CERTIFICATE_WAIT_MS, () => timer.resolve());
      await Promise.race([entry.working, timer.promise]);
      pending.cancel();
    }
    return entry?.context;
  }

  /** The challenge certificate for this name, while an authority is validating it. */
  challengeOf(name: string): Identity | undefined {
    return this.#challenges.get(name);
  }

  /** Why a name has no certificate; undefined if it has one, or nothing has failed yet. */
  errorOf(name: string): string | undefined {
    return this.#entries.get(name)?.error;
  }

  /** Status of each name. */
  certificates(): ManagedCertificate[] {
    return [...this.#entries.values()].map(({ name, details, renewAtMs, error }) => ({
      name,
      ...details === undefined
        ? {}
        : { issuer: details.issuer, notBeforeMs: details.notBeforeMs, notAfterMs: details.notAfterMs },
      ...renewAtMs === undefined ? {} : { renewAtMs },
      ...error === undefined ? {} : { error },
    }));
  }

  /** Resolves when nothing is under way for the name. */
  async settled(name: string): Promise<void> {
    await this.#entries.get(name)?.working;
  }

  /** Renews a name's certificate now, regardless of its age. Rejects with the authority's error. */
  async renew(name: string): Promise<void> {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw new TypeError(`${name} isn't managed`);
    await entry.working;
    entry.timer?.cancel();
    await this.#obtain(entry);
    this.#plan(entry);
  }

  /** Aborts everything in progress. */
  close(): void {
    this.#closing.abort(
      new SallyportError("shutdown", "Cannot get certificate: the agent is shutting down", { side: "local" }),
    );
    for (const entry of this.#entries.values()) entry.timer?.cancel();
    for (const go of this.#waiting.splice(0)) go();
  }

  #begin(entry: Entry, work: () => Promise<void>): void {
    const working = work().catch((error) => this.#failed(entry, error)).finally(() => {
      if (entry.working === working) entry.working = undefined;
    });
    entry.working = working;
  }

  async #load(entry: Entry): Promise<void> {
    const text = await this.#options.store.read(certificateKey(entry.name)).catch((error) => {
      this.#log.warn({ name: entry.name }, errorMessage(error));
      return undefined;
    });
    if (text !== undefined) {
      try {
        await this.#use(entry, text);
      } catch (error) {
        this.#log.warn({ name: entry.name }, `Cannot use stored certificate: ${errorMessage(error)}`);
      }
    }
    const { details } = entry;
    if (details === undefined || details.notAfterMs <= this.#clock.wallMs()) await this.#obtain(entry);
    this.#plan(entry);
  }

  /** Loads a certificate in the store's format: issuing authority, chain, key. */
  async #use(entry: Entry, text: string): Promise<void> {
    const authority = /^# Authority: (\S+)/.exec(text)?.[1];
    // For example from a staging authority used in an earlier trial.
    if (authority === undefined || !this.#authorities.includes(authority)) return;
    const identity = splitPem(text);
    const details = await readCertificate(identity.certificatePem);
    if (!details.names.includes(entry.name)) {
      throw new SallyportError("config_invalid", `it is for ${details.names.join(", ")}`, { side: "config" });
    }
    const context = createSecureContext({ cert: identity.certificatePem, key: identity.keyPem });
    Object.assign(entry, { authority, details, context });
  }

  /** Schedules the next check of the certificate. */
  #plan(entry: Entry): void {
    if (this.#closing.signal.aborted || !this.#entries.has(entry.name) || entry.details === undefined) return;
    const { notBeforeMs, notAfterMs } = entry.details;
    // The jitter spreads agents that started together.
    entry.renewAtMs ??= notBeforeMs + (notAfterMs - notBeforeMs) * (RENEW_AT - 0.05 * this.#random());
    this.#after(entry, 0, () => this.#look(entry));
  }

  /** Asks the authority for the renewal window, and renews the certificate when it is due. */
  async #look(entry: Entry): Promise<void> {
    let nextMs = RENEWAL_CHECK_MS;
    const { details } = entry;
    try {
      const id = details?.renewalId;
      const client = id === undefined ? undefined : await this.#client(entry.authority as string);
      const window = id === undefined ? undefined : await client?.renewalWindow(id, this.#closing.signal);
      if (window !== undefined) {
        const { startMs, endMs } = window;
        const planned = entry.renewAtMs;
        // RFC 9773 §4.2: a random time in the window, drawn once for each window.
        if (planned === undefined || planned < startMs || planned > endMs) {
          entry.renewAtMs = startMs + (endMs - startMs) * this.#random();
        }
        nextMs = window.retryAfterMs ?? nextMs;
        if (window.explanationUrl !== undefined) {
          this.#log.info(
            { name: entry.name },
            `Certificate should be renewed early: ${window.explanationUrl}`,
          );
        }
      }
    } catch (error) {
      // Without renewal information the planned time applies.
      this.#log.debug({ name: entry.name }, errorMessage(error));
    }
    const leftMs = (entry.renewAtMs ?? Infinity) - this.#clock.wallMs();
    if (leftMs <= 0) {
      await this.#obtain(entry);
      this.#plan(entry);
      return;
    }
    const waitMs = Math.min(Math.max(nextMs, RENEWAL_CHECK_MIN_MS), RENEWAL_CHECK_MAX_MS, leftMs);
    this.#after(entry, waitMs, () => this.#look(entry));
  }

  #failed(entry: Entry, error: unknown): void {
    if (this.#closing.signal.aborted || !this.#entries.has(entry.name)) return;
    entry.error = errorMessage(error);
    const backoffMs = Math.min(ORDER_RETRY_MAX_MS, ORDER_RETRY_FIRST_MS * 2 ** entry.failures++);
    const saidMs = error instanceof AcmeProblem ? error.retryAfterMs ?? 0 : 0;
    const limited = error instanceof AcmeProblem && error.kind === "rateLimited";
    // After a rate limit without a given time, the authority isn't contacted for at least an hour.
    const waitMs = Math.max(
      backoffMs * (0.5 + this.#random()),
      saidMs,
      limited && saidMs === 0 ? 3600_000 : 0,
    );
    const next_attempt_seconds = Math.round(waitMs / 1000);
    const why = limited
      ? `${entry.error}. Its limits are per domain and week; further attempts only prolong them`
      : entry.error;
    this.#log.warn({ name: entry.name, next_attempt_seconds }, `Cannot get certificate: ${why}`);
    this.#after(entry, waitMs, async () => {
      await this.#obtain(entry);
      this.#plan(entry);
    });
  }

  #after(entry: Entry, delayMs: number, work: () => Promise<void>): void {
    entry.timer?.cancel();
    entry.timer = this.#clock.after(delayMs, () => this.#begin(entry, work));
  }

  /** Gets a certificate from the first authority that issues one. */
  async #obtain(entry: Entry): Promise<void> {
    await untilAborted(this.#options.reachable?.() ?? Promise.resolve(), this.#closing.signal);
    await this.#turn();
    try {
      // Released while it waited.
      if (this.#entries.get(entry.name) !== entry) return;
      const failures: unknown[] = [];
      for (const authority of this.#authorities) {
        try {
          await this.#obtainFrom(entry, authority);
          return;
        } catch (error) {
          if (this.#closing.signal.aborted) throw error;
          failures.push(error);
          const another = authority !== this.#authorities.at(-1);
          if (another) {
            this.#log.warn({ name: entry.name }, `${errorMessage(error)}; trying the next authority`);
          }
        }
      }
      throw together(failures);
    } finally {
      this.#ordering--;
      this.#waiting.shift()?.();
    }
  }

  async #turn(): Promise<void> {
    if (this.#ordering >= ORDERS_MAX) {
      const turn = Promise.withResolvers<void>();
      this.#waiting.push(() => turn.resolve());
      await turn.promise;
    }
    this.#ordering++;
    this.#closing.signal.throwIfAborted();
  }

  async #obtainFrom(entry: Entry, authority: string): Promise<void> {
    try {
      await this.#order(entry, authority);
    } catch (error) {
      if (!(error instanceof AcmeProblem) || error.kind !== "accountDoesNotExist") throw error;
      // Authorities for tests remove accounts.
      this.#log.info({ name: entry.name }, `${error.message}; opening another account`);
      this.#keepClient(authority, this.#openAccount(authority));
      await this.#order(entry, authority);
    }
  }

  async #order(entry: Entry, authority: string): Promise<void> {
    const { name } = entry;
    const startedMs = this.#clock.nowMs();
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(ORDER_TIMEOUT_MS)]);
    const client = await this.#client(authority);
    let order = await client.order(
      [name],
      authority === entry.authority ? entry.details?.renewalId : undefined,
      signal,
    );
    for (const url of order.authorizations) {
      const { authorization } = await client.authorizationAt(url, signal);
      if (authorization.status !== "valid") await this.#prove(client, authorization, signal);
    }
    order = (await this.#polled(
      () => client.orderAt(order.url, signal),
      ({ order: { status } }) => status !== "pending",
      signal,
    )).order;
    let keyPem: string | undefined;
    if (order.status === "ready") {
      const request = await makeRequest([name]);
      keyPem = request.keyPem;
      order = await client.finalize(order, request.csr, signal);
      order = (await this.#polled(() =>
        client.orderAt(order.url, signal), ({ order: { status } }) =>
        status === "valid" || status === "invalid", signal)).order;
    }
    if (order.status !== "valid" || order.certificate === undefined || keyPem === undefined) {
      const why = order.error === undefined ? `its order is ${order.status}` : problemText(order.error);
      throw new AcmeProblem(
        "orderNotReady",
        `Cannot get certificate for ${name} from ${new URL(authority).host}: ${why}`,
        undefined,
      );
    }
    const chain = (await client.certificate(order.certificate, signal)).trim();
    const text = `# Authority: ${authority}\n${chain}\n${keyPem}`;
    await this.#use(entry, text);
    Object.assign(entry, { error: undefined, failures: 0, renewAtMs: undefined });
    const { notAfterMs = 0, issuer } = entry.details ?? {};
    const seconds = Math.round((this.#clock.nowMs() - startedMs) / 100) / 10;
    this.#log.info(
      { name, issuer, not_after: new Date(notAfterMs).toISOString(), seconds },
      "got a certificate",
    );
    // The certificate is used in any case; if it can't be stored, the next start orders another one.
    await this.#options.store.write(certificateKey(name), text).catch((error) => {
      this.#log.error({ name }, `Cannot save certificate: ${errorMessage(error)}`);
    });
  }

  /** Proves that we control the name. */
  async #prove(client: AcmeClient, authorization: AcmeAuthorization, signal: AbortSignal): Promise<void> {
    const name = authorization.identifier.value;
    const { dnsHook, dnsDomains = [] } = this.#options;
    const wildcard = authorization.wildcard === true;
    const byDns = wildcard ||
      (dnsHook !== undefined && dnsDomains.some((domain) => name === domain || name.endsWith(`.${domain}`)));
    const challenge = authorization.challenges.find(({ type }) =>
      type === (byDns ? "dns-01" : "tls-alpn-01")
    );
    if (challenge === undefined) {
      const why = `it offers no ${byDns ? "DNS-01" : "TLS-ALPN-01"} for ${name}`;
      throw new AcmeProblem("unsupportedChallenge", `Cannot show control of name: ${why}`, undefined);
    }
    if (byDns && dnsHook === undefined) {
      const why = `a wildcard certificate requires a DNS record; set --acme-dns-hook`;
      throw new AcmeProblem(
        "unsupportedIdentifier",
        `Cannot get certificate for *.${name}: ${why}`,
        undefined,
      );
    }
    const keyAuthorization = await client.keyAuthorization(challenge);
    const record = { domain: name, name: `_acme-challenge.${name}`, value: dnsRecordOf(keyAuthorization) };
    try {
      if (byDns) await dnsHook?.present(record);
      else {
        this.#challenges.set(name, await makeChallengeCertificate(name, keyAuthorization));
      }
      await client.answerChallenge(challenge, signal);
      const { authorization: after } = await this.#polled(
        () => client.authorizationAt(authorization.url, signal),
        ({ authorization: { status } }) => status !== "pending",
        signal,
      );
      if (after.status === "valid") return;
      const fault = after.challenges.find(({ error }) => error !== undefined)?.error;
      const kind = fault?.type?.split(":").at(-1) ?? "unauthorized";
      throw new AcmeProblem(kind, `Cannot show control of ${name}: ${problemText(fault, kind)}`, undefined);
    } finally {
      if (!byDns) this.#challenges.delete(name);
      else {
        await dnsHook?.cleanUp(record).catch((error) => this.#log.warn({ name }, errorMessage(error)));
      }
    }
  }

  /** Polls until the condition is met. */
  async #polled<T extends { readonly retryAfterMs: number | undefined }>(
    ask: () => Promise<T>,
    settled: (answer: T) => boolean,
    signal: AbortSignal,
  ): Promise<T> {
    for (let waitMs = POLL_FIRST_MS;; waitMs = Math.min(POLL_MAX_MS, 1.5 * waitMs)) {
      const answer = await ask();
      if (settled(answer)) return answer;
      await this.#sleep(Math.min(answer.retryAfterMs ?? waitMs, POLL_MAX_MS), signal);
    }
  }

  async #sleep(delayMs: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const over = Promise.withResolvers<void>();
    const timer = this.#clock.after(delayMs, () => over.resolve());
    const abort = () => over.reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    try {
      await over.promise;
    } finally {
      timer.cancel();
      signal.removeEventListener("abort", abort);
    }
  }

  /** One client per authority, with an account created on first use. */
  #client(authority: string): Promise<AcmeClient> {
    return this.#clients.get(authority) ?? this.#keepClient(authority, this.#makeClient(authority));
  }

  #keepClient(authority: string, made: Promise<AcmeClient>): Promise<AcmeClient> {
    this.#clients.set(authority, made);
    made.catch(() => this.#clients.delete(authority));
    return made;
  }

  async #makeClient(authority: string): Promise<AcmeClient> {
    const stored = await this.#options.store.read(accountKey(authority));
    if (stored === undefined) return await this.#openAccount(authority);
    return this.#clientOf(authority, JSON.parse(stored) as AcmeAccount & { readonly directory: string });
  }

  #clientOf(authority: string, account: AcmeAccount): AcmeClient {
    const { authorityCaPem, late } = this.#options;
    return new AcmeClient({ directoryUrl: authority, fetch: authorityFetch(authorityCaPem, late), account });
  }

  async #openAccount(authority: string): Promise<AcmeClient> {
    const { store, mails, external } = this.#options;
    const { privateKey } = await generateKeyPair("ES256", { extractable: true });
    const key: JWK = await exportJWK(privateKey);
    const client = this.#clientOf(authority, { key });
    const { signal } = this.#closing;
    const { meta } = await client.directory(signal);
    const account = await client.register({
      mails,
      external: meta?.externalAccountRequired === true ? external : undefined,
      signal,
    });
    await store.write(accountKey(authority), `${JSON.stringify({ directory: authority, ...account })}\n`);
    const terms = meta?.termsOfService === undefined ? "" : `; its terms are ${meta.termsOfService}`;
    this.#log.info(
      { authority: new URL(authority).host },
      `opened an account with the certificate authority${terms}`,
    );
    return client;
  }

  #random(): number {
    return (this.#options.random ?? Math.random)();
  }
}

/** One error for failures at several authorities: the first one, with the messages of all. */
function together(failures: readonly unknown[]): unknown {
  const [first] = failures;
  if (failures.length < 2) return first;
  const message = failures.map(errorMessage).join("; ");
  if (first instanceof AcmeProblem) return new AcmeProblem(first.kind, message, first.retryAfterMs);
  return new SallyportError("certificate_unavailable", message, { side: "config", retryable: true });
}

/** The store's key for a name's certificate: the chain followed by its private key. */
function certificateKey(name: string): string {
  return `certificates/${name.replace(/^\*\./, "_wildcard.")}.pem`;
}

function accountKey(authority: string): string {
  const digest = createHash("sha256").update(authority).digest("hex").slice(0, 16);
  return `accounts/${new URL(authority).hostname.replace(/[^a-z0-9.-]/g, "-")}-${digest}.json`;
}

function splitPem(text: string): Identity {
  const at = text.search(/-----BEGIN [A-Z ]*PRIVATE KEY-----/);
  if (at < 0) throw new SallyportError("config_invalid", "it isn't followed by its key", { side: "config" });
  return { certificatePem: text.slice(0, at), keyPem: text.slice(at) };
}
