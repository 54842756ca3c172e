/**
 * The services of an agent: those from flags, followed by those from the configuration file.
 *
 * @module
 */
import { type Service, serviceDefaults } from "../agent/services/service.ts";
import type { Target } from "../agent/services/target.ts";
import { SallyportError } from "../errors.ts";
import type { Config, LoadedConfig } from "./config.ts";
import { serviceFaults } from "./services.ts";

/** The flag to blame for a fault in a flag's service, by the corresponding file member. */
const FLAG_OF: Readonly<Record<string, string>> = { target: "--tls" };

/**
 * All services, in order: `--hostname` with its aliases and `--to`, each `--service`, those of the file.
 *
 * @throws SallyportError `config_invalid`: there is none, two share a name, or one's settings conflict.
 */
export function agentServices(
  { config, services }: Pick<LoadedConfig, "config" | "services">,
): readonly Service[] {
  const flags: Service[] = [];
  const { hostname, alias, to, service: named } = config;
  if (to !== undefined && hostname === undefined) {
    throw invalid("Cannot start agent: --to needs --hostname, the name that visitors ask for");
  }
  if (hostname !== undefined && to !== undefined) flags.push(fromFlags(config, [hostname, ...alias], to));
  for (const { name, target } of named) flags.push(fromFlags(config, [name], target));
  const all = [...flags, ...services];
  if (all.length === 0) {
    throw invalid(
      hostname === undefined
        ? "Cannot start agent: --hostname and --to are missing (or --service NAME=TARGET, or services in the file of --config)"
        : "Cannot start agent: --to is missing (or SALLYPORT_TO in the environment, --service NAME=TARGET, or services in " +
          "the file of --config)",
    );
  }
  const taken = new Set<string>();
  for (const name of all.flatMap(({ names }) => names)) {
    if (taken.has(name)) throw invalid(`Cannot use services: ${name} is served twice`);
    taken.add(name);
  }
  return all;
}

function fromFlags(config: Config, names: readonly string[], target: Target): Service {
  const { tls, proxyProtocol, allow, block, idleTimeout: idleTimeoutMs, accessLog } = config;
  const service = serviceDefaults({
    names: [...new Set(names)],
    targets: [target],
    ...tls === undefined ? {} : { tls },
    proxyProtocol,
    allow,
    block,
    idleTimeoutMs,
    ...accessLog === undefined ? {} : { accessLog },
  });
  const [fault] = serviceFaults(service);
  if (fault !== undefined) throw invalid(`Cannot use ${FLAG_OF[fault[0]] ?? fault[0]}: ${fault[1]}`);
  return service;
}

function invalid(message: string): SallyportError {
  return new SallyportError("config_invalid", message, { side: "config" });
}
