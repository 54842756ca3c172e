/**
 * Sources of a service's certificate: an authority, files, or the agent itself.
 *
 * @module
 */
import { readFile, stat } from "node:fs/promises";
import { createSecureContext, type SecureContext } from "node:tls";
import { DAY_MS } from "../../calendar.ts";
import { type Identity, makeCertificate } from "../../crypto/certificate.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import type { Clock } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import { wildcardOf } from "../../wire/wildcard.ts";
import type { CertificateManager } from "../acme/certificate_manager.ts";
import type { CertificateStore } from "../acme/certificate_store.ts";
import { readCertificate } from "../acme/x509.ts";
import type { CertificateFacts } from "../services/port.ts";
import type { CertificateFiles } from "../services/service.ts";

/** Minimum interval between checks of the files, made when a visitor connects. */
export const CERTIFICATE_FILES_CHECK_MS = 5_000;
/** Lifetime of a self-signed certificate; it is renewed when a tenth of it is left. */
const SELF_SIGNED_DAYS = 90;

/** Provides certificates for the names of one service. */
export interface CertificateSource {
  /** The certificate for a host name. Rejects with `certificate_unavailable`, giving the reason. */
  contextOf(serverName: string): Promise<SecureContext>;
  /** The certificate for a pending challenge at this name. */
  challengeOf(serverName: string): Identity | undefined;
  facts(): readonly CertificateFacts[];
  close(): void;
}

/** Certificates from an authority. */
export function acmeSource(manager: CertificateManager, names: readonly string[]): CertificateSource {
  for (const name of names) manager.manage(name);
  return {
    async contextOf(serverName) {
      const name = names.includes(serverName) ? serverName : wildcardOf(serverName) ?? serverName;
      const context = await manager.contextOf(name);
      if (context !== undefined) return context;
      throw unavailable(`there is no certificate for ${name} yet${because(manager.errorOf(name))}`);
    },
    challengeOf: (serverName) => manager.challengeOf(serverName),
    facts: () =>
      manager.certificates().filter(({ name }) => names.includes(name)).map((
        { name, issuer, notBeforeMs, notAfterMs, error },
      ) => ({
        names: [name],
        source: "acme",
        ...issuer === undefined ? {} : { issuer },
        ...notBeforeMs === undefined ? {} : { notBeforeMs },
        ...notAfterMs === undefined ? {} : { notAfterMs },
        ...error === undefined ? {} : { error },
      })),
    close() {
      for (const name of names) manager.release(name);
    },
  };
}

/** A certificate from two files, which are reloaded when they change; if they can't be used, the old one stays. */
export function fileSource(
  files: CertificateFiles,
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
): CertificateSource {
  let current: { readonly context: SecureContext; readonly facts: CertificateFacts } | undefined;
  let error: string | undefined;
  let seen = "";
  let checkedMs = -Infinity;
  const load = async () => {
    if (clock.nowMs() - checkedMs < CERTIFICATE_FILES_CHECK_MS) return;
    checkedMs = clock.nowMs();
    const { certificateFile, keyFile } = files;
    try {
      const found = (await Promise.all([stat(certificateFile), stat(keyFile)]))
        .map(({ mtimeMs, size }) => `${mtimeMs}:${size}`).join();
      if (found === seen) return;
      const [cert, key] = await Promise.all([readFile(certificateFile, "utf8"), readFile(keyFile, "utf8")]);
      const { names, issuer, notBeforeMs, notAfterMs } = await readCertificate(cert);
      current = {
        context: createSecureContext({ cert, key }),
        facts: { names, source: "file", issuer, notBeforeMs, notAfterMs },
      };
      if (seen !== "") log.info({ certificate: certificateFile }, "certificate read again");
      seen = found;
      error = undefined;
    } catch (failure) {
      const why = errorMessage(failure).replace("Cannot read certificate: ", "");
      const kept = current === undefined ? "" : "; the old one stays";
      error = `Cannot read certificate from ${certificateFile} and ${keyFile}: ${why}${kept}`;
      log.warn({ certificate: certificateFile }, error);
    }
  };
  const loaded = load();
  return {
    async contextOf() {
      await loaded;
      await load();
      if (current !== undefined) return current.context;
      throw unavailable(error ?? "it can't be read");
    },
    challengeOf: () => undefined,
    facts:
      () => [{ ...current?.facts ?? { names: [], source: "file" }, ...error === undefined ? {} : { error } }],
    close() {},
  };
}

/** Self-signed certificates, for names that no authority certifies; stored, so that a visitor's trust persists. */
export function selfSignedSource(
  names: readonly string[],
  { clock, store }: { readonly clock: Clock; readonly store: CertificateStore },
): CertificateSource {
  let made: Promise<{ readonly context: SecureContext; readonly notAfterMs: number }> | undefined;
  let notAfterMs: number | undefined;
  const make = async () => {
    const text = await selfSignedText(names, { clock, store });
    const details = await readCertificate(text);
    notAfterMs = details.notAfterMs;
    return { context: createSecureContext({ cert: text, key: text }), notAfterMs };
  };
  return {
    async contextOf() {
      made ??= make();
      try {
        const { context, notAfterMs } = await made;
        if (notAfterMs - clock.wallMs() < SELF_SIGNED_DAYS * DAY_MS / 10) made = undefined;
        return context;
      } catch (error) {
        made = undefined;
        throw error;
      }
    },
    challengeOf: () => undefined,
    facts: () => [{ names, source: "self-signed", ...notAfterMs === undefined ? {} : { notAfterMs } }],
    close() {},
  };
}

/** The self-signed certificate for these names, followed by its key, as PEM: the stored one, else a new one. */
export async function selfSignedText(
  names: readonly string[],
  { clock, store }: { readonly clock: Clock; readonly store: CertificateStore },
): Promise<string> {
  const key = `self-signed/${(names[0] ?? "").replace(/^\*\./, "_wildcard.")}.pem`;
  const wallMs = clock.wallMs();
  const stored = await store.read(key).catch(() => undefined);
  const kept = stored === undefined ? undefined : await usable(stored, names, wallMs).catch(() => undefined);
  if (kept !== undefined) return kept;
  const request = { commonName: names[0] as string, names, validDays: SELF_SIGNED_DAYS, wallMs };
  const { certificatePem, keyPem } = await makeCertificate(request);
  const text = certificatePem + keyPem;
  // If it can't be stored, the next start creates another one.
  await store.write(key, text).catch(() => {});
  return text;
}

async function usable(text: string, names: readonly string[], wallMs: number): Promise<string | undefined> {
  const details = await readCertificate(text);
  const fits = names.every((name) => details.names.includes(name));
  return fits && details.notAfterMs - wallMs > SELF_SIGNED_DAYS * DAY_MS / 10 ? text : undefined;
}

function because(error: string | undefined): string {
  return error === undefined ? "" : `: ${error}`;
}

function unavailable(why: string): SallyportError {
  return new SallyportError("certificate_unavailable", `Cannot serve visitor: ${why}`, {
    side: "local",
    retryable: true,
  });
}
