/**
 * The proxy that an agent uses: `--proxy`, or the usual environment variables.
 *
 * @module
 */
import { fetchOver } from "../runtime/fetch_over.ts";
import type { MasterGrantOptions } from "../agent/grant.ts";
import { lateClockFetch, type MasterClock } from "../agent/late_clock.ts";
import type { Config } from "../config/config.ts";
import { proxyUrl } from "../config/values.ts";
import { SallyportError } from "../errors.ts";
import type { Runtime } from "../runtime/port.ts";
import { type Proxy, proxyText, throughProxy } from "../runtime/through_proxy.ts";
import type { Logger } from "../telemetry/log.ts";
import type { CliIo } from "./io.ts";

/** An agent's network access. */
export interface AgentNetwork {
  /** For sessions. */
  readonly runtime: Runtime;
  /** For the session master. */
  readonly fetch: NonNullable<MasterGrantOptions["fetch"]>;
  /** For the start message. */
  readonly text?: string;
}

/** Determines the proxy, if any. */
export function agentNetwork(
  config: Pick<Config, "proxy">,
  { env }: Pick<CliIo, "env">,
  runtime: Runtime & { readonly clock: MasterClock },
  log: Logger,
): AgentNetwork {
  const { clock } = runtime;
  if (config.proxy !== undefined) {
    const proxied = throughProxy(runtime, config.proxy);
    const fetch = lateClockFetch({ runtime: { ...proxied, clock }, fetch: fetchOver(proxied), log });
    return { runtime: proxied, fetch, text: proxyText(config.proxy) };
  }
  const network = environmentNetwork(env, runtime);
  // The runtime's own fetch honours the environment's proxies too.
  return { ...network, fetch: lateClockFetch({ runtime: { ...network.runtime, clock }, log }) };
}

function environmentNetwork(env: CliIo["env"], runtime: Runtime): Omit<AgentNetwork, "fetch"> {
  const [name, given] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    .map((name) => [name, env[name]] as const).find(([, value]) => value) ?? [];
  if (name === undefined || given === undefined) return { runtime };
  const read = proxyUrl.safeParse(given);
  if (!read.success) {
    const why = `${read.error.issues[0]?.message}; --proxy names another`;
    throw new SallyportError("config_invalid", `Cannot use ${name}: ${why}`, { side: "config" });
  }
  return {
    runtime: except(env.NO_PROXY ?? env.no_proxy ?? "", read.data, runtime),
    text: proxyText(read.data),
  };
}

/** Hosts of NO_PROXY are reached directly: names, their subdomains (`.example.org`, `example.org`), addresses, `*`. */
function except(noProxy: string, proxy: Proxy, runtime: Runtime): Runtime {
  const direct = noProxy.split(",").map((host) => host.trim().toLowerCase()).filter((host) => host !== "");
  const isDirect = (host: string) =>
    direct.some((entry) => {
      const name = entry.replace(/^\*?\./, "");
      return entry === "*" || host.toLowerCase() === name || host.toLowerCase().endsWith(`.${name}`);
    });
  const proxied = throughProxy(runtime, proxy);
  return {
    ...proxied,
    dial: (options) => (isDirect(options.host) ? runtime : proxied).dial(options),
    resolve: (host) => (isDirect(host) ? runtime : proxied).resolve(host),
  };
}
