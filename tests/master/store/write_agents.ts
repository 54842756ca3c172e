/** Adds agents to the store at the path in the arguments, one after the other, until it is killed. */
import process from "node:process";
import { openStore } from "../../../src/master/store/sql_store.ts";
import { entry, someAgent } from "../../conformance/store_suite.ts";

const store = await openStore(process.argv[2]!);
for (let index = 0; index < 100_000; index++) {
  await store.addAgent(someAgent(`n${index}`), undefined, entry("agent.created"));
  process.stdout.write(`${JSON.stringify({ event: "added", id: String(index) })}\n`);
}
