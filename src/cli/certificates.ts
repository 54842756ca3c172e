/**
 * Sets up an agent's TLS termination from its settings.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CertificateManager } from "../agent/acme/certificate_manager.ts";
import { masterDnsHook } from "../agent/acme/master_dns.ts";
import { FileCertificateStore } from "../agent/acme/file_certificate_store.ts";
import { type LateMachine, type MasterClock, masterTimeFetch } from "../agent/late_clock.ts";
import type { MasterClientOptions } from "../agent/master_client.ts";
import type { ServiceConnectors } from "../agent/services/port.ts";
import { createServiceConnectors } from "../agent/tls/service_connectors.ts";
import type { Config } from "../config/config.ts";
import { dnsHookProgram } from "../dns/dns_hook.ts";
import { errorMessage, SallyportError } from "../errors.ts";
import type { Runtime } from "../runtime/port.ts";
import { CERTIFICATES_FOLDER } from "./data_dir.ts";
import type { Base } from "./parts.ts";

/**
 * Connectors for services whose TLS is terminated here; certificates are stored in the data folder. The session master
 * sets DNS records if the agent has no program for them. Certificates are ordered while the agent is `online`.
 */
export function serviceConnectors(
  config: Config,
  { runtime, log }: Pick<Base, "log"> & { readonly runtime: Runtime & { readonly clock: MasterClock } },
  late: LateMachine,
  master: Omit<MasterClientOptions, "what">,
  online: () => Promise<void>,
): ServiceConnectors {
  const store = new FileCertificateStore(join(config.dataDir, CERTIFICATES_FOLDER));
  // Read at startup, so that an invalid file is reported at once.
  const authorityCaPem = config.acmeCa === undefined ? undefined : readCa(config.acmeCa);
  const { acmeEabKid: keyId, acmeEabKey: macKey, acmeDnsHook } = config;
  if ((keyId === undefined) !== (macKey === undefined)) {
    throw invalid("Cannot use --acme-eab-kid and --acme-eab-key: one of them is missing");
  }
  const manager = () =>
    new CertificateManager({
      clock: runtime.clock,
      late,
      reachable: online,
      store,
      log,
      authorities: config.acmeDirectory,
      ...authorityCaPem === undefined ? {} : { authorityCaPem },
      mails: config.acmeEmail,
      ...keyId === undefined || macKey === undefined ? {} : { external: { keyId, macKey } },
      dnsHook: acmeDnsHook === undefined
        ? masterDnsHook({ ...master, clock: runtime.clock })
        : dnsHookProgram(acmeDnsHook),
      dnsDomains: config.acmeDnsDomain,
    });
  return createServiceConnectors({ runtime, log, store, manager, fetch: masterTimeFetch(late) });
}

function readCa(path: string): string {
  try {
    const text = readFileSync(path, "utf8");
    if (!text.includes("-----BEGIN CERTIFICATE-----")) throw new Error(`${path} holds no certificate (PEM)`);
    return text;
  } catch (error) {
    const isAbsent = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw invalid(`Cannot use --acme-ca: ${isAbsent ? `there is no file ${path}` : errorMessage(error)}`);
  }
}

function invalid(message: string): SallyportError {
  return new SallyportError("config_invalid", message, { side: "config" });
}
