/** What answers requests in the agent itself: files of a folder, and fetch handlers. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fetchHandler } from "../../../src/agent/http/fetch_handler.ts";
import { staticFiles } from "../../../src/agent/http/static_files.ts";
import type { HttpHandler } from "../../../src/agent/http/exchange.ts";
import type { Field } from "../../../src/wire/http1/fields.ts";
import { ask } from "../../support/exchange.ts";
import { startTerminatedSite } from "../../support/terminated.ts";

const timeout = 30_000;

describe("staticFiles", () => {
  let folder: string;
  let site: HttpHandler;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-files-"));
    const root = join(folder, "www");
    await mkdir(join(root, "sub"), { recursive: true });
    await writeFile(join(root, "index.html"), "<p>start</p>");
    await writeFile(join(root, "sub", "index.html"), "<p>sub</p>");
    await writeFile(join(root, "a b.txt"), "0123456789");
    await writeFile(join(root, ".secret"), "secret");
    await writeFile(join(root, "odd.xyz"), "?");
    await writeFile(join(folder, "outside.txt"), "outside");
    await symlink(join(folder, "outside.txt"), join(root, "link.txt"));
    site = staticFiles(root);
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it("are found by their paths, with their types", { timeout }, async () => {
    const cases: readonly [string, number, string, string?][] = [
      ["/", 200, "<p>start</p>", "text/html; charset=utf-8"],
      ["/sub/?q", 200, "<p>sub</p>", "text/html; charset=utf-8"],
      ["/a%20b.txt", 200, "0123456789", "text/plain; charset=utf-8"],
      ["/odd.xyz", 200, "?", "application/octet-stream"],
      ["/none", 404, "There is nothing here.\n"],
    ];
    for (const [target, status, body, type] of cases) {
      const answer = await ask(site, { target });
      assert.deepEqual([answer.status, answer.body], [status, body], target);
      if (type !== undefined) assert.equal(answer.field("content-type"), type);
      assert.equal(answer.field("x-content-type-options"), "nosniff");
    }
    const moved = await ask(site, { target: "/sub?q" });
    assert.deepEqual([moved.status, moved.field("location")], [308, "/sub/?q"]);
    assert.equal((await ask(site, { target: "//sub" })).field("location"), "/sub/");
    assert.equal((await ask(site, { method: "POST" })).status, 405);
    const head = await ask(site, { method: "HEAD" });
    assert.deepEqual([head.status, head.body, head.field("content-length")], [200, "", "12"]);
  });

  it("are those of the folder alone", { timeout }, async () => {
    const targets = [
      "/../outside.txt",
      "/%2e%2e/outside.txt",
      "/sub/..%2f..%2foutside.txt",
      "/.secret",
      "/%2Esecret",
    ];
    targets.push("/link.txt", "/sub\\..\\index.html", "/%00", "/%zz", "/..%5coutside.txt");
    for (const target of targets) assert.equal((await ask(site, { target })).status, 404, target);
  });

  it("come in ranges, and not again when they are known", { timeout }, async () => {
    const get = (...fields: Field[]) => ask(site, { target: "/a%20b.txt", fields });
    const cases: readonly [string, number, string, string?][] = [
      ["bytes=2-4", 206, "234", "bytes 2-4/10"],
      ["bytes=7-", 206, "789", "bytes 7-9/10"],
      ["bytes=-3", 206, "789", "bytes 7-9/10"],
      ["bytes=5-99", 206, "56789", "bytes 5-9/10"],
      ["bytes=10-", 416, "", "bytes */10"],
      ["bytes=-0", 416, "", "bytes */10"],
      ["bytes=1-2,4-5", 200, "0123456789"],
      ["bytes=4-2", 200, "0123456789"],
      ["lines=1-2", 200, "0123456789"],
    ];
    for (const [range, status, body, said] of cases) {
      const answer = await get(["range", range]);
      assert.deepEqual(
        [answer.status, answer.body, answer.field("content-range")],
        [status, body, said],
        range,
      );
    }
    const etag = (await get()).field("etag") ?? "";
    assert.equal((await get(["if-none-match", `"x", W/${etag}`])).status, 304);
    assert.equal((await get(["if-none-match", '"x"'])).status, 200);
    assert.equal((await get(["if-modified-since", new Date(Date.now() + 5_000).toUTCString()])).status, 304);
    assert.equal((await get(["range", "bytes=0-1"], ["if-range", '"x"'])).status, 200);
  });
});

describe("fetchHandler", () => {
  it(
    "gets a visitor's request, streams both ways, and hears when the visitor has gone",
    { timeout },
    async () => {
      const gone = Promise.withResolvers<void>();
      const site = await startTerminatedSite(fetchHandler(async (asked, visitor) => {
        const { pathname } = new URL(asked.url);
        if (pathname === "/echo") {
          return new Response(asked.body, { headers: [["set-cookie", "a=1"], ["set-cookie", "b=2"]] });
        }
        if (pathname === "/throw") throw new Error("a secret of the handler's");
        if (pathname === "/endless") {
          asked.signal.addEventListener("abort", () => gone.resolve());
          return new Response(
            new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1_000)) }),
          );
        }
        await asked.text();
        return new Response(`${visitor.address} ${asked.method} ${asked.url.replace(/:\d+/, "")}`, {
          status: 201,
        });
      }));
      const visit = (path: string, body?: string) =>
        new Promise<{ status: number; text: string; cookies: string[] | undefined }>((resolve, reject) => {
          const asked = request({
            ...{ host: "127.0.0.1", port: site.port, servername: "site.localhost", path, agent: false },
            ...{ ca: site.identity.certificatePem, method: body === undefined ? "GET" : "POST" },
            headers: { host: "site.localhost" },
          }, (response) => {
            let text = "";
            response.on("data", (part) => {
              text += String(part);
              if (path === "/endless") asked.destroy();
            });
            response.on("error", () => {});
            response.on(
              "close",
              () =>
                resolve({ status: response.statusCode ?? 0, text, cookies: response.headers["set-cookie"] }),
            );
          });
          asked.on(
            "error",
            (error) => path === "/endless" ? resolve({ status: 0, text: "", cookies: [] }) : reject(error),
          );
          asked.end(body);
        });
      const made = await visit("/page?a=1");
      assert.deepEqual([made.status, made.text], [201, "127.0.0.1 GET https://site.localhost/page?a=1"]);
      const large = "x".repeat(300_000);
      const echoed = await visit("/echo", large);
      assert.equal(echoed.text.length, large.length);
      assert.deepEqual(echoed.cookies, ["a=1", "b=2"]);
      const thrown = await visit("/throw");
      assert.deepEqual([thrown.status, thrown.text.includes("secret")], [500, false]);
      await visit("/endless");
      await gone.promise;
      await site.stop();
    },
  );
});
