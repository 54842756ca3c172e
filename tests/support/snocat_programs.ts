/**
 * snocat servers and clients as processes: ours on either runtime, and snocat-cli.
 *
 * @module
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import type { Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Program } from "../cli/program.ts";
import { freePorts } from "./free_ports.ts";
import { startEcho } from "./tcp_echo.ts";

/** Who plays a side: undefined is ours on the runtime of the tests. */
export type Player = ConstructorParameters<typeof Program>[3];

/** How both programs are told what a server needs. */
export interface ServerParts {
  readonly quicPort: number;
  readonly firstPort: number;
  readonly lastPort: number;
  /** Path of the certificate, without its endings. */
  readonly certificate: string;
}

/** A folder with certificates, an echo, and the processes of a test. */
export class SnocatPrograms {
  readonly folder: string;
  readonly echo: Server;
  readonly echoPort: number;
  readonly #running: Program[] = [];
  #certificates: Promise<void> | undefined;

  private constructor(folder: string, echo: Server, echoPort: number) {
    this.folder = folder;
    this.echo = echo;
    this.echoPort = echoPort;
  }

  static async open(): Promise<SnocatPrograms> {
    const folder = await mkdtemp(join(tmpdir(), "sallyport-snocat-"));
    const { server, port } = await startEcho();
    return new SnocatPrograms(folder, server, port);
  }

  /**
   * Makes `self` (signs itself), `ca` and `leaf` (signed by it), for localhost and 127.0.0.1, by the command. At the
   * first call only, in the time of the test that needs them: three programs take longer than a hook may on Bun.
   */
  certificates(): Promise<void> {
    const make = async () => {
      const names = ["--san", "localhost", "--san", "127.0.0.1"];
      await this.run(["cert", "self", ...names]);
      await this.run(["cert", "ca", "--ca"]);
      await this.run(["cert", "leaf", ...names, "--authority", "ca"]);
    };
    return this.#certificates ??= make();
  }

  /** Ends what still runs. */
  async reset(): Promise<void> {
    await Promise.all(this.#running.splice(0).map((program) => program.kill()));
  }

  async close(): Promise<void> {
    await this.reset();
    this.echo.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Starts a program in the folder. */
  start(args: readonly string[], player?: Player): Program {
    const program = new Program(args, { RUST_LOG: "info" }, this.folder, player);
    this.#running.push(program);
    return program;
  }

  /** Runs ours to its end, which must be a good one. */
  async run(args: readonly string[]): Promise<Program> {
    const program = this.start(args);
    assert.equal(await program.ended, 0, program.stderr);
    return program;
  }

  /** A server's parts, on ports that are free; `count` of them are public. */
  async parts(count: number, certificate = "self"): Promise<ServerParts> {
    await this.certificates();
    const quicPort = await freePorts(count + 1);
    return { quicPort, firstPort: quicPort + 1, lastPort: quicPort + count, certificate };
  }

  /** Starts a server of ours. */
  async server(parts: ServerParts, player?: Player, more: readonly string[] = []): Promise<Program> {
    const program = this.start(
      [
        ...["snocat", "server", "--quic", `127.0.0.1:${parts.quicPort}`],
        ...["--ports", `${parts.firstPort}:${parts.lastPort}`],
        ...["--cert", `${parts.certificate}.pub.pem`, "--key", `${parts.certificate}.priv.pem`],
        ...more,
      ],
      player,
    );
    await program.seen(/Clients connect to /);
    return program;
  }

  /** Starts a client of ours, towards the echo. */
  client(parts: ServerParts, player?: Player, more: readonly string[] = []): Program {
    const authority = parts.certificate === "leaf" ? "ca" : parts.certificate;
    return this.start(
      [
        ...["snocat", "client", "--server", `127.0.0.1:${parts.quicPort}`],
        // A name that isn't spelled as requests spell it.
        ...["--target", `LocalHost:${this.echoPort}`],
        ...more.includes("--authority") ? [] : ["--authority", `${authority}.pub.pem`],
        ...more.includes("--server-name") ? [] : ["--server-name", "localhost"],
        ...more,
      ],
      player,
    );
  }

  /** The public port that a client of ours has got. */
  async port(client: Program, patienceMs?: number): Promise<number> {
    const [, port] = await client.seen(/Public at [\d.]+:(\d+), connected to /, "stdout", patienceMs);
    client.stdout = "";
    return Number(port);
  }
}
