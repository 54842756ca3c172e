import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseTarget } from "../../../src/agent/services/target.ts";
import { defaultTls, serviceDefaults } from "../../../src/agent/services/service.ts";

describe("parseTarget", () => {
  it("reads every form of a target", () => {
    const forms: readonly [string, object][] = [
      ["127.0.0.1:443", { protocol: "tcp", endpoint: { host: "127.0.0.1", port: 443 } }],
      ["[::1]:443", { protocol: "tcp", endpoint: { host: "::1", port: 443 } }],
      ["web:8443", { protocol: "tcp", endpoint: { host: "web", port: 8443 } }],
      ["tcp://mqtt.lan:1883", { protocol: "tcp", endpoint: { host: "mqtt.lan", port: 1883 } }],
      ["http://127.0.0.1:3000", { protocol: "http", endpoint: { host: "127.0.0.1", port: 3000 } }],
      ["http://app.lan/", { protocol: "http", endpoint: { host: "app.lan", port: 80 } }],
      ["HTTP://app.lan", { protocol: "http", endpoint: { host: "app.lan", port: 80 } }],
      ["https://nas.lan", { protocol: "https", endpoint: { host: "nas.lan", port: 443 }, verify: true }],
      ["https+insecure://[fd00::1]:8443", {
        protocol: "https",
        endpoint: { host: "fd00::1", port: 8443 },
        verify: false,
      }],
      ["unix:/run/app.sock", { protocol: "http", endpoint: { path: "/run/app.sock" } }],
      ["unix:///run/app.sock", { protocol: "http", endpoint: { path: "/run/app.sock" } }],
      ["file:///srv/www", { protocol: "files", folder: "/srv/www" }],
    ];
    for (const [text, target] of forms) assert.deepEqual(parseTarget(text), { ...target, text }, text);
  });

  it("reads a folder of any drive on Windows", () => {
    const folder = (text: string, platform: string) => {
      const target = parseTarget(text, platform);
      return target.protocol === "files" ? target.folder : undefined;
    };
    assert.equal(folder("file:///C:/www", "win32"), "C:/www");
    assert.equal(folder("file:///srv/www", "win32"), "/srv/www");
    assert.equal(folder("file:///C:/www", "linux"), "/C:/www");
  });

  it("refuses a scheme that is missing or odd, and shows the right form", () => {
    const wrong: readonly [string, RegExp][] = [
      ["3000", /a port alone isn't a target; use 127\.0\.0\.1:3000 or http:\/\/127\.0\.0\.1:3000/],
      ["localhost", /it names no port/],
      ["http:/127.0.0.1:3000", /http: needs two slashes/],
      ["http:127.0.0.1", /http: needs two slashes/],
      ["ftp://127.0.0.1", /no target of the kind "ftp:"/],
      ["ws://127.0.0.1:3000", /a WebSocket goes through http:\/\//],
      ["tls://127.0.0.1:443", /a server that speaks TLS itself is HOST:PORT/],
      ["http://127.0.0.1:3000/app", /it has a path/],
      ["http://user:pass@127.0.0.1", /credentials/],
      ["http://", /it names no host/],
      ["http://127.0.0.1:0", /1 to 65535/],
      ["127.0.0.1:70000", /1 to 65535/],
      ["999.1.1.1:80", /it names no host/],
      ["::1:443", /IPv6 address needs brackets/],
      ["/run/app.sock", /a path needs a scheme: unix:\/run\/app\.sock/],
      ["unix:run/app.sock", /path from the root/],
      ["unix://host/app.sock", /path from the root/],
      ["file://srv/www", /path from the root/],
      ["", /it names no host/],
    ];
    for (const [text, why] of wrong) {
      assert.throws(() => parseTarget(text), (error: { code: string; message: string }) => {
        assert.equal(error.code, "config_invalid", text);
        assert.match(error.message, why, text);
        assert.match(error.message, /A target is .*http:\/\/127\.0\.0\.1:3000/, text);
        return true;
      }, text);
    }
  });
});

describe("defaultTls", () => {
  it("leaves TLS to a server that speaks it, and ends it here for all others", () => {
    const names = ["home.example.org"];
    const modes: readonly [string[], string][] = [
      [["127.0.0.1:443"], "passthrough"],
      [["https://127.0.0.1"], "passthrough"],
      [["tcp://127.0.0.1:443", "10.0.0.1:443"], "passthrough"],
      [["http://127.0.0.1:3000"], "acme"],
      [["https+insecure://127.0.0.1"], "acme"],
      [["unix:/run/app.sock"], "acme"],
      [["file:///srv/www"], "acme"],
      [["127.0.0.1:443", "http://127.0.0.1:80"], "acme"],
    ];
    for (const [targets, mode] of modes) {
      assert.equal(defaultTls(targets.map((text) => parseTarget(text)), names), mode, targets.join());
    }
    const http = [parseTarget("http://127.0.0.1:3000")];
    for (const local of ["app.localhost", "*.app.localhost", "printer", "nas.home.arpa", "x.local"]) {
      assert.equal(serviceDefaults({ names: [local], targets: http }).tls, "self-signed", local);
    }
  });
});
