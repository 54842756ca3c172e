/**
 * The process as a boundary: what nothing else has caught is told and counted, and the process goes on, because one
 * fault is no reason to end every session and visitor.
 *
 * @module
 */
import process from "node:process";
import { InternalError } from "../errors.ts";

/** Hands `report` what would have ended the process; the answer undoes it. */
export function watchProcess(report: (error: InternalError) => void): () => void {
  const caught = (thrown: unknown) => report(new InternalError("process", thrown));
  process.on("uncaughtException", caught);
  process.on("unhandledRejection", caught);
  return () => {
    process.off("uncaughtException", caught);
    process.off("unhandledRejection", caught);
  };
}
