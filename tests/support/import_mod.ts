/**
 * Run as a process of its own: imports the library, and prints as JSON what that changed in the process and which of the
 * main names are missing. It ends when nothing keeps it alive.
 *
 * @module
 */
import process from "node:process";

const SIGNS = [
  "createEdge",
  "createAgent",
  "createMasterApp",
  "currentRuntime",
  "createToken",
  "SallyportError",
];

const listenersBefore = listeners();
const library: Record<string, unknown> = await import("../../mod.ts");
const after = listeners();

console.log(JSON.stringify({
  missing: SIGNS.filter((name) => typeof library[name] !== "function"),
  listeners: [...after].filter((name) => !listenersBefore.has(name)),
}));

/** Events of the process that somebody listens to. */
function listeners(): Set<string> {
  return new Set(process.eventNames().map(String));
}
