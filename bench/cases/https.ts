/**
 * HTTP requests of a real client through TLS that ends in the agent: h2load, over HTTP/1.1 and HTTP/2, on 1 and 64
 * connections with one request at a time on each; first for a few bytes, then for 1 MiB.
 *
 * @module
 */
import { request } from "node:https";
import { startHttpEndpoint } from "../load/load.ts";
import { cpuSeconds, pause, run, Unavailable } from "../machine.ts";
import { type RunningPeer, SERVER_NAME, startTunnel } from "../peers/peer.ts";
import { type Case, type Figures, metric } from "./case.ts";

const PROTOCOLS = { h1: "HTTP/1.1", h2: "HTTP/2" } as const;
const CONNECTIONS = [1, 64];
/** What the endpoint answers to GET /large. */
const LARGE_BYTES = 1024 * 1024;
/** Large answers that are fetched, by the number of connections; a quarter as many warm up. */
const LARGE_ANSWERS: Readonly<Record<number, number>> = { 1: 400, 64: 768 };
const ATTEMPTS = 60;
const ATTEMPT_MS = 250;

/** Case 7. */
export const https: Case = {
  name: "https",
  title: "HTTP requests through TLS that ends in the agent",
  fresh: true,
  metrics: Object.entries(PROTOCOLS).flatMap(([name, title]) =>
    CONNECTIONS.flatMap((connections) => {
      const what = `${title}, ${connections} connection${connections === 1 ? "" : "s"}`;
      return [
        metric(`https.${name}.${connections}.rate`, what, "requests/s", "more"),
        metric(`https.${name}.${connections}.agentCpu`, `${what}: agent`, "CPU µs a request", "less"),
        metric(`https.${name}.${connections}.edgeCpu`, `${what}: edge`, "CPU µs a request", "less"),
        metric(`https.${name}.${connections}.mbps`, `${what}: answers of 1 MiB`, "MB/s", "more"),
      ];
    })
  ),
  takes: (peer) => peer.startHttps !== undefined,
  start: (peer) =>
    startTunnel(async (beside) => {
      const endpoint = await startHttpEndpoint();
      beside(endpoint);
      return await peer.startHttps!(endpoint.port);
    }, answers),
  async measure({ peer, scale, miss }): Promise<Figures> {
    const figures: Figures = {};
    for (const name of Object.keys(PROTOCOLS)) {
      for (const connections of CONNECTIONS) {
        const of = `https.${name}.${connections}`;
        try {
          const options = { isHttp1: name === "h1", connections };
          const small = (windowMs: number) =>
            load(peer, {
              ...options,
              path: "/",
              bound: ["--duration", String(Math.max(1, Math.round(windowMs / 1000)))],
            });
          // Compilers of the runtimes, and connections to the target, are warm as in the other cases.
          await small(scale.warmupMs);
          const before = [cpuOf(peer.edgePids()), cpuOf(peer.agentPids())] as const;
          const { rate, requests } = await small(scale.windowMs);
          const perRequest = (after: number, from: number): number => (after - from) * 1e6 / requests;
          figures[`${of}.rate`] = rate;
          figures[`${of}.edgeCpu`] = perRequest(cpuOf(peer.edgePids()), before[0]);
          figures[`${of}.agentCpu`] = perRequest(cpuOf(peer.agentPids()), before[1]);
          // Bounded by a count: with --duration and one connection that always has bytes to read, h2load never gets
          // to its timer.
          const answers = (count: number) =>
            load(peer, { ...options, path: "/large", bound: ["--requests", String(count)] });
          await answers(LARGE_ANSWERS[connections]! / 4);
          const large = await answers(LARGE_ANSWERS[connections]!);
          if (large.byteLength < large.requests * LARGE_BYTES) {
            throw new Error(`${large.requests} large answers had ${large.byteLength} bytes in all`);
          }
          figures[`${of}.mbps`] = large.rate * LARGE_BYTES / 1e6;
        } catch (error) {
          miss(`${name}, ${connections}: ${error instanceof Error ? error.message : error}`);
        }
      }
    }
    return figures;
  },
};

/** On a busy machine h2load may never get to the timer of its --duration. */
const LOAD_LIMIT_MS = 60_000;

interface Load {
  readonly isHttp1: boolean;
  readonly connections: number;
  readonly path: string;
  /** The option of h2load that ends the run. */
  readonly bound: readonly string[];
}

async function load(
  peer: RunningPeer,
  { isHttp1, connections, path, bound }: Load,
): Promise<{ rate: number; requests: number; byteLength: number }> {
  const output = await run("h2load", [
    ...[...bound, "--clients", String(connections)],
    ...isHttp1 ? ["--h1"] : [],
    ...[`--connect-to=${peer.visitors}`, `https://${SERVER_NAME}${path}`],
  ], { timeoutMs: LOAD_LIMIT_MS }).catch((error) => {
    const why = (error as Error).message;
    throw new Unavailable(
      why.includes("ENOENT")
        ? "it needs h2load (apt-get install nghttp2-client)"
        : `h2load failed, or didn't end within ${LOAD_LIMIT_MS / 1000} s: ${why}`,
    );
  });
  const rate = Number(/finished in [\d.]+m?s, ([\d.]+) req\/s/.exec(output)?.[1] ?? NaN);
  const [, done = "0", failed = "0"] = /(\d+) succeeded, (\d+) failed/.exec(output) ?? [];
  if (!(rate > 0) || Number(done) === 0) throw new Error(`no request was answered: ${output.slice(-300)}`);
  if (Number(failed) > 0) throw new Error(`${failed} of ${Number(done) + Number(failed)} requests failed`);
  const byteLength = Number(/\((\d+)\) data/.exec(output)?.[1] ?? 0);
  return { rate, requests: Number(done), byteLength };
}

function cpuOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
}

/** Resolves once a request gets through. */
async function answers(peer: RunningPeer): Promise<void> {
  const [host, port] = peer.visitors.split(":");
  let why: unknown;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    try {
      return await new Promise<void>((resolve, reject) => {
        const asked = request({
          ...{ host, port, path: "/", servername: SERVER_NAME, rejectUnauthorized: false, timeout: 2_000 },
          headers: { host: SERVER_NAME, connection: "close" },
        }, (response) => {
          response.resume();
          if (response.statusCode === 200) resolve();
          else reject(new Error(`status ${response.statusCode}`));
        });
        asked.on("error", reject).on("timeout", () => asked.destroy(new Error("no answer"))).end();
      });
    } catch (error) {
      why = error;
      await pause(ATTEMPT_MS);
    }
  }
  throw new Unavailable(
    `it started, but no request got an answer: ${why instanceof Error ? why.message : why}`,
  );
}
