/** A program in which things are thrown that nothing catches: it goes on, and tells what it has logged and counted. */
import { watchProcess } from "../../src/cli/lifecycle.ts";
import { reportFault } from "../../src/telemetry/faults.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";

const metrics = new Metrics();
const log = createLogger({ level: "info", format: "json", write: (line) => console.log(line.trimEnd()) });
const undo = watchProcess((error) => reportFault(error, { log, metrics }));
setTimeout(() => {
  throw new TypeError("from a timer");
}, 1);
setTimeout(() => void Promise.reject(new TypeError("from a promise")), 20);
setTimeout(async () => {
  undo();
  const counted = /sallyport_internal_errors_total\{where="process"\} (\d+)/.exec(await metrics.render())
    ?.[1];
  console.log(JSON.stringify({ counted: Number(counted) }));
}, 100);
