/**
 * What every pairing of an edge and an agent must do, whoever made them.
 *
 * @module
 */

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { after, before, describe, it } from "node:test";
import { hasIpv6 } from "../support/ipv6.ts";
import { hangUp, openStream, PlainEndpoint, type Stream, visit } from "../support/plain_peer.ts";
import { startTlsSite, type TlsSite } from "../support/tls_site.ts";
import { type CipherName, fernetKey, issueToken, type TokenOptions } from "../support/tokens.ts";
import type { ReferenceClient, ReferenceServer, ReferenceSession } from "./reference.ts";

/** An edge as the scenarios see it; `visitorPort` and `agentPort` may be the same. */
export type EdgeUnderTest = Omit<ReferenceServer, "pid">;
/** An agent as the scenarios see it. */
export type AgentUnderTest = Omit<ReferenceClient, "pid">;

/** What {@link describeTunnel} takes. */
export interface TunnelOptions {
  /** Starts an edge on free ports of `hosts`. */
  startEdge(options: { fernetKeys: readonly string[]; hosts: readonly string[] }): Promise<EdgeUnderTest>;
  startAgent(): Promise<AgentUnderTest>;
  /** A reason to skip all of it. */
  readonly skip: string | false;
}

const MB = 1_000_000;
const VERSIONS = [0, 1, 2] as const;
const CIPHERS: readonly CipherName[] = ["aes-cbc", "aes-gcm", "aes-gcm-siv"];
const TIMEOUT_MS = 30_000;

/** Declares the suite of one pairing. */
export function describeTunnel(title: string, options: TunnelOptions): void {
  describe(title, { skip: options.skip, timeout: 4 * TIMEOUT_MS }, () => {
    const [newKey, oldKey] = [fernetKey(), fernetKey()] as const;
    const hosts = hasIpv6() ? ["127.0.0.1", "::1"] : ["127.0.0.1"];
    let edge: EdgeUnderTest;
    let agent: AgentUnderTest;
    let endpoint: PlainEndpoint;

    before(async () => {
      [edge, agent, endpoint] = await Promise.all([
        options.startEdge({ fernetKeys: [newKey, oldKey], hosts }),
        options.startAgent(),
        PlainEndpoint.start(),
      ]);
    });
    after(async () => {
      await Promise.all([agent?.stop(), edge?.stop(), endpoint?.stop()]);
    });

    /** Opens a session and waits until the edge routes to it. */
    async function session(
      token: TokenOptions,
      more: { key?: string; allow?: readonly string[]; block?: readonly string[]; endpointPort?: number } =
        {},
    ): Promise<ReferenceSession> {
      const { key = newKey, endpointPort = endpoint.port, ...access } = more;
      const opened = await agent.connect({
        edge: { host: "127.0.0.1", port: edge.agentPort },
        endpointPort,
        token: issueToken(key, token),
        ...access,
      });
      await edge.served(token.hostname);
      return opened;
    }

    /** A visitor's stream to `serverName`. */
    function stream(serverName: string, host = "127.0.0.1"): Promise<Stream> {
      return openStream({ host, port: edge.visitorPort, serverName }, endpoint);
    }

    for (const protocolVersion of VERSIONS) {
      for (const cipher of CIPHERS) {
        it(
          `carries 20 MB each way: version ${protocolVersion}, ${cipher}`,
          { timeout: TIMEOUT_MS },
          async () => {
            const hostname = `bulk-${protocolVersion}-${cipher}.test`;
            const held = await session({ hostname, protocolVersion, cipher });
            const opened = await stream(hostname);
            await transfer(opened.visitor, opened.endpoint, 20 * MB);
            await transfer(opened.endpoint, opened.visitor, 20 * MB);
            await hangUp(opened);
            held.disconnect();
            await edge.gone(hostname);
          },
        );
      }
    }

    for (const cipher of CIPHERS) {
      it(`keeps 50 streams apart: ${cipher}`, { timeout: TIMEOUT_MS }, async () => {
        const hostname = `many-${cipher}.test`;
        const held = await session({ hostname, cipher });
        const streams = await Promise.all(Array.from({ length: 50 }, () => stream(hostname)));
        await Promise.all(streams.map(async ({ visitor, endpoint: far }, i) => {
          const [up, down] = [100_000 + i * 997, 150_000 - i * 991];
          await Promise.all([transfer(visitor, far, up, i), transfer(far, visitor, down, 100 + i)]);
        }));
        await Promise.all(streams.map(hangUp));
        held.disconnect();
        await edge.gone(hostname);
      });
    }

    for (const protocolVersion of [1, 2]) {
      for (const slow of ["endpoint", "visitor"] as const) {
        it(`lets a slow ${slow} wait and loses nothing: version ${protocolVersion}`, {
          timeout: TIMEOUT_MS,
        }, async () => {
          const hostname = `slow-${slow}-${protocolVersion}.test`;
          const held = await session({ hostname, protocolVersion });
          const stuck = await stream(hostname);
          const reader = stuck[slow];
          const writer = slow === "endpoint" ? stuck.visitor : stuck.endpoint;
          const bytes = 80 * MB;
          reader.socket.pause();
          let allTaken = false;
          const sent = writer.send(bytes, 7).finally(() => allTaken = true);

          // A neighbour in the same session goes on, and back-pressure reaches the writer: its socket can't have taken
          // everything, however long the neighbour takes.
          const neighbour = await stream(hostname);
          await transfer(neighbour.visitor, neighbour.endpoint, 2 * MB);
          await transfer(neighbour.endpoint, neighbour.visitor, 2 * MB);
          assert.equal(allTaken, false);

          const received = reader.receive(bytes);
          reader.socket.resume();
          assert.equal(await received, await sent);
          await Promise.all([hangUp(stuck), hangUp(neighbour)]);
          held.disconnect();
          await edge.gone(hostname);
        });
      }
    }

    const noIpv6 = hosts.length === 1 && "this machine has no IPv6";
    it(
      "tells the agent an IPv6 caller's address: version 2",
      { skip: noIpv6, timeout: TIMEOUT_MS },
      async () => {
        const hostname = "v6.test";
        const held = await session({ hostname, protocolVersion: 2 }, { allow: ["::1/128"] });
        const opened = await stream(hostname, "::1");
        await transfer(opened.visitor, opened.endpoint, 1000);
        await hangUp(opened);
        await assertRefused({ host: "127.0.0.1", port: edge.visitorPort, serverName: hostname });
        held.disconnect();
        await edge.gone(hostname);
      },
    );
    it("tells the agent 0.0.0.0 for an IPv6 caller: versions 0 and 1", {
      skip: noIpv6,
      timeout: TIMEOUT_MS,
    }, async () => {
      for (const protocolVersion of [0, 1]) {
        const hostname = `v6-${protocolVersion}.test`;
        const held = await session({ hostname, protocolVersion }, { allow: ["0.0.0.0/32"] });
        const opened = await stream(hostname, "::1");
        await transfer(opened.endpoint, opened.visitor, 1000);
        await hangUp(opened);
        await assertRefused({ host: "127.0.0.1", port: edge.visitorPort, serverName: hostname });
        held.disconnect();
        await edge.gone(hostname);
      }
    });

    it("refuses callers that the agent's access list blocks", { timeout: TIMEOUT_MS }, async () => {
      const hostname = "blocked.test";
      const held = await session({ hostname }, { block: ["127.0.0.0/8"] });
      await assertRefused({ host: "127.0.0.1", port: edge.visitorPort, serverName: hostname });
      held.disconnect();
      await edge.gone(hostname);
    });

    it("routes aliases, and takes tokens of the older key", { timeout: TIMEOUT_MS }, async () => {
      const hostname = "aliased.test";
      const held = await session({ hostname, alias: ["one.test", "two.test"] }, { key: oldKey });
      for (const name of [hostname, "one.test", "two.test"]) {
        const opened = await stream(name);
        await transfer(opened.visitor, opened.endpoint, 1000);
        await hangUp(opened);
      }
      held.disconnect();
      await edge.gone(hostname);
      await edge.gone("one.test");
    });

    it("lets a newer session take over the name", { timeout: TIMEOUT_MS }, async () => {
      const hostname = "twice.test";
      const older = await session({ hostname });
      const other = await PlainEndpoint.start();
      const newer = await session({ hostname }, { endpointPort: other.port });
      await older.disconnected();
      const { visitor, endpoint: far } = await openStream(
        { host: "127.0.0.1", port: edge.visitorPort, serverName: hostname },
        other,
      );
      await transfer(visitor, far, 1000);
      await other.stop();
      newer.disconnect();
      await edge.gone(hostname);
    });

    it("refuses expired tokens and tokens of foreign keys", { timeout: TIMEOUT_MS }, async () => {
      const edgeAddress = { host: "127.0.0.1", port: edge.agentPort };
      const refused = [
        issueToken(newKey, { hostname: "late.test", ttlSeconds: -60 }),
        issueToken(fernetKey(), { hostname: "foreign.test" }),
      ];
      for (const token of refused) {
        await assert.rejects(agent.connect({ edge: edgeAddress, endpointPort: endpoint.port, token }));
        await assertRefused({ host: "127.0.0.1", port: edge.visitorPort, serverName: token.hostname });
      }
    });

    describe("real TLS", { skip: options.skip }, () => {
      const hostname = "site.localhost";
      let site: TlsSite;
      let held: ReferenceSession;
      before(async () => {
        site = await startTlsSite(hostname);
        held = await session({ hostname, cipher: "aes-gcm" }, { endpointPort: site.port });
      });
      after(async () => {
        held?.disconnect();
        await site?.stop();
      });

      it("answers curl", { timeout: TIMEOUT_MS }, async () => {
        const url = (path: string): string => `https://${hostname}:${edge.visitorPort}${path}`;
        const curl = [
          ...["--silent", "--show-error", "--fail", "--cacert", site.caFile, "--noproxy", "*"],
          ...["--resolve", `${hostname}:${edge.visitorPort}:127.0.0.1`],
        ];
        assert.equal(await output("curl", [...curl, url("/")]), "sallyport");
        const body = await output("curl", [...curl, url("/bytes/1000000")]);
        assert.ok(body === "s".repeat(1_000_000), `${body.length} bytes came`);
        assert.equal(await output("curl", [...curl, "--data", "to and fro", url("/echo")]), "to and fro");
      });

      it("answers openssl s_client", { timeout: TIMEOUT_MS }, async () => {
        const answer = await converse("openssl", [
          ...["s_client", "-quiet", "-verify_return_error", "-CAfile", site.caFile],
          ...[
            "-connect",
            `127.0.0.1:${edge.visitorPort}`,
            "-servername",
            hostname,
            "-verify_hostname",
            hostname,
          ],
        ], `GET / HTTP/1.1\r\nHost: ${hostname}\r\nConnection: close\r\n\r\n`);
        assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
        assert.match(answer, /sallyport/);
      });
    });
  });
}

/** Sends `bytes` from one end to the other and compares the hashes. */
async function transfer(
  from: Stream["visitor"],
  to: Stream["visitor"],
  bytes: number,
  seed = 1,
): Promise<void> {
  const [received, sent] = await Promise.all([to.receive(bytes), from.send(bytes, seed)]);
  assert.equal(received, sent);
}

/** A visitor gets no byte but a TLS alert at most, and its connection is closed. */
async function assertRefused(options: { host: string; port: number; serverName: string }): Promise<void> {
  const visitor = await visit(options);
  await visitor.ended();
  visitor.socket.end();
  await visitor.closed();
  assert.ok(visitor.unreadBytes === 0 || visitor.unreadBytes === 7, `${visitor.unreadBytes} bytes came`);
}

function output(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, [...args], { maxBuffer: 64 * MB }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${program} ended with ${error.code}: ${stderr}`));
    });
  });
}

/** Runs a program with `input` on a stdin that stays open, until it ends by itself. */
function converse(program: string, args: readonly string[], input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args], { stdio: ["pipe", "pipe", "pipe"] });
    let [answer, errors] = ["", ""];
    child.stdout.on("data", (chunk) => answer += String(chunk));
    child.stderr.on("data", (chunk) => errors += String(chunk));
    child.stdin.on("error", () => {});
    child.on("error", reject);
    child.on("close", (code) => {
      if (answer !== "") resolve(answer);
      else reject(new Error(`${program} ended with ${code}: ${errors}`));
    });
    child.stdin.write(input);
  });
}
