/** The reference of the API as a page. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import { renderReference } from "../../src/master/reference.ts";
import { testMaster } from "./helpers.ts";
import { managedMaster } from "./managed.ts";

describe("GET /docs", () => {
  it("names every endpoint and every schema of the OpenAPI document, and links lead somewhere", async () => {
    const master = await managedMaster();
    try {
      const { body: page, headers } = await master.must(200, "GET", "/docs");
      assert.equal(headers.get("content-type"), "text/html; charset=utf-8");
      const { body: document } = await master.must(200, "GET", "/openapi.json");
      const ids = new Set([...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id));
      let operations = 0;
      for (
        const methods of Object.values(document.paths) as Record<
          string,
          { operationId: string; summary: string }
        >[]
      ) {
        for (const { operationId, summary } of Object.values(methods)) {
          operations++;
          assert.ok(ids.has(operationId), operationId);
          assert.ok(page.replaceAll("&#39;", "'").includes(summary.replaceAll("`", "")), summary);
        }
      }
      assert.ok(operations > 25);
      for (const name of Object.keys(document.components.schemas)) assert.ok(ids.has(`schema-${name}`), name);
      const broken = [...page.matchAll(/href="#([^"]+)"/g)].map(([, id]) => id).filter((id) => !ids.has(id));
      assert.deepEqual(broken, []);
      assert.equal(ids.size, [...page.matchAll(/ id="/g)].length, "an id is there once");
    } finally {
      await master.close();
    }
  });

  it("loads nothing and runs nothing: the browser may use its own style alone", async () => {
    // Without a store too, as embedders have it.
    const answer = await testMaster().request("/docs");
    const page = await answer.text();
    const policy = answer.headers.get("content-security-policy") ?? "";
    assert.match(policy, /^default-src 'none';/);
    const styles = [...page.matchAll(/<style>([\s\S]*?)<\/style>/g)].map(([, text]) => text as string);
    assert.equal(styles.length, 1);
    const digest = createHash("sha256").update(styles[0]!).digest("base64");
    assert.ok(policy.includes(`style-src 'sha256-${digest}'`), policy);
    assert.doesNotMatch(
      page,
      /<script|<img|<link (?!rel="icon" href="data:,")|style="|\son\w+="|https?:\/\/(?!(hooks|master)\.example)/,
    );
    // Wherever an embedder has put it.
    assert.deepEqual([...page.matchAll(/href="([^#"][^"]*)"/g)].map(([, to]) => to), [
      "data:,",
      "openapi.json",
    ]);
    assert.match(page, /<html lang="en">/);
  });

  it("a text of the document is shown, and never taken for HTML", async () => {
    const evil = "<script>alert(1)</script>";
    const page = await renderReference({
      info: { title: evil, version: evil, description: evil },
      paths: {
        [`/${evil}`]: {
          get: {
            operationId: "x",
            summary: evil,
            parameters: [{ name: evil, in: "query", schema: { enum: [evil], example: evil } }],
            responses: { 200: { description: `\`${evil}\`` } },
          },
        },
      },
      components: { schemas: { Some: { type: "object", properties: { [evil]: { default: evil } } } } },
    });
    assert.ok(!page.includes(evil));
    assert.ok(page.includes("&lt;script&gt;"));
  });
});
