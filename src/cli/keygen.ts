/**
 * `keygen`: generates a Fernet key.
 *
 * @module
 */
import { addExamples, type CliContext, type Command } from "./command.ts";
import { makeFernetKey } from "./keys.ts";

/** Adds the command. */
export function addKeygen(program: Command, { io }: CliContext): void {
  const command = program.command("keygen").description("Make a Fernet key, and print it.");
  addExamples(command, io, [
    {
      what: "rotate: the new key first, the old one after it until its tokens have expired",
      args: "keygen > new.keys",
    },
    { what: "both then serve", args: "--fernet-keys-file new.keys" },
  ]);
  command.action(() => io.out(makeFernetKey()));
}
