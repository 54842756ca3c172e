/**
 * What is done to a world. Each fault leaves it whole again, apart from the time that it takes to recover.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { appendFile, rename, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { type Launch, type Part, PARTS, type World } from "./world.ts";

/** A fault. */
export interface Fault {
  readonly name: string;
  /** Part of the quick run. */
  readonly quick: boolean;
  /** From the end of the fault, visits must be served again within this time. */
  readonly recoveryMs: number;
  /** What the agent's or the edge's log must say of it afterwards. */
  readonly told?: { readonly part: "agent" | "edge" | "master"; readonly text: RegExp };
  /** Whether this machine can do it. Defaults to yes. */
  possible?(): boolean;
  run(world: World): Promise<void>;
}

/** How long something is stopped or silent: longer than anybody's patience. */
const SILENCE_MS = 20_000;
const QUICK_SILENCE_MS = 4_000;
/** How long several are stopped, and the pause between one and the next. */
const PAUSE_MS = 2_000;
const BETWEEN_MS = 100;
/** By then an edge has looked for sessions that are over. */
const SWEPT_MS = 6_000;
/** A visit over a session that is there is served within this time. */
const SERVED_MS = 2_000;
/** An agent whose connection was cut is back within this time. */
const BACK_MS = 15_000;

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The faults of a run. */
export function makeFaults(quick: boolean): Fault[] {
  const silenceMs = quick ? QUICK_SILENCE_MS : SILENCE_MS;
  const faults: Fault[] = [
    ...PARTS.map((part): Fault => killed([part], [part], true)),
    {
      name: "kill -9: edge, for 5 s, behind a proxy that accepts",
      quick: true,
      recoveryMs: 1_000,
      async run(world) {
        // Not by world.kill(), by which the relay refuses connections meanwhile.
        await world.programs.get("edge")!.kill();
        await wait(5_000);
        await world.launch("edge");
      },
    },
    killed(["edge", "agent"], ["edge", "agent"], false),
    killed(["agent", "edge"], ["agent", "edge"], false),
    killed(["master", "edge"], ["edge", "master"], false),
    killed(["endpoint", "agent"], ["agent", "endpoint"], false),
    killed(["edge", "master", "agent", "endpoint"], ["agent", "endpoint", "master", "edge"], false),
    ...orders(PARTS).map((order) => killed(order, PARTS, false)),
    ...PARTS.map((part): Fault => stopped([part], silenceMs)),
    ...orders(PARTS).map((order) => stopped(order, PAUSE_MS)),
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
      name: "the network loses every tenth chunk, which comes late",
      quick: true,
      recoveryMs: 15_000,
      async run(world) {
        world.relay.mode = "lose";
        await wait(5_000);
        world.relay.mode = "pass";
      },
    },
    overCurve(silenceMs),
    clocks(),
    fullDisk(),
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
        await relaunch(world, ["edge"], { before: "ulimit -n 128" });
        await world.recovered();
        const hangUp = await strangers(world, 300);
        await wait(1_000);
        hangUp();
        await world.recovered();
        await mustSay(world, "edge", /no connections are accepted/);
        await relaunch(world, ["edge"]);
      },
    },
    {
      name: "the agent has 64 file descriptors, and 300 visitors",
      quick: true,
      recoveryMs: 15_000,
      async run(world) {
        await relaunch(world, ["agent"], { before: "ulimit -n 64" });
        await world.recovered();
        const hangUp = await visitors(world, 300);
        await wait(1_000);
        hangUp();
        await world.recovered();
        await mustSay(world, "agent", /file descriptors/);
        await relaunch(world, ["agent"]);
      },
    },
    {
      name: "the logs of edge and agent lie on a full disk",
      quick: true,
      recoveryMs: 15_000,
      async run(world) {
        await relaunch(world, ["edge", "agent"], { behind: "2>/dev/full" });
        await world.recovered();
        await relaunch(world, ["edge", "agent"]);
      },
    },
  ];
  return faults.filter((fault) => (fault.quick || !quick) && (fault.possible?.() ?? true));
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

function stopped(order: readonly Part[], forMs: number): Fault {
  return {
    name: `SIGSTOP for ${forMs / 1000} s: ${order.join(", ")}`,
    quick: order.length === 1 && order[0] !== "master",
    recoveryMs: 30_000,
    async run(world) {
      for (const part of order) {
        world.signal(part, "SIGSTOP");
        await wait(BETWEEN_MS);
      }
      try {
        await wait(forMs);
      } finally {
        for (const part of order) {
          world.signal(part, "SIGCONT");
          await wait(BETWEEN_MS);
        }
      }
    },
  };
}

/** All orders of some parts. */
function orders(parts: readonly Part[]): Part[][] {
  if (parts.length <= 1) return [[...parts]];
  return parts.flatMap((first) =>
    orders(parts.filter((part) => part !== first)).map((rest) => [first, ...rest])
  );
}

/** Kills parts and starts them again, in this way. */
async function relaunch(world: World, parts: readonly Part[], how?: Launch): Promise<void> {
  for (const part of parts) {
    await world.kill(part);
    await world.launch(part, how);
  }
}

/** Waits until a part's log says this, which can take longer than its answer to a request; rejects where it doesn't. */
async function mustSay(world: World, part: Part, text: RegExp): Promise<void> {
  await world.programs.get(part)!.seen(text, "stderr");
}

/** A session over UDP whose network loses packets, then goes silent without an end. */
function overCurve(silentMs: number): Fault {
  return {
    name: `curve: a tenth is lost, then ${silentMs / 1000} s of silence`,
    quick: true,
    recoveryMs: 30_000,
    async run(world) {
      await relaunch(world, ["edge", "agent"], { curve: true });
      await world.recovered();
      world.udpRelay.mode = "lose";
      await wait(3_000);
      await world.recovered();
      world.udpRelay.mode = "stall";
      await wait(silentMs);
      world.udpRelay.mode = "pass";
      await world.recovered();
      await relaunch(world, ["edge", "agent"]);
    },
  };
}

/** Wall clocks that are set ahead and back by hours, together and apart. */
function clocks(): Fault {
  const parts = ["edge", "master", "agent"] as const;
  const together: readonly Part[][] = [[...parts], ["edge"], ["agent"], ["master"]];
  return {
    name: "the clocks are set 3 h ahead, 3 h back, and right again",
    quick: true,
    recoveryMs: 30_000,
    async run(world) {
      await relaunch(world, parts, { clock: true });
      await world.recovered();
      for (const jumping of together) {
        for (const hours of [3, -3, 0]) {
          for (const part of jumping) await world.setClock(part, hours * 3_600_000);
          await wait(jumping.includes("edge") ? SWEPT_MS : BETWEEN_MS);
          // The session that is there stays.
          if (await world.recovered() > SERVED_MS) throw new Error(`${jumping} at ${hours} h: visits wait`);
          // Clocks that agree, or that are right again, let a new session in.
          if (jumping.length < parts.length && hours !== 0) continue;
          world.relay.cut();
          await wait(BETWEEN_MS);
          await world.recovered(BACK_MS);
        }
      }
      await relaunch(world, parts);
    },
  };
}

/** The folders of edge, master and agent are disks without room for a byte. */
function fullDisk(): Fault {
  const parts = ["edge", "master", "agent"] as const;
  const roomFor = (folder: string) =>
    `cp -a '${folder}' '${folder}.copy' && mount -t tmpfs -o size=8m tmpfs '${folder}' && ` +
    `cp -a '${folder}.copy/.' '${folder}' && rm -rf '${folder}.copy'`;
  const filler = (world: World, part: Part) =>
    `/proc/${world.programs.get(part)!.pid}/root${join(world.dataOf(part), "filler")}`;
  return {
    name: "the disks of edge, master and agent are full",
    quick: true,
    recoveryMs: 15_000,
    possible: () => spawnSync("unshare", ["--mount", "true"]).status === 0,
    async run(world) {
      for (const part of parts) {
        const how = { ownMounts: true, before: roomFor(world.dataOf(part)) };
        await relaunch(world, [part], how);
      }
      await world.recovered();
      for (const part of parts) await fill(filler(world, part));
      // The agent gets a token for a new session all the same.
      world.relay.cut();
      await wait(BETWEEN_MS);
      await world.recovered(BACK_MS);
      const refused = await world.addAgent("b.example.org");
      if (refused !== 503) throw new Error(`the master answered with ${refused}`);
      await mustSay(world, "master", /disk is full/);
      for (const part of parts) await rm(filler(world, part));
      await world.recovered();
      const added = await world.addAgent("b.example.org");
      if (added !== 201) throw new Error(`the master answered with ${added} once there was room`);
      for (const part of parts) {
        const code = await world.ends(part);
        if (code !== 0) throw new Error(`the ${part} ended with ${code}`);
        await world.launch(part);
      }
    },
  };
}

/** Writes to a file until the disk is full. */
async function fill(file: string): Promise<void> {
  for (let size = 64 * 1024; size >= 1;) {
    try {
      await appendFile(file, new Uint8Array(size));
    } catch {
      size /= 4;
    }
  }
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
const strangers = (world: World, count: number) => connections(world, count, new Uint8Array(0));

/** The same with visitors, who say no more than whom they want. */
const visitors = (world: World, count: number) => connections(world, count, world.hello);

async function connections(world: World, count: number, first: Uint8Array): Promise<() => void> {
  const sockets: Socket[] = [];
  for (let i = 0; i < count; i++) {
    const socket = connect(world.edgePort, "127.0.0.1", () => socket.write(first));
    socket.on("error", () => {});
    sockets.push(socket);
    if (i % 50 === 0) await wait(5);
  }
  return () => sockets.forEach((socket) => socket.destroy());
}
