/** `--cluster rediss://…`: a node that reaches a real Redis by TLS, and trusts only certificates that it can check. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer } from "node:tls";
import { after, describe, it } from "node:test";
import { generate } from "selfsigned";
import { type RedisServer, skipRedis, startRedis } from "../support/redis_server.ts";
import { programStarter } from "./program.ts";

const timeout = 60_000;

describe("serve --cluster rediss://", { skip: await skipRedis() }, () => {
  const start = programStarter();
  let folder: string;
  let redis: RedisServer | undefined;
  let url: string;
  let caFile: string;

  /** Redis behind TLS, as stunnel does it: few builds of Redis that can be fetched have TLS of their own. */
  const front = createServer((socket) => {
    const behind = connect(Number(new URL(redis!.url).port), "127.0.0.1");
    socket.pipe(behind).pipe(socket);
    for (const one of [socket, behind]) one.on("error", () => (socket.destroy(), behind.destroy()));
  });
  front.on("tlsClientError", () => {});

  after(async () => {
    front.close();
    await redis?.kill();
    await rm(folder, { recursive: true, force: true });
  });

  it("starts Redis behind TLS", { timeout }, async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-rediss-"));
    const authority = await generate([{ name: "commonName", value: "operator" }], {
      keyType: "ec",
      algorithm: "sha256",
      extensions: [{ name: "basicConstraints", cA: true }, { name: "keyUsage", keyCertSign: true }],
    });
    const pair = await generate([{ name: "commonName", value: "localhost" }], {
      keyType: "ec",
      algorithm: "sha256",
      ca: { key: authority.private, cert: authority.cert },
      extensions: [{ name: "subjectAltName", altNames: [{ type: 2, value: "localhost" }] }],
    });
    front.setSecureContext({ key: pair.private, cert: pair.cert });
    caFile = join(folder, "ca.pem");
    await writeFile(caFile, authority.cert);
    redis = await startRedis();
    front.listen(0, "127.0.0.1");
    await once(front, "listening");
    url = `rediss://localhost:${(front.address() as AddressInfo).port}`;
  });

  function serve(env: Readonly<Record<string, string>>) {
    return start([
      ...["serve", "--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0"],
      ...["--data-dir", join(folder, "data"), "--cluster", url, "--cluster-listen", "127.0.0.1:0"],
    ], env);
  }

  it("joins the cluster there, with the operator's own authority", { timeout }, async () => {
    const program = serve({ DENO_CERT: caFile, NODE_EXTRA_CA_CERTS: caFile });
    await program.seen(/cluster +node at 127\.0\.0\.1:\d+, the only one now/);
    assert.doesNotMatch(program.stderr, /Redis/);
  });

  it("tells that the certificate is the reason, where it can't be checked", { timeout }, async () => {
    const program = serve({});
    await program.seen(/Cannot reach Redis: .*(certificate|UnknownIssuer)/i, "stderr");
  });
});
