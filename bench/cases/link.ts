/**
 * A long way between agent and edge: a relay that holds every byte for 10 ms in either direction, so that a round trip takes
 * 20 ms more. TCP ends at the relay, so this shows what a protocol waits for, not what TCP makes of such a line.
 *
 * @module
 */
import { carries, runLoad, startRelay } from "../load/load.ts";
import { startTunnel } from "../peers/peer.ts";
import { transfer } from "./bulk.ts";
import { type Case, type Figures, metric } from "./case.ts";

const DELAY_MS = 10;

/** Case 8. */
export const link: Case = {
  name: "link",
  title: `A way of ${2 * DELAY_MS} ms between agent and edge`,
  fresh: true,
  metrics: [
    metric("link.first.ms", "the first download of 10 MB", "ms", "less"),
    metric("link.fetch.1.ms", "a new visitor's download of 1 MB, p50", "ms", "less"),
    metric("link.fetch.10.ms", "a new visitor's download of 10 MB, p50", "ms", "less"),
    metric("link.after.ms", "a visitor right after a broken-off download", "ms", "less"),
    metric("link.up.1.mbps", "visitor → endpoint, 1 stream", "MB/s", "more"),
    metric("link.up.8.mbps", "visitor → endpoint, 8 streams", "MB/s", "more"),
    metric("link.down.1.mbps", "endpoint → visitor, 1 stream", "MB/s", "more"),
    metric("link.down.8.mbps", "endpoint → visitor, 8 streams", "MB/s", "more"),
    metric("link.visitor.p50", "a new visitor, p50", "ms", "less"),
    metric("link.pingpong.p50", "ping-pong of 64 bytes, p50", "ms", "less"),
  ],
  takes: (peer) => peer.takesWay === true,
  start: (peer, endpoint) =>
    startTunnel((beside) =>
      peer.start(endpoint.port, async (edgePort) => {
        const relay = await startRelay(edgePort, DELAY_MS);
        beside(relay);
        return relay.port;
      }), (tunnel) => carries(tunnel, endpoint)),
  async measure(context): Promise<Figures> {
    const { peer, endpoint, scale } = context;
    const figures: Figures = {};
    const download = async (bytes: number, windowMs: number) => {
      const done = await runLoad("fetch", { peer, endpoint, bytes, windowMs, intervalMs: 100 });
      await endpoint.quiet();
      return Number(done.p50Us) / 1000;
    };
    figures["link.first.ms"] = await download(10e6, 0);
    figures["link.fetch.1.ms"] = await download(1e6, scale.windowMs);
    figures["link.fetch.10.ms"] = await download(10e6, scale.windowMs);
    await runLoad("bulk", { peer, endpoint, ...scale });
    figures["link.after.ms"] = await download(1000, 0);
    for (const way of ["up", "down"] as const) {
      for (const streams of [1, 8]) {
        figures[`link.${way}.${streams}.mbps`] = (await transfer(context, way, streams)).mbps;
      }
    }
    const visitors = await runLoad("visitors", { peer, endpoint, ...scale });
    await endpoint.quiet();
    const pingpong = await runLoad("pingpong", { peer, endpoint, ...scale });
    await endpoint.quiet();
    return {
      ...figures,
      "link.visitor.p50": Number(visitors.p50Us) / 1000,
      "link.pingpong.p50": Number(pingpong.p50Us) / 1000,
    };
  },
};
