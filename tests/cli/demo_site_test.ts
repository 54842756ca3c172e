import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { test } from "node:test";
import { connect } from "node:tls";
import { startDemoSite } from "../../src/cli/demo_site.ts";

test("the site answers over TLS that its own certificate vouches for", async () => {
  const site = await startDemoSite("demo.localhost");
  try {
    const certificate = new X509Certificate(site.certificate);
    assert.match(certificate.subjectAltName ?? "", /DNS:demo\.localhost/);
    assert.ok(!certificate.ca);
    const { host, port } = site;
    const socket = connect({ host, port, servername: "demo.localhost", ca: site.certificate });
    await once(socket, "secureConnect");
    assert.ok(socket.authorized);
    socket.write("GET /a HTTP/1.1\r\nHost: demo.localhost\r\nConnection: close\r\n\r\n");
    let answer = "";
    socket.on("data", (part) => answer += String(part));
    await once(socket, "close");
    assert.match(answer, /^HTTP\/1\.1 200 [\s\S]*You asked demo\.localhost for \/a\./);
  } finally {
    site.close();
  }
});
