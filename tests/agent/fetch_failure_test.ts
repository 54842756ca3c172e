/** The causes behind a failed request, by real servers that fail in each way. */
import assert from "node:assert/strict";
import { createServer as createHttp } from "node:http";
import { createServer as createHttps } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { after, before, describe, it } from "node:test";
import { fetchFailure } from "../../src/agent/fetch_failure.ts";
import { freePorts } from "../support/free_ports.ts";
import { generate } from "selfsigned";

const servers: Server[] = [];
const listen = async (server: Server): Promise<number> => {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
};

describe("fetchFailure: the text of a failed request", () => {
  let http = 0;
  let https = 0;
  let closed = 0;
  before(async () => {
    const { private: key, cert } = await generate([{ name: "commonName", value: "localhost" }]);
    http = await listen(createHttp((_, response) => response.end()));
    https = await listen(createHttps({ key, cert }, (_, response) => response.end()));
    closed = await freePorts(1);
  });
  after(() => {
    for (const server of servers) server.close();
  });

  const cases: [what: string, url: () => string, says: RegExp][] = [
    [
      "a refused connection",
      () => `http://127.0.0.1:${closed}/`,
      /^connection refused: nothing listens at 127\.0\.0\.1:\d+; start it/,
    ],
    ["an unknown host", () => "http://nowhere.invalid/", /^the name nowhere\.invalid has no address/],
    ["a self-signed certificate", () => `https://localhost:${https}/`, /doesn't trust .*DENO_CERT/],
    [
      "https to http",
      () => `https://localhost:${http}/`,
      /doesn't speak TLS there: use http:\/\/localhost:\d+/,
    ],
    ["http to https", () => `http://127.0.0.1:${https}/`, /use https:\/\/127\.0\.0\.1:\d+/],
  ];
  for (const [what, url, says] of cases) {
    it(`tells ${what}, and the next step`, async () => {
      const error = await fetch(url(), { redirect: "error", signal: AbortSignal.timeout(10_000) })
        .then((response) => assert.fail(`answered ${response.status}`), (error: unknown) => error);
      assert.match(fetchFailure(error, new URL(url())), says);
    });
  }

  // A server of TLS may end the connection in either way, and Deno words both on its own.
  for (
    const words of ["Connection reset by peer (os error 104)", "connection closed before message completed"]
  ) {
    it(`tells http to https by "${words}" too`, () => {
      const error = new TypeError("fetch failed", { cause: new Error(words) });
      assert.match(fetchFailure(error, new URL("http://a.test:8443/")), /use https:\/\/a\.test:8443$/);
    });
  }

  it("tells of a port that fetch doesn't connect to", () => {
    const error = new TypeError("Fetch failed: Requests to port 9 are blocked");
    assert.match(
      fetchFailure(error, new URL("http://a.test:9/")),
      /never connects to port 9, .*another port$/,
    );
  });

  it("says what the runtime says where the cause is unknown", () => {
    const error = new TypeError("fetch failed", { cause: new Error("the moon is full") });
    assert.equal(fetchFailure(error, new URL("http://a.test/")), "the moon is full");
  });
});
