/**
 * `pipe`: sends a file, a FIFO or standard input to another machine, encrypted from the first byte, and receives it
 * there. It is compatible with the programs of sodium-tcp (docs/protocols/pipe.md).
 *
 * @module
 */
import { stat } from "node:fs/promises";
import process from "node:process";
import type { Bytes } from "../bytes/bytes.ts";
import { byteSize } from "../config/values.ts";
import { chooseAeads } from "../crypto/aead.ts";
import { loadSodium } from "../crypto/sodium.ts";
import { SallyportError } from "../errors.ts";
import { ProgressMeter } from "../pipe/progress.ts";
import { receivePipe } from "../pipe/receive.ts";
import { sendPipe } from "../pipe/send.ts";
import { SessionLog } from "../pipe/session_log.ts";
import { descriptorSink, fileSink, type PipeSink, type SinkHost } from "../pipe/sink.ts";
import { type ByteSource, openSource, sourceOf } from "../pipe/source.ts";
import { currentRuntime } from "../runtime/mod.ts";
import type { Address, Clock } from "../runtime/port.ts";
import { libsodiumBuild } from "./sealed.ts";
import { addExamples, type CliContext, type Command } from "./command.ts";
import type { CliIo } from "./io.ts";
import {
  formatKey,
  LOGIN_ENV,
  makeKeyFile,
  parseKey,
  PASSPHRASE_ENV,
  PUBLIC_KEY_ENV,
  readCredentials,
  readKeyPair,
  SECRET_KEY_ENV,
} from "./pipe_keys.ts";
import { formatHostPort, splitHostPort } from "../wire/ip/host_port.ts";

/** sodium-tcp's default port. */
const DEFAULT_PORT = 1234;
const STDIN = 0;
const STDOUT = 1;

interface CommonFlags {
  readonly credentialsFile?: string;
  readonly plain?: boolean;
  readonly quiet?: boolean;
}

interface SendFlags extends CommonFlags {
  readonly to: string;
  readonly publicKey?: string;
}

interface ReceiveFlags extends CommonFlags {
  readonly listen: string;
  readonly keyFile?: string;
  readonly sessionsFile?: string;
  readonly force?: boolean;
  readonly maxSize?: string;
}

/** Adds the command. */
export function addPipe(program: Command, context: CliContext): void {
  const pipe = program.command("pipe").description(
    "Send a file, a FIFO or standard input to another machine, encrypted from the first byte.",
  );
  addKeygen(pipe, context);
  addSend(pipe, context);
  addReceive(pipe, context);
}

function addKeygen(pipe: Command, { io }: CliContext): void {
  const command = pipe.command("keygen").argument("<file>", "file for the secret key; must not exist");
  command.description(
    "Make a receiver's key: the secret half is written to a file, the public half is printed.",
  );
  addExamples(command, io, [{ what: "once, on the receiving machine", args: "pipe keygen data/pipe.key" }]);
  command.action(async (path: string) => {
    io.out(await makeKeyFile(await loadSodium(libsodiumBuild()), path));
  });
}

function addSend(pipe: Command, context: CliContext): void {
  const { io } = context;
  const command = pipe.command("send").argument("[file]", "a file or FIFO; absent or -: standard input");
  command.description("Send to a receiver; ends with 0 when it has confirmed every byte.");
  command.requiredOption("--to <host:port>", `the receiver (default port: ${DEFAULT_PORT})`);
  command.option("--public-key <hex>", `the receiver's public key, 64 hex digits (${PUBLIC_KEY_ENV})`);
  addCommon(command);
  addExamples(command, io, [
    { what: "a file", args: "pipe send --to host.example.org:1234 --public-key <hex> backup.tar" },
    {
      what: "the output of another program",
      args: "pipe send --to host.example.org:1234 --public-key <hex> <data",
    },
  ]);
  command.action(async (file: string | undefined) => {
    await run(context, (signal) => send(io, file ?? "-", command.opts<SendFlags>(), signal));
  });
}

function addReceive(pipe: Command, context: CliContext): void {
  const { io } = context;
  const command = pipe.command("receive").argument(
    "[file]",
    "destination file; absent or -: standard output",
  );
  command.description("Receive one transfer; ends with 0 when all of it is stored.");
  command.option("--listen <host:port>", "address to listen on", `0.0.0.0:${DEFAULT_PORT}`);
  command.option("--key-file <file>", `the secret key (${SECRET_KEY_ENV}); pipe keygen makes one`);
  command.option(
    "--sessions-file <file>",
    "file that records sessions, so that none is replayed (default: KEY-FILE.sessions)",
  );
  command.option("--force", "replace a file that exists");
  command.option("--max-size <size>", "refuse a transfer that is longer, 10GB for example");
  addCommon(command);
  addExamples(command, io, [
    { what: "into a file", args: "pipe receive --key-file data/pipe.key data/backup.tar" },
    { what: "into another program", args: "pipe receive --key-file data/pipe.key | tar x" },
  ]);
  command.action(async (file: string | undefined) => {
    await run(context, (signal) => receive(io, file ?? "-", command.opts<ReceiveFlags>(), signal));
  });
}

function addCommon(command: Command): void {
  command.option(
    "--credentials-file <file>",
    `login and passphrase, a line each (${LOGIN_ENV}, ${PASSPHRASE_ENV})`,
  );
  command.option("--plain", "treat a Sallyport like the C programs of sodium-tcp");
  command.option("--quiet", "show no progress");
}

/** Runs a transfer; a signal ends it in order, a second one at once. */
async function run({ io }: CliContext, start: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController();
  const undo = io.onStop(() => {
    if (controller.signal.aborted) io.exit(1);
    controller.abort();
  });
  try {
    await start(controller.signal);
  } finally {
    undo();
  }
}

async function send(io: CliIo, file: string, flags: SendFlags, signal: AbortSignal): Promise<void> {
  const to = parseAddress(flags.to, "--to");
  const keyText = flags.publicKey ?? io.env[PUBLIC_KEY_ENV];
  if (keyText === undefined) {
    throw wrong(`Cannot start: the receiver's key is missing. Give --public-key or ${PUBLIC_KEY_ENV}`);
  }
  const serverPublicKey = parseKey(keyText, flags.publicKey === undefined ? PUBLIC_KEY_ENV : "--public-key");
  const credentials = await readCredentials(flags.credentialsFile, io);
  const [sodium, runtime] = [await loadSodium(libsodiumBuild()), await currentRuntime()];
  const { clock } = runtime;
  const source = await stopped(openInput(file, clock), signal, (late) => late.close());
  const meter = new ProgressMeter(progressOutput(flags), clock.nowMs());
  try {
    const result = await sendPipe({
      ...credentials,
      ...{ sodium, aeads: chooseAeads(sodium, runtime), runtime, to, serverPublicKey, source, signal },
      extended: flags.plain !== true,
      progress: (bytes, total) => meter.update(bytes, total, clock.nowMs()),
    });
    meter.update(result.bytes, source.sizeBytes, clock.nowMs());
    meter.clear();
    const how = result.extended ? "confirmed, and in its place" : "confirmed";
    if (flags.quiet !== true) io.err(`Sent ${meter.summary(clock.nowMs())}: ${how}`);
  } finally {
    meter.clear();
  }
}

async function receive(io: CliIo, file: string, flags: ReceiveFlags, signal: AbortSignal): Promise<void> {
  const listen = parseAddress(flags.listen, "--listen");
  if (file === "-" && process.stdout.isTTY) {
    throw wrong("Cannot write to a terminal: name a file, or use a pipe");
  }
  const maxBytes = flags.maxSize === undefined ? undefined : parseSize(flags.maxSize, "--max-size");
  const credentials = await readCredentials(flags.credentialsFile, io);
  const [sodium, runtime] = [await loadSodium(libsodiumBuild()), await currentRuntime()];
  const { clock } = runtime;
  const keys = await readKeyPair(sodium, flags.keyFile, io);
  const sessions = await openSessions(flags, sodium.randomBytes, io);
  let meter = new ProgressMeter(progressOutput(flags), clock.nowMs());
  const say = (line: string): void => {
    meter.clear();
    if (flags.quiet !== true) io.err(line);
  };
  try {
    const result = await receivePipe({
      ...credentials,
      ...{ sodium, aeads: chooseAeads(sodium, runtime), runtime, listen, keys, signal },
      extended: flags.plain !== true,
      ...maxBytes === undefined ? {} : { maxBytes },
      claim: sessions,
      sink: (host) => openOutput(file, flags.force === true, sodium.randomBytes, clock, host),
      listening: ({ host, port }) => {
        say(`Listening on ${formatHostPort({ host, port })}, public key ${formatKey(keys.publicKey)}`);
      },
      accepted: (from) => {
        meter = new ProgressMeter(progressOutput(flags), clock.nowMs());
        say(`Receiving from ${formatHostPort(from)}`);
      },
      refused: (from, error, limited) => {
        say(
          `Refused ${formatHostPort(from)}: ${error.message}${limited ? "; it is ignored for a minute" : ""}`,
        );
      },
      progress: (bytes, total) => meter.update(bytes, total, clock.nowMs()),
    });
    meter.update(result.bytes, undefined, clock.nowMs());
    say(`Received ${meter.summary(clock.nowMs())}`);
    if (!result.certain) {
      say("The sender's program doesn't mark the end: only the sender knows whether this was everything");
    }
  } finally {
    meter.clear();
  }
}

/** Sessions seen, stored next to the key file, or at the flag's path for a key from the environment. */
async function openSessions(
  flags: ReceiveFlags,
  random: (into: Bytes) => void,
  io: CliIo,
): Promise<(id: Bytes) => boolean> {
  const path = flags.sessionsFile ?? (flags.keyFile === undefined ? undefined : `${flags.keyFile}.sessions`);
  if (path === undefined) {
    throw wrong(
      `Cannot start: with ${SECRET_KEY_ENV} give --sessions-file too, so that no session is replayed`,
    );
  }
  const fresh = await stat(path).then(() => false, () => true);
  const log = new SessionLog(path, random);
  if (fresh && flags.quiet !== true) io.err(`Sessions seen are kept in ${path}: it belongs to the key`);
  return (id) => log.claim(id);
}

function openInput(file: string, clock: Clock): Promise<ByteSource> {
  return file === "-" ? sourceOf(STDIN, "standard input", clock) : openSource(file, clock);
}

function openOutput(
  file: string,
  force: boolean,
  random: (into: Bytes) => void,
  clock: Clock,
  host: SinkHost,
): Promise<PipeSink> {
  if (file === "-") return descriptorSink(STDOUT, "standard output", clock, host);
  const suffix = new Uint8Array(6);
  random(suffix);
  return fileSink({ path: file, force, clock, suffix: formatKey(suffix) }, host);
}

/**
 * The result of `promise`, unless a signal arrives first (a FIFO opens only when its other end does); late results are
 * passed to `drop`.
 */
function stopped<T>(promise: Promise<T>, signal: AbortSignal, drop: (late: T) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      reject(new SallyportError("aborted", "The transfer was interrupted", { side: "local" }));
      promise.then(drop, () => {});
    };
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

function progressOutput(flags: CommonFlags): { columns: number | undefined; write(text: string): void } {
  const { stderr } = process;
  return {
    get columns() {
      return stderr.isTTY ? stderr.columns || 80 : undefined;
    },
    write: (text) => {
      if (flags.quiet !== true) stderr.write(text);
    },
  };
}

/** `host:port`, `host` or `[v6]:port`. Throws `config_invalid`. */
function parseAddress(text: string, what: string): Address {
  const { host = "", port = DEFAULT_PORT } = splitHostPort(text) ?? {};
  if (host === "" || port > 65_535) {
    throw wrong(`Cannot use ${what} ${JSON.stringify(text)}: needs host:port, an IPv6 address in brackets`);
  }
  return { host, port };
}

function parseSize(text: string, what: string): number {
  const { data, error } = byteSize.safeParse(text);
  if (data === undefined) throw wrong(`Cannot use ${what}: ${error?.issues[0]?.message}`);
  return data;
}

function wrong(message: string): SallyportError {
  return new SallyportError("config_invalid", message, { side: "config" });
}
