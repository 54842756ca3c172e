import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { DEFAULT_TOKEN_TTL, tokenRequestSchema, TokenResponseSchema } from "../../src/master/schemas.ts";
import { VERSION } from "../../src/version.ts";
import { testMaster } from "./helpers.ts";

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
type Dict = { [name: string]: Json };

interface Operation {
  operationId: string;
  summary: string;
  security?: Dict[];
  requestBody?: { required: boolean; content: Record<string, { schema: Dict }> };
  responses: Record<
    string,
    { description: string; headers?: Dict; content?: Record<string, { schema: Dict }> }
  >;
}

interface OpenApi {
  openapi: string;
  info: { title: string; version: string };
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Dict>; securitySchemes: Record<string, Dict> };
}

async function load(): Promise<OpenApi> {
  const answer = await testMaster().request("/openapi.json");
  assert.equal(answer.status, 200);
  assert.match(answer.headers.get("content-type") ?? "", /^application\/json/);
  return await answer.json() as OpenApi;
}

function references(value: Json): string[] {
  if (Array.isArray(value)) return value.flatMap(references);
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, member]) =>
    name === "$ref" ? [member as string] : references(member)
  );
}

describe("GET /openapi.json", () => {
  it("has no endpoint without authentication that SECURITY.md doesn't list", async () => {
    const { paths } = await load();
    const text = await readFile(join(import.meta.dirname!, "../../SECURITY.md"), "utf8");
    const [, listed = ""] = text.split("## Endpoints without authentication");
    for (const [path, operations] of Object.entries(paths)) {
      for (const { security = [] } of Object.values(operations)) {
        if (security.length === 0) assert.ok(listed.split("\n## ")[0]!.includes(`${path}\``), path);
      }
    }
  });

  it("is OpenAPI 3.1 with this program's version", async () => {
    const document = await load();
    assert.equal(document.openapi, "3.1.0");
    assert.equal(document.info.version, VERSION);
    assert.notEqual(document.info.title, "");
  });

  it("has every route", async () => {
    const { paths } = await load();
    const operations = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method} ${path}`)
    );
    assert.deepEqual(operations.sort(), [
      "get /",
      "get /docs",
      "get /healthz",
      "get /metrics",
      "get /openapi.json",
      "get /readyz",
      "post /v1/tokens",
    ]);
    const ids = Object.values(paths).flatMap((methods) =>
      Object.values(methods).map((one) => one.operationId)
    );
    assert.equal(new Set(ids).size, 7);
  });

  it("refers only to what it has", async () => {
    const document = await load();
    const found = references(document as unknown as Json);
    assert.ok(found.length > 10);
    for (const reference of found) {
      assert.match(reference, /^#\//);
      let at: unknown = document;
      for (const step of reference.slice(2).split("/")) at = (at as Record<string, unknown>)[step];
      assert.equal(typeof at, "object", reference);
    }
    for (const name of Object.keys(document.components.schemas)) {
      assert.ok(found.includes(`#/components/schemas/${name}`), `${name} isn't used`);
    }
  });

  it("describes every answer of POST /v1/tokens, errors as problems", async () => {
    const { paths } = await load();
    const { responses } = paths["/v1/tokens"].post;
    assert.deepEqual(Object.keys(responses), [
      "201",
      "400",
      "401",
      "403",
      "408",
      "413",
      "415",
      "422",
      "429",
      "500",
      "503",
    ]);
    for (const [status, response] of Object.entries(responses)) {
      assert.notEqual(response.description, "");
      const [type, name] = status === "201"
        ? ["application/json", "TokenResponse"]
        : ["application/problem+json", "Problem"];
      assert.deepEqual(response.content?.[type].schema, { $ref: `#/components/schemas/${name}` }, status);
    }
    assert.ok(responses["401"].headers?.["WWW-Authenticate"]);
    assert.ok(responses["429"].headers?.["Retry-After"]);
  });

  it("asks for a bearer key there and nowhere else", async () => {
    const { paths, components } = await load();
    assert.equal(components.securitySchemes.bearer.type, "http");
    assert.equal(components.securitySchemes.bearer.scheme, "bearer");
    for (const [path, methods] of Object.entries(paths)) {
      for (const operation of Object.values(methods)) {
        assert.deepEqual(operation.security, path === "/v1/tokens" ? [{ bearer: [] }] : undefined, path);
      }
    }
  });

  it("has the request's schema as it is checked", async () => {
    const { paths, components } = await load();
    const body = paths["/v1/tokens"].post.requestBody;
    assert.equal(body?.required, true);
    assert.deepEqual(body?.content["application/json"].schema, { $ref: "#/components/schemas/TokenRequest" });
    const schema = components.schemas.TokenRequest as {
      required: string[];
      additionalProperties: boolean;
      properties: Record<string, Dict>;
    };
    assert.deepEqual(schema.required, ["hostname"]);
    assert.equal(schema.additionalProperties, false);
    const { hostname, alias, protocol_version, cipher, ttl_seconds, publish } = schema.properties;
    assert.equal(hostname.type, "string");
    assert.equal(alias.type, "array");
    assert.equal((alias.items as Dict).type, "string");
    assert.equal(publish.type, "array");
    assert.equal(publish.maxItems, 16);
    assert.deepEqual(protocol_version.enum, [0, 1, 2]);
    assert.equal(protocol_version.type, "integer");
    assert.equal(protocol_version.default, 2);
    assert.deepEqual(cipher.enum, ["aes-cbc", "aes-gcm", "aes-gcm-siv"]);
    assert.equal(cipher.default, "aes-gcm");
    assert.equal(ttl_seconds.type, "integer");
    assert.equal(ttl_seconds.minimum, DEFAULT_TOKEN_TTL.minS);
    assert.equal(ttl_seconds.maximum, DEFAULT_TOKEN_TTL.maxS);
  });

  it("gives examples that its own schemas take", async () => {
    const { components } = await load();
    const example = (name: string) =>
      Object.fromEntries(
        Object.entries(components.schemas[name].properties as Record<string, Dict>)
          .map(([member, schema]) => [member, member === "edge" ? edgeExample(schema) : schema.example]),
      );
    const edgeExample = (schema: Dict) =>
      Object.fromEntries(
        Object.entries(schema.properties as Record<string, Dict>).map(([k, v]) => [k, v.example]),
      );
    const request = tokenRequestSchema(DEFAULT_TOKEN_TTL).parse(example("TokenRequest"));
    assert.equal(request.hostname, "a.example.org");
    TokenResponseSchema.strict().parse(example("TokenResponse"));
  });

  it("is the same at every request, and apart from other masters' lifetimes", async () => {
    const { request } = testMaster();
    assert.equal(
      await (await request("/openapi.json")).text(),
      await (await request("/openapi.json")).text(),
    );
    const other = testMaster({ ttl: { defaultS: 30, minS: 20, maxS: 40 } });
    const { components } = await (await other.request("/openapi.json")).json() as OpenApi;
    const ttl = (components.schemas.TokenRequest.properties as Record<string, Dict>).ttl_seconds;
    assert.deepEqual([ttl.default, ttl.minimum, ttl.maximum], [30, 20, 40]);
  });
});
