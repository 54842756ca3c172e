/**
 * DNS-01 through the session master, which sets the TXT records of its agents' wildcards with a program of its own.
 *
 * @module
 */
import { DNS_HOOK_TIMEOUT_MS, type DnsHook, type DnsRecord } from "../../dns/dns_hook.ts";
import { SallyportError } from "../../errors.ts";
import type { Clock } from "../../runtime/port.ts";
import { MasterClient, type MasterClientOptions } from "../master_client.ts";

/** Interval at which the master is asked whether a record is visible. */
export const MASTER_DNS_POLL_MS = 5_000;

/** Options of {@link masterDnsHook}: the session master, and the runtime's clock. */
export interface MasterDnsOptions extends Omit<MasterClientOptions, "what"> {
  readonly clock: Clock;
}

/**
 * Sets records by way of the session master, for wildcards of the agent whose credential it is.
 *
 * @throws SallyportError `config_invalid` from `present` if the session master sets no records
 */
export function masterDnsHook(options: MasterDnsOptions): DnsHook {
  const { clock } = options;
  const client = new MasterClient({ ...options, what: "Cannot set DNS record" });
  const path = ({ domain, value }: DnsRecord) => `/v1/dns-challenges/${domain}/${value}`;
  const pause = () => new Promise<void>((resolve) => clock.after(MASTER_DNS_POLL_MS, resolve));
  return {
    async present(record) {
      const untilMs = clock.nowMs() + DNS_HOOK_TIMEOUT_MS;
      for (;;) {
        const answer = await client.call("PUT", path(record));
        if (answer.status === 204) return;
        if (answer.status === 404) {
          const why = `${client.origin} sets none; start the session master with --acme-dns-hook PROGRAM, ` +
            "or give the agent one";
          throw new SallyportError("config_invalid", `Cannot set DNS record ${record.name}: ${why}`, {
            side: "config",
          });
        }
        if (answer.status !== 202) throw client.refusal(answer);
        if (clock.nowMs() > untilMs) {
          throw client.unreachable(`${record.name} isn't visible in ${DNS_HOOK_TIMEOUT_MS / 1000} s`);
        }
        await pause();
      }
    },
    async cleanUp(record) {
      const answer = await client.call("DELETE", path(record));
      if (answer.status !== 204) throw client.refusal(answer);
    },
  };
}
