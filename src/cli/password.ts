/**
 * `agent password`: hashes a password for a service's `basic_auth`.
 *
 * @module
 */
import process from "node:process";
import { hashPassword } from "../agent/gate/password_hash.ts";
import { SallyportError } from "../errors.ts";
import { addExamples, type CliContext, type Command } from "./command.ts";

/** Longest password. */
const PASSWORD_MAX_BYTES = 1_024;

/** Adds the subcommand to `agent`. */
export function addPassword(agent: Command, { io }: CliContext): void {
  const command = agent.command("password").description(
    "Read a password from standard input, and print its hash for basic_auth in a configuration file.",
  );
  addExamples(command, io, [{
    what: "from a file, which holds one line",
    args: "agent password < password.txt",
  }]);
  command.action(async () => {
    let text = "";
    for await (const part of process.stdin) {
      text += String(part);
      if (text.includes("\n") || text.length > PASSWORD_MAX_BYTES) break;
    }
    const [password = ""] = text.split(/\r?\n/);
    if (password === "" || password.length > PASSWORD_MAX_BYTES) {
      const why = `standard input has none, or one of more than ${PASSWORD_MAX_BYTES} characters`;
      throw new SallyportError("config_invalid", `Cannot make hash of password: ${why}`, { side: "config" });
    }
    io.out(await hashPassword(password));
  });
}
