/**
 * What is done to a world. Each fault leaves it whole again, apart from the time that it takes to recover.
 *
 * @module
 */
import { rename, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { type Part, PARTS, type World } from "./world.ts";

/** A fault. */
export interface Fault {
  readonly name: string;
  /** Part of the quick run. */
  readonly quick: boolean;
  /** From the end of the fault, visits must be served again within this time. */
  readonly recoveryMs: number;
  /** What the agent's or the edge's log must say of it afterwards. */
  readonly told?: { readonly part: "agent" | "edge"; readonly text: RegExp };
  run(world: World): Promise<void>;
}

/** How long something is stopped or silent: longer than anybody's patience. */
const SILENCE_MS = 20_000;
const QUICK_SILENCE_MS = 4_000;

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The faults of a run. */
export function makeFaults(quick: boolean): Fault[] {
  const silenceMs = quick ? QUICK_SILENCE_MS : SILENCE_MS;
  const faults: Fault[] = [
    ...PARTS.map((part): Fault => killed([part], [part], true)),
    killed(["edge", "agent"], ["edge", "agent"], false),
    killed(["agent", "edge"], ["agent", "edge"], false),
    killed(["master", "edge"], ["edge", "master"], false),
    killed(["endpoint", "agent"], ["agent", "endpoint"], false),
    killed(["edge", "master", "agent", "endpoint"], ["agent", "endpoint", "master", "edge"], false),
    ...PARTS.map((part): Fault => stopped(part, silenceMs)),
    silent(silenceMs),
    {
      name: "the network cuts every connection",
      quick: true,
      recoveryMs: 15_000,
      told: { part: "agent", text: /connection_lost/ },
      async run(world) {
        world.relay.cut();
        await wait(500);
      },
    },
    {
      name: "the network delays by 300 ms",
      quick: false,
      recoveryMs: 15_000,
      async run(world) {
        world.relay.mode = "delay";
        await wait(5_000);
        world.relay.mode = "pass";
      },
    },
    {
      name: "the agent's data folder vanishes, then the agent",
      quick: true,
      recoveryMs: 30_000,
      async run(world) {
        await rm(join(world.folder, "agent"), { recursive: true, force: true });
        await wait(500);
        await world.kill("agent");
        await world.launch("agent");
      },
    },
    {
      name: "the data folder of edge and master is gone for 2 s",
      quick: true,
      recoveryMs: 15_000,
      async run(world) {
        const [place, elsewhere] = [join(world.folder, "data"), join(world.folder, "elsewhere")];
        await rename(place, elsewhere);
        try {
          // What runs has its keys in memory; the agent gets a token and comes back.
          world.relay.cut();
          await wait(2_000);
          await world.recovered();
        } finally {
          await rm(place, { recursive: true, force: true });
          await rename(elsewhere, place);
        }
      },
    },
    crowd(),
    {
      name: "the edge has 128 file descriptors, and 300 strangers",
      quick: true,
      recoveryMs: 15_000,
      async run(world) {
        await world.kill("edge");
        await world.launch("edge", { before: "ulimit -n 128" });
        await world.recovered();
        const hangUp = await strangers(world, 300);
        await wait(1_000);
        hangUp();
        await world.recovered();
        if (!/no connections are accepted/.test(world.programs.get("edge")!.stderr)) {
          throw new Error("the edge's log says nothing of its file descriptors");
        }
        await world.kill("edge");
        await world.launch("edge");
      },
    },
    {
      name: "the logs of edge and agent lie on a full disk",
      quick: true,
      recoveryMs: 15_000,
      async run(world) {
        for (const part of ["edge", "agent"] as const) {
          await world.kill(part);
          await world.launch(part, { behind: "2>/dev/full" });
        }
        await world.recovered();
        for (const part of ["edge", "agent"] as const) {
          await world.kill(part);
          await world.launch(part);
        }
      },
    },
  ];
  return quick ? faults.filter((fault) => fault.quick) : faults;
}

function killed(order: readonly Part[], restart: readonly Part[], quick: boolean): Fault {
  const from = order.length === 1 ? "" : `, started again: ${restart.join(", ")}`;
  return {
    name: `kill -9: ${order.join(", ")}${from}`,
    quick,
    // The first visitor after an edge's restart is served within a second.
    recoveryMs: order.join() === "edge" ? 1_000 : 30_000,
    async run(world) {
      for (const part of order) await world.kill(part);
      await wait(300);
      for (const part of restart) await world.launch(part);
    },
  };
}

function stopped(part: Part, forMs: number): Fault {
  return {
    name: `SIGSTOP for ${forMs / 1000} s: ${part}`,
    quick: part !== "master",
    recoveryMs: 30_000,
    async run(world) {
      world.signal(part, "SIGSTOP");
      try {
        await wait(forMs);
      } finally {
        world.signal(part, "SIGCONT");
      }
    },
  };
}

function silent(forMs: number): Fault {
  return {
    name: `the network is silent for ${forMs / 1000} s, then cuts`,
    quick: true,
    recoveryMs: 30_000,
    async run(world) {
      world.relay.mode = "stall";
      await wait(forMs);
      world.relay.cut();
      world.relay.mode = "pass";
    },
  };
}

/** Connections that say nothing, more than one source may have. */
function crowd(): Fault {
  return {
    name: "2,000 strangers come, say nothing, and leave",
    quick: true,
    recoveryMs: 15_000,
    async run(world) {
      const hangUp = await strangers(world, 2_000);
      await wait(500);
      hangUp();
    },
  };
}

/** Opens connections that say nothing; the answer ends them. */
async function strangers(world: World, count: number): Promise<() => void> {
  const sockets: Socket[] = [];
  for (let i = 0; i < count; i++) {
    const socket = connect(world.edgePort, "127.0.0.1");
    socket.on("error", () => {});
    sockets.push(socket);
    if (i % 50 === 0) await wait(5);
  }
  return () => sockets.forEach((socket) => socket.destroy());
}
