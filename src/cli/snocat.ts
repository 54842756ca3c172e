/**
 * `snocat`: public TCP ports over QUIC, compatible with snocat-cli (docs/protocols/snocat.md).
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { errorMessage, SallyportError } from "../errors.ts";
import { currentRuntime } from "../runtime/mod.ts";
import type { Address } from "../runtime/port.ts";
import { SnocatClient } from "../snocat/client.ts";
import { startSnocatServer } from "../snocat/server.ts";
import { LOG_LEVELS, type LogLevel } from "../telemetry/log.ts";
import type { PortRange } from "../tunnel/ports/port_leases.ts";
import type { PublicAddress } from "../wire/snocat/demand_proxy.ts";
import { addExamples, type CliContext, type Command, Option } from "./command.ts";
import { createLog } from "./parts.ts";
import { warnOfKeyLog } from "./quic.ts";
import { Lifecycle } from "./lifecycle.ts";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";
import { formatHostPort, splitHostPort } from "../wire/ip/host_port.ts";

const DEFAULT_QUIC = "127.0.0.1:9090";
const DEFAULT_PORTS = "8080:8090";
const DEFAULT_PUBLIC = "127.0.0.1";
const WILDCARDS = ["0.0.0.0", "::"];

interface LogFlags {
  readonly logLevel: LogLevel;
  readonly logFormat: "text" | "json";
}

interface ServerFlags extends LogFlags {
  readonly quic: string;
  readonly cert: string;
  readonly key: string;
  readonly ports: string;
  readonly tcp: string;
  readonly publicHost?: string;
}

interface ClientFlags extends LogFlags {
  readonly server: string;
  readonly serverName?: string;
  readonly authority: string;
  readonly target: string;
  readonly port?: string;
}

/** Adds the command. */
export function addSnocat(program: Command, context: CliContext): void {
  const snocat = program.command("snocat").description(
    "Public TCP ports for servers behind NAT, over QUIC; works with snocat-cli 0.8 at either end.",
  );
  addServer(snocat, context);
  addClient(snocat, context);
}

function addServer(snocat: Command, context: CliContext): void {
  const { io } = context;
  const command = snocat.command("server").description(
    "Accept QUIC tunnels from clients, and give each the lowest free TCP port of a range.\n" +
      "Anyone who reaches the QUIC address gets a port: snocat's protocol has no authentication.",
  );
  command.option("--quic <host:port>", "UDP address for clients", DEFAULT_QUIC);
  command.requiredOption("--cert <file>", "the server's certificate; `cert` makes one");
  command.requiredOption("--key <file>", "the certificate's private key");
  command.option("--ports <first:last>", "the public TCP ports", DEFAULT_PORTS);
  command.option("--tcp <ip>", "IP address of the public ports", DEFAULT_PUBLIC);
  command.option("--public-host <ip>", "IP address announced to clients, if it differs");
  addLogFlags(command);
  const certificate = "--cert data/edge.pub.pem --key data/edge.priv.pem";
  addExamples(command, io, [
    { what: "a certificate first", args: "cert data/edge --san edge.example.org" },
    {
      what: "for everybody",
      args: `snocat server --quic [::]:9090 --tcp :: --ports 8080:8090 ${certificate}`,
    },
  ]);
  command.action(async () => {
    const flags = command.opts<ServerFlags>();
    const listen = parseAddress(flags.quic, "--quic");
    const ports = parseRange(flags.ports);
    const publicHost = parseIpFlag(flags.tcp, "--tcp");
    const toldHost = flags.publicHost === undefined
      ? undefined
      : parseIpFlag(flags.publicHost, "--public-host");
    const identity = { certificatePem: await read(flags.cert), keyPem: await read(flags.key) };
    const runtime = await currentRuntime();
    await warnOfKeyLog(io, runtime);
    const life = new Lifecycle(io);
    context.exitCode = await life.run(async () => {
      const log = createLog(flags, io);
      const server = await startSnocatServer({ runtime, listen, identity, publicHost, ports, toldHost, log });
      life.add("server", () => server.close(SHUTDOWN_GRACE_MS));
      io.out(`Clients connect to ${formatHostPort(server.address)} over QUIC`);
      io.out(`Public ports are ${ports.first} to ${ports.last} on ${publicHost}`);
    });
  });
}

function addClient(snocat: Command, context: CliContext): void {
  const { io } = context;
  const command = snocat.command("client").description(
    "Join a server, and connect its public port to one target; reconnects when the server is back.\n" +
      "Only the target is ever dialled, whatever the server requests.",
  );
  command.requiredOption("--server <host:port>", "the server's QUIC address");
  command.option("--server-name <name>", "the name in its certificate (default: the host of --server)");
  command.requiredOption("--authority <file>", "the certificate that the server's must equal or chain to");
  command.requiredOption("--target <host:port>", "target of public connections");
  command.option(
    "--port <number>",
    "ask for this public port; snocat's own server gives the lowest free one",
  );
  addLogFlags(command);
  addExamples(command, io, [
    {
      what: "SSH of this machine",
      args:
        "snocat client --server edge.example.org:9090 --authority data/edge.pub.pem --target 127.0.0.1:22",
    },
  ]);
  command.action(async () => {
    const flags = command.opts<ClientFlags>();
    const server = parseAddress(flags.server, "--server");
    const target = parseAddress(flags.target, "--target");
    const wishedPort = flags.port === undefined ? undefined : parsePort(flags.port, "--port");
    const authoritiesPem = await read(flags.authority);
    const runtime = await currentRuntime();
    await warnOfKeyLog(io, runtime);
    const life = new Lifecycle(io);
    // deno-lint-ignore require-await -- exceptions must become rejections
    context.exitCode = await life.run(async () => {
      const client = new SnocatClient({
        runtime,
        server,
        serverName: flags.serverName ?? server.host,
        authoritiesPem,
        target,
        wishedPort,
        log: createLog(flags, io),
        opened: (addresses) =>
          io.out(`Public at ${shown(addresses, server)}, connected to ${formatHostPort(target)}`),
      });
      life.add("client", () => client.close(SHUTDOWN_GRACE_MS));
      return { over: client.run() };
    });
  });
}

function addLogFlags(command: Command): void {
  command.addOption(
    new Option("--log-level <level>", "log level").choices(LOG_LEVELS).default("info"),
  );
  command.addOption(
    new Option("--log-format <format>", "log format").choices(["text", "json"]).default("text"),
  );
}

/** For a server that listens on every address, shows the one that the client knows. */
function shown(addresses: readonly PublicAddress[], server: Address): string {
  return addresses.map(({ host, port }) =>
    formatHostPort({ host: WILDCARDS.includes(host) ? server.host : host, port })
  ).join(", ");
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw wrong(`Cannot read ${path}: ${errorMessage(error)}`);
  }
}

/** `host:port`, `[v6]:port`. */
function parseAddress(text: string, what: string): Address {
  const { host = "", port } = splitHostPort(text) ?? {};
  if (host === "" || port === undefined || port > 65_535) {
    throw wrong(`Cannot use ${what} ${JSON.stringify(text)}: needs host:port, an IPv6 address in brackets`);
  }
  return { host, port };
}

function parsePort(text: string, what: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) {
    throw wrong(`Cannot use ${what} ${JSON.stringify(text)}: needs a port from 1 to 65535`);
  }
  return port;
}

/** `8080:8090`, `8080-8090`, `8080`. */
function parseRange(text: string): PortRange {
  const [first = "", last = first, ...more] = text.split(/[:-]/);
  const range = { first: parsePort(first, "--ports"), last: parsePort(last, "--ports") };
  if (more.length > 0 || range.first > range.last) {
    throw wrong(`Cannot use --ports ${JSON.stringify(text)}: needs first:last, for example ${DEFAULT_PORTS}`);
  }
  return range;
}

function parseIpFlag(text: string, what: string): string {
  const host = text.replace(/^\[(.*)\]$/, "$1");
  if (isIP(host) === 0) throw wrong(`Cannot use ${what} ${JSON.stringify(text)}: needs an IP address`);
  return host;
}

function wrong(message: string): SallyportError {
  return new SallyportError("config_invalid", message, { side: "config" });
}
