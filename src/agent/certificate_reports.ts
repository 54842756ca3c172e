/**
 * Reports the expiry of an enrolled agent's certificates to the session master, so that its webhooks can warn in time.
 *
 * @module
 */
import { errorMessage } from "../errors.ts";
import type { Clock, Timer } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import { MasterClient, type MasterClientOptions } from "./master_client.ts";
import type { CertificateFacts } from "./services/port.ts";

/** Delay before the first check of the certificates, by when they have been read or requested. */
export const CERTIFICATE_REPORT_FIRST_MS = 60_000;
/** Interval of further checks; only changes are reported. */
export const CERTIFICATE_REPORT_MS = 3_600_000;
/** Maximum number of certificates, and of names in each, that the master accepts. */
const CERTIFICATES_TOLD_MAX = 256;

/** Options of {@link CertificateReports}. */
interface CertificateReportsOptions extends Omit<MasterClientOptions, "what"> {
  readonly clock: Clock;
  readonly log: Logger;
  /** The agent's current certificates. */
  certificates(): readonly CertificateFacts[];
}

/** Sends a report whenever a certificate changes. */
export class CertificateReports {
  readonly #options: CertificateReportsOptions;
  readonly #client: MasterClient;
  #timer: Timer | undefined;
  #told = JSON.stringify({ certificates: [] });
  #closed = false;

  constructor(options: CertificateReportsOptions) {
    this.#options = options;
    this.#client = new MasterClient({ ...options, what: "Cannot report certificates" });
  }

  /** Checks the certificates periodically, until {@link close}. */
  start(): void {
    this.#later(CERTIFICATE_REPORT_FIRST_MS);
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  /** Reports changes to the master. */
  async report(): Promise<void> {
    const { log } = this.#options;
    const body = { certificates: this.#found() };
    const text = JSON.stringify(body);
    if (text === this.#told) return;
    try {
      const answer = await this.#client.call("PUT", "/v1/agent-certificates", body);
      if (answer.status === 204) this.#told = text;
      // A master of an earlier version doesn't accept reports.
      else if (answer.status !== 404) throw this.#client.refusal(answer);
    } catch (error) {
      log.info({}, `${errorMessage(error)}; trying again in an hour`);
    }
  }

  #later(delayMs: number): void {
    this.#timer = this.#options.clock.after(delayMs, () => {
      void this.report().finally(() => this.#closed || this.#later(CERTIFICATE_REPORT_MS));
    });
  }

  /** Certificates signed by others; the agent renews its self-signed ones in time. */
  #found() {
    return this.#options.certificates().flatMap(({ names, source, notBeforeMs, notAfterMs }) =>
      source === "self-signed" || names.length === 0 || notBeforeMs === undefined || notAfterMs === undefined
        ? []
        : [{
          names: names.slice(0, CERTIFICATES_TOLD_MAX),
          not_before: new Date(notBeforeMs).toISOString(),
          not_after: new Date(notAfterMs).toISOString(),
        }]
    ).slice(0, CERTIFICATES_TOLD_MAX);
  }
}
