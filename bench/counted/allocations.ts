/**
 * Where a visitor's memory is allocated, by heap sampling: `bench:counted --allocations`. V8 alone counts what has been
 * collected already.
 *
 * @module
 */
import { Session } from "node:inspector";
import process from "node:process";
import { startTunnel } from "./visitors.ts";

const VISITORS = 2_000;
/** Bytes between two samples on average. */
const INTERVAL_BYTES = 256;

interface Node {
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  readonly selfSize: number;
  readonly children: readonly Node[];
}

/** Bytes that one function allocates for each visitor, at edge and agent together. */
export interface Site {
  readonly name: string;
  readonly bytes: number;
}

/** Samples so many visitors, after as many others; the largest sites come first. Throws where the runtime can't. */
export async function sampleAllocations(visitors = VISITORS): Promise<readonly Site[]> {
  if (process.versions.bun !== undefined) {
    throw new Error("Cannot sample allocations: only V8 can, so use Deno");
  }
  const session = new Session();
  session.connect();
  const post = (method: string, options?: object): Promise<unknown> =>
    new Promise((resolve, reject) =>
      session.post(method, options, (error, result) => error ? reject(error) : resolve(result))
    );
  const tunnel = await startTunnel("aes-cbc");
  for (let i = 0; i < visitors; i++) await tunnel.visit();
  await post("HeapProfiler.startSampling", {
    samplingInterval: INTERVAL_BYTES,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true,
  });
  for (let i = 0; i < visitors; i++) await tunnel.visit();
  const { profile } = await post("HeapProfiler.stopSampling") as {
    readonly profile: { readonly head: Node };
  };
  session.disconnect();
  const sites = new Map<string, number>();
  const add = ({ callFrame: { functionName, url, lineNumber }, selfSize, children }: Node): void => {
    const file = url.replace(/^.*\/(?=(src|bench)\/)/, "");
    const name = `${functionName || "(anonymous)"} ${file}:${lineNumber + 1}`;
    sites.set(name, (sites.get(name) ?? 0) + selfSize);
    children.forEach(add);
  };
  add(profile.head);
  return [...sites].map(([name, bytes]) => ({ name, bytes: bytes / visitors })).toSorted((a, b) =>
    b.bytes - a.bytes
  );
}
