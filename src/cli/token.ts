/**
 * `token`: issues a token offline, using only the keys.
 *
 * @module
 */
import type { Config } from "../config/config.ts";
import type { FernetRing } from "../crypto/fernet.ts";
import { SallyportError } from "../errors.ts";
import { createToken } from "../protocol/token/token.ts";
import { formatPublishClaim, PUBLISH_MEMBER } from "../wire/token/claims.ts";
import { addExamples, addSettings, type CliContext, type Command, readSettings } from "./command.ts";
import { Keys } from "./keys.ts";
import { TOKEN_MAX_BYTES } from "../wire/token/token_payload.ts";

/** Adds the command. */
export function addToken(program: Command, { io }: CliContext): void {
  const command = program.command("token").description(
    "Make a token without a session master, and print it. Anyone who has it can serve its names until it expires.",
  );
  addSettings(command, "token").option(
    "--json",
    "print the token, its key material and its claims as JSON",
  );
  addExamples(command, io, [
    { what: "with the keys of the data folder", args: "token --hostname home.example.org" },
    {
      what: "for a SniTun client, with all that it needs",
      args: "token --hostname home.example.org --cipher aes-cbc --json",
    },
  ]);
  command.action(async () => {
    const { config } = readSettings(command, "token", io);
    const keys = new Keys(config);
    const ring = await keys.existingFernet();
    for (const warning of keys.warnings) io.err(`Warning: ${warning}`);
    const made = makeToken(ring.value, config, Date.now());
    io.out(command.opts().json === true ? JSON.stringify(made, undefined, 2) : made.token);
  });
}

/** Issues a token with fresh key material; the members are those of the session master's response. */
function makeToken(
  ring: FernetRing,
  config: Pick<Config, "hostname" | "alias" | "protocolVersion" | "cipher" | "publish" | "ttl">,
  nowMs: number,
) {
  const { hostname = "", cipher, protocolVersion, ttl } = config;
  const publish = config.publish.map(formatPublishClaim);
  const aliases = [...new Set(config.alias)].filter((name) => name !== hostname);
  const { token, claims } = createToken(ring, {
    ...{ hostname, aliases, cipher, protocolVersion },
    ...{ nowMs, ttlSeconds: ttl },
    extra: publish.length > 0 ? { [PUBLISH_MEMBER]: publish } : {},
  });
  if (token.length > TOKEN_MAX_BYTES) {
    const message =
      `Cannot make a token: with these names it has ${token.length} bytes, edges accept at most ${TOKEN_MAX_BYTES}`;
    throw new SallyportError("config_invalid", message, { side: "config" });
  }
  return {
    token,
    hostname: claims.hostname,
    alias: claims.aliases,
    aes_key: claims.aesKey.toHex(),
    aes_iv: claims.aesIv.toHex(),
    cipher: claims.cipher,
    protocol_version: claims.protocolVersion,
    publish,
    valid: claims.valid,
  };
}
