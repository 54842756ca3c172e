/**
 * Thousands of agents at one edge: memory for each idle session, and a reconnect storm with what the visitors of a
 * steady agent feel meanwhile. For tunnels that speak SniTun; the agents are the bench's own.
 *
 * @module
 */

import { runLoad, startLoad } from "../load/load.ts";
import { residentBytes, stopChild } from "../machine.ts";
import { startScript } from "../peers/sallyport.ts";
import { type Case, type Figures, metric } from "./case.ts";
import { settledBytes } from "./memory.ts";

const STORM_LIMIT_MS = 90_000;
/** 200 visitors a second, whatever becomes of the ones before: up to 32 may be waiting. */
const PROBE = { streams: 32, intervalMs: 160 };

/** Cases 4 (sessions) and 5. */
export const sessions: Case = {
  name: "sessions",
  title: "Idle sessions and a reconnect storm",
  fresh: true,
  snitun: true,
  metrics: [
    metric("sessions.memory", "edge, an idle session", "KB", "less"),
    metric("sessions.first", "sessions let in, first time", "1/s", "more"),
    metric("sessions.storm", "sessions let in, reconnect storm", "1/s", "more"),
    metric("sessions.retries", "attempts beyond the first in the storm", "", "less"),
    metric("sessions.peak", "edge, most memory in the storm", "MB", "less"),
    metric("sessions.calm.p50", "a steady agent's visitors before, p50", "µs", "less"),
    metric("sessions.calm.p99", "a steady agent's visitors before, p99", "µs", "less"),
    metric("sessions.probe.p50", "a steady agent's visitors in the storm, p50", "µs", "less"),
    metric("sessions.probe.p99", "a steady agent's visitors in the storm, p99", "µs", "less"),
    metric("sessions.probe.max", "a steady agent's visitors in the storm, worst", "µs", "less"),
    metric("sessions.probe.failed", "a steady agent's visitors in the storm, failed", "", "less"),
  ],
  async measure({ peer, endpoint, scale }): Promise<Figures> {
    if (peer.sessions === undefined) return {};
    const edge = peer.edgePids();
    const agents = startScript("load/sessions.ts", [
      ...[String(peer.sessions.port), String(scale.sessions)],
    ], { SNITUN_FERNET_KEY: peer.sessions.fernetKey });
    try {
      await agents.event("ready", undefined, STORM_LIMIT_MS);
      const before = await settledBytes(edge);
      agents.send("dial");
      const first = await agents.event("all", undefined, STORM_LIMIT_MS);
      const held = await settledBytes(edge);
      const calm = await runLoad("visitors", {
        peer,
        endpoint,
        windowMs: scale.windowMs,
        ...PROBE,
      });

      agents.send("drop");
      await agents.event("dropped", undefined, STORM_LIMIT_MS);
      const probe = await startLoad("visitors", {
        ...{ peer, endpoint, windowMs: STORM_LIMIT_MS, ...PROBE },
      });
      let peak = 0;
      const watch = setInterval(() => peak = Math.max(peak, residentBytes(edge)), 50);
      agents.send("dial");
      const storm = await agents.event("all", undefined, STORM_LIMIT_MS).finally(() => clearInterval(watch));
      const felt = await probe.stop();
      return {
        "sessions.memory": (held - before) / scale.sessions / 1000,
        "sessions.first": scale.sessions / Number(first.seconds),
        "sessions.storm": scale.sessions / Number(storm.seconds),
        "sessions.retries": Number(storm.retries),
        "sessions.peak": peak / 1e6,
        "sessions.calm.p50": Number(calm.p50Us),
        "sessions.calm.p99": Number(calm.p99Us),
        ...(Number(felt?.count) > 0
          ? {
            "sessions.probe.p50": Number(felt?.p50Us),
            "sessions.probe.p99": Number(felt?.p99Us),
            "sessions.probe.max": Number(felt?.maxUs),
          }
          : {}),
        "sessions.probe.failed": Number(felt?.failed),
      };
    } finally {
      await stopChild(agents);
    }
  },
};
