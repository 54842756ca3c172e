/**
 * Sends the queued messages of webhooks. The queue is in the store, so a crash loses none, and several masters share
 * the work; a master that crashes midway leaves its message to the others, so a message may arrive twice.
 *
 * @module
 */
import { errorMessage } from "../../errors.ts";
import type { Clock, Fetch, Timer } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import { LogSampler } from "../../telemetry/log_sampler.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { noTracer, type Tracer } from "../../telemetry/tracing.ts";
import { VERSION } from "../../version.ts";
import type { MasterEvent, WebhookDelivery } from "../model.ts";
import type { DeliveryOutcome, Store, TakenDelivery } from "../store/store.ts";
import { signatureHeaders } from "./signature.ts";

/** Interval at which the store is polled for due webhook messages. */
export const WEBHOOK_POLL_MS = 2_000;
/** Timeout for a webhook's response. */
export const WEBHOOK_TIMEOUT_MS = 15_000;
/** A webhook message taken for sending may be taken by another master after this time. */
export const WEBHOOK_LEASE_MS = 30_000;
/** Maximum number of concurrent webhook requests. */
export const WEBHOOK_SENDING_MAX = 16;
/** Maximum number of concurrent requests to one webhook. */
export const WEBHOOK_SENDING_PER_HOOK_MAX = 4;
/** Delays between the attempts: after the last one the message has failed, 18 hours after the first. */
const RETRY_AFTER_S = [5, 30, 2 * 60, 10 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600];
/** Delays vary by up to this share, so that messages that failed together aren't sent together. */
const JITTER = 0.2;
/** The receiver wants no more messages (Standard Webhooks). */
const GONE = 410;
/** Maximum length of the stored reason for a failed webhook attempt. */
const ERROR_MAX_LENGTH = 300;

/** Dependencies of {@link WebhookSender}. */
export interface WebhookSenderOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics?: Metrics;
  readonly fetch: Fetch;
  /** Tracer for attempts. Defaults to no tracing. */
  readonly tracer?: Tracer;
  /** Random numbers from 0 to 1 for the jitter. Defaults to `Math.random`. */
  readonly random?: () => number;
}

/** Sends the messages that are due. */
export class WebhookSender {
  readonly #options: WebhookSenderOptions;
  readonly #sending = new Map<string, number>();
  readonly #under = new Set<Promise<void>>();
  #timer: Timer | undefined;
  #closed = false;

  readonly #sampler: LogSampler;

  constructor(options: WebhookSenderOptions) {
    this.#options = options;
    this.#sampler = new LogSampler(options);
  }

  /** Sends due messages repeatedly until {@link close}. */
  start(): void {
    this.#timer = this.#options.clock.after(WEBHOOK_POLL_MS, () => {
      this.#look().catch((error) => {
        const fields = { error: errorMessage(error) };
        this.#sampler.warn("messages", fields, "Cannot look up pending messages to webhooks");
      }).finally(() => this.#closed || this.start());
    });
  }

  /** Creates the events that have become due, and sends everything that is due now. */
  async work(): Promise<void> {
    await this.#look();
    while (this.#under.size > 0) {
      await Promise.all(this.#under);
      await this.#send();
    }
  }

  /** Sends an event to one webhook now; returns the outcome. */
  async sendNow(webhook: string, event: MasterEvent): Promise<WebhookDelivery | undefined> {
    const { store, clock } = this.#options;
    const id = await store.addDelivery(webhook, event);
    const taken = await store.takeDelivery({
      nowMs: clock.wallMs(),
      leaseMs: WEBHOOK_LEASE_MS,
      without: [],
      id,
    });
    if (taken === undefined) return undefined;
    const { nextAtMs: _, ...sent } = taken.delivery;
    return { ...sent, ...await this.#attempt(taken) };
  }

  /** Stops sending; resolves when attempts in progress have ended or been left to the next start. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#sampler.flush();
    await Promise.race([
      Promise.all(this.#under),
      new Promise<void>((resolve) => this.#options.clock.after(1_000, resolve)),
    ]);
  }

  async #look(): Promise<void> {
    const { store, clock } = this.#options;
    await store.noteTime(clock.wallMs());
    await this.#send();
  }

  async #send(): Promise<void> {
    const { store, clock, log } = this.#options;
    while (!this.#closed && this.#under.size < WEBHOOK_SENDING_MAX) {
      const taken = await store.takeDelivery({
        nowMs: clock.wallMs(),
        leaseMs: WEBHOOK_LEASE_MS,
        without: [...this.#sending].filter(([, count]) => count >= WEBHOOK_SENDING_PER_HOOK_MAX).map(([id]) =>
          id
        ),
      });
      if (taken === undefined) return;
      const { id } = taken.webhook;
      this.#sending.set(id, (this.#sending.get(id) ?? 0) + 1);
      const attempt: Promise<void> = this.#attempt(taken).then(
        () => {},
        (error) =>
          log.warn({ webhook: id, error: errorMessage(error) }, "Cannot record the outcome of a message"),
      ).finally(() => {
        this.#under.delete(attempt);
        const left = this.#sending.get(id)! - 1;
        if (left === 0) this.#sending.delete(id);
        else this.#sending.set(id, left);
      });
      this.#under.add(attempt);
    }
  }

  async #attempt(taken: TakenDelivery): Promise<DeliveryOutcome> {
    const { store, log, metrics, tracer = noTracer } = this.#options;
    const span = tracer.start("webhook", "client", {
      "http.request.method": "POST",
      "server.address": new URL(taken.webhook.url).hostname,
      "sallyport.event": taken.delivery.event,
    });
    const outcome = await this.#outcome(taken, span.traceparent);
    const { status, error } = outcome;
    span.end(status === undefined ? undefined : { "http.response.status_code": status }, error);
    await store.settleDelivery(taken.delivery.id, outcome);
    const { delivery: { id, event, attempts }, webhook } = taken;
    const fields = { webhook: webhook.id, message: id, event, attempts, status: outcome.status };
    metrics?.webhookAttempt(outcome.state === "waiting" ? "retried" : outcome.state);
    if (outcome.state === "delivered") log.debug(fields, "webhook notified");
    else {
      log.warn(
        { ...fields, error: outcome.error, next_at_ms: outcome.nextAtMs },
        "Cannot deliver to webhook",
      );
    }
    return outcome;
  }

  async #outcome({ delivery, webhook }: TakenDelivery, traceparent?: string): Promise<DeliveryOutcome> {
    const { clock, fetch, random = Math.random } = this.#options;
    const { id, body, attempts } = delivery;
    const again = (why: { readonly status?: number; readonly error: string }): DeliveryOutcome => {
      // A test reports its outcome immediately.
      const waitS = delivery.event === "webhook.test" ? undefined : RETRY_AFTER_S[attempts - 1];
      if (waitS === undefined || why.status === GONE) return { state: "failed", ...why };
      const jitter = 1 + JITTER * (2 * random() - 1);
      return { state: "waiting", ...why, nextAtMs: Math.round(clock.wallMs() + waitS * 1000 * jitter) };
    };
    // A master ended during each attempt: this message may be the reason.
    if (attempts > RETRY_AFTER_S.length + 1) return { state: "failed", error: "no attempt had an outcome" };
    const leaving = new AbortController();
    const timer = clock.after(WEBHOOK_TIMEOUT_MS, () => {
      leaving.abort(new Error(`it gave no complete answer within ${WEBHOOK_TIMEOUT_MS / 1000} s`));
    });
    try {
      const headers = {
        "content-type": "application/json",
        "user-agent": `sallyport/${VERSION}`,
        ...traceparent === undefined ? {} : { traceparent },
        ...signatureHeaders(webhook.secret, { id, sentAtMs: clock.wallMs(), body }),
      };
      const request = new Request(webhook.url, { method: "POST", headers, body, signal: leaving.signal });
      const { status } = await fetch(request);
      // The body stays private: it might come from the operator's own network.
      if (status >= 200 && status < 300) return { state: "delivered", status };
      return again({ status, error: `it answered ${status}` });
    } catch (error) {
      return again({ error: errorMessage(error).slice(0, ERROR_MAX_LENGTH) });
    } finally {
      timer.cancel();
    }
  }
}
