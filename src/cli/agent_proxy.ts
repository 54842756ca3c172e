/**
 * The proxy that an agent uses: `--proxy`, or the usual environment variables.
 *
 * @module
 */
import { fetchOver } from "../runtime/fetch_over.ts";
import type { MasterGrantOptions } from "../agent/grant.ts";
import { lateClockFetch, type LateMachine, type MasterClock } from "../agent/late_clock.ts";
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
  /** For certificate authorities and sign-in providers. */
  readonly late: LateMachine;
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
  const proxy = config.proxy === undefined ? environmentProxy(env) : { ...config.proxy, exceptions: "" };
  if (proxy === undefined) return { runtime, late: runtime, fetch: lateClockFetch({ runtime, log }) };
  const proxied = except(proxy.exceptions, proxy, runtime);
  const late = { ...proxied, clock: runtime.clock, proxied: true };
  const through = fetchOver(proxied);
  // HTTPS_PROXY isn't meant for http://, and Bun's own fetch doesn't know all kinds of proxies.
  const isMeant = ({ url }: Request) => config.proxy !== undefined || url.startsWith("https:");
  const first = (request: Request) => (isMeant(request) ? through : fetch)(request);
  return {
    runtime: proxied,
    late,
    fetch: lateClockFetch({ runtime: late, fetch: first, log }),
    text: proxyText(proxy),
  };
}

/** A proxy, and the hosts that are reached without it, as in NO_PROXY. */
type EnvironmentProxy = Proxy & { readonly exceptions: string };

function environmentProxy(env: CliIo["env"]): EnvironmentProxy | undefined {
  const [name, given] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    .map((name) => [name, env[name]] as const).find(([, value]) => value) ?? [];
  if (name === undefined || given === undefined) return undefined;
  const read = proxyUrl.safeParse(given);
  if (!read.success) {
    const why = `${read.error.issues[0]?.message}; --proxy names another`;
    throw new SallyportError("config_invalid", `Cannot use ${name}: ${why}`, { side: "config" });
  }
  return { ...read.data, exceptions: env.NO_PROXY ?? env.no_proxy ?? "" };
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
    connect: (options, handler) =>
      ("path" in options || isDirect(options.host) ? runtime : proxied).connect(options, handler),
    resolve: (host) => (isDirect(host) ? runtime : proxied).resolve(host),
  };
}
