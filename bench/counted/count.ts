/**
 * Counts for each visitor and each echo, and their comparison with those that were kept.
 *
 * @module
 */
import process from "node:process";
import v8 from "node:v8";
import { runInNewContext } from "node:vm";
import type { CipherName } from "../../src/crypto/header_cipher.ts";
import type { Asked } from "./loopback.ts";
import { startTunnel } from "./visitors.ts";

/** Figures by name, such as `visitor.writes`. */
export type Counts = Readonly<Record<string, number>>;

/** A count may be so much larger than the kept one: less than one write of a visitor's ten. */
const MARGIN = 1.02;
/** The same for allocations, which vary by a few percent. */
const BYTES_MARGIN = 1.1;
/** Steps before the compilers have seen enough, and steps that are counted. */
const WARM_UP = 2_000;
const COUNTED = 1_000;
const CIPHERS: readonly CipherName[] = ["aes-cbc", "aes-gcm"];

/** Counts it all; takes some seconds. */
export async function countTunnel(): Promise<Counts> {
  const counts: Record<string, number> = {};
  for (const cipher of CIPHERS) {
    const tunnel = await startTunnel(cipher);
    const stays = await tunnel.open();
    const [small, large] = [new Uint8Array(64), new Uint8Array(64 * 1024)];
    const steps: readonly (readonly [string, number, () => Promise<void>])[] = [
      ["visitor", 0, () => tunnel.visit()],
      ["echo of 64", small.length, () => stays.echo(small)],
      ["echo of 65536", large.length, () => stays.echo(large)],
    ];
    for (const [name, byteLength, step] of steps) {
      const found = await count(tunnel.asked, step);
      if (byteLength <= OBJECT_STEP_MAX_BYTES) Object.assign(found, await countObjects(step));
      for (const [what, value] of Object.entries(found)) counts[`${cipher}, ${name}: ${what}`] = value;
    }
  }
  return counts;
}

/** What has become dearer than what was kept, in words. */
export function dearer(counts: Counts, baseline: Counts): string[] {
  return Object.entries(counts).flatMap(([name, value]) => {
    const kept = baseline[name];
    const margin = name.endsWith("bytes allocated") ? BYTES_MARGIN : MARGIN;
    if (kept === undefined || value <= kept * margin + 0.05) return [];
    return [
      `${name}: ${value.toFixed(2)}, was ${
        kept.toFixed(2)
      }. Make it cheaper, or keep it with bench:counted --write and say why`,
    ];
  });
}

async function count(asked: Asked, step: () => Promise<void>): Promise<Record<string, number>> {
  for (let i = 0; i < WARM_UP; i++) await step();
  const before = { ...asked };
  const bytes = allocatedBytes();
  for (let i = 0; i < COUNTED; i++) await step();
  const allocated = allocatedBytes() - bytes;
  const each = (name: keyof Asked): number => (asked[name] - before[name]) / COUNTED;
  return {
    ...{ writes: each("writes"), turns: each("turns"), timers: each("timers"), pauses: each("pauses") },
    ...hasAllocations ? { "bytes allocated": allocated / COUNTED } : {},
  };
}

/** What JavaScriptCore calls them, and what we do. */
const KINDS = { Function: "functions made", Promise: "promises made" };
const OBJECT_STEPS = 100;
/** With more, something would be collected meanwhile; it counts what is there. */
const OBJECT_STEP_MAX_BYTES = 4_096;

/**
 * Functions and promises by JavaScriptCore's count; nothing elsewhere. The benchmark's own are among them. The
 * environments of functions are not counted: a compiler leaves some of them out.
 */
async function countObjects(step: () => Promise<void>): Promise<Record<string, number>> {
  if (hasAllocations) return {};
  const { gcAndSweep, heapStats } = await import(["bun", "jsc"].join(":")) as {
    gcAndSweep(): void;
    heapStats(): { readonly objectTypeCounts: Readonly<Record<string, number>> };
  };
  gcAndSweep();
  const before = heapStats().objectTypeCounts;
  for (let i = 0; i < OBJECT_STEPS; i++) await step();
  const now = heapStats().objectTypeCounts;
  return Object.fromEntries(
    Object.entries(KINDS).map((
      [kind, name],
    ) => [name, ((now[kind] ?? 0) - (before[kind] ?? 0)) / OBJECT_STEPS]),
  );
}

/** Steps between two looks at the old generation: fewer than a collection of the young one takes. */
const LOOK_EVERY = 10;

/**
 * Bytes for each visitor that a collector of the young generation moves to the old one, although the visitor has left;
 * undefined where the runtime doesn't count them. Something old that still refers to visitors makes it thousands.
 */
export async function countPromoted(): Promise<number | undefined> {
  if (!hasAllocations) return undefined;
  const tunnel = await startTunnel("aes-cbc");
  for (let i = 0; i < WARM_UP; i++) await tunnel.visit();
  // Twice, so that all that lasts is old.
  v8.setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  collect();
  let [promoted, before] = [0, oldBytes()];
  for (let i = 0; i < COUNTED; i++) {
    await tunnel.visit();
    if (i % LOOK_EVERY > 0) continue;
    const now = oldBytes();
    promoted += Math.max(0, now - before);
    before = now;
  }
  return promoted / COUNTED;
}

function oldBytes(): number {
  return v8.getHeapSpaceStatistics().filter(({ space_name }) => space_name === "old_space").reduce(
    (sum, { space_used_size }) => sum + space_used_size,
    0,
  );
}

/** V8 alone counts what has been allocated; JavaScriptCore has the field, and puts something else in it. */
const hasAllocations = process.versions.bun === undefined;

function allocatedBytes(): number {
  const statistics: object = v8.getHeapStatistics();
  return "total_allocated_bytes" in statistics ? Number(statistics.total_allocated_bytes) : 0;
}
