import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { listenOnAll } from "../../src/cli/parts.ts";
import { type ErrorCode, SallyportError } from "../../src/errors.ts";
import { formatHostPort, type HostPort } from "../../src/wire/ip/host_port.ts";

const V4 = { host: "0.0.0.0", port: 8443 };
const V6 = { host: "::", port: 8443 };
const REPLACEABLE = { replaceable: true };

/** A machine on which some addresses fail, also depending on what is open already. */
function machine(fault: (at: HostPort, open: readonly string[]) => ErrorCode | undefined) {
  const open: string[] = [];
  const listen = (at: HostPort) => {
    const code = fault(at, open);
    if (code !== undefined) {
      return Promise.reject(new SallyportError(code, "Cannot listen", { side: "peer" }));
    }
    open.push(formatHostPort(at));
    return Promise.resolve(at);
  };
  return { open, listen };
}

/** [::] is IPv4 too: who comes second finds the port taken. */
const dualStack = (_at: HostPort, open: readonly string[]): ErrorCode | undefined =>
  open.length > 0 ? "address_in_use" : undefined;
const noIpv6 = ({ host }: HostPort): ErrorCode | undefined =>
  host.includes(":") ? "connection_refused" : undefined;

describe("listenOnAll", () => {
  it("lets [::] cover 0.0.0.0 with the same port where it does, in either order", async () => {
    for (const addresses of [[V6, V4], [V4, V6]]) {
      const { open, listen } = machine(dualStack);
      await listenOnAll("listen", addresses, listen);
      assert.deepEqual(open, ["[::]:8443"]);
    }
  });

  it("opens both where they are separate", async () => {
    const { open, listen } = machine(() => undefined);
    await listenOnAll("listen", [V4, V6], listen);
    assert.deepEqual(open, ["[::]:8443", "0.0.0.0:8443"]);
  });

  it("takes another port's 0.0.0.0 in use for what it is", async () => {
    const { listen } = machine(dualStack);
    await assert.rejects(listenOnAll("listen", [V6, { ...V4, port: 8444 }], listen, REPLACEABLE), {
      code: "address_in_use",
    });
  });

  it("puts 0.0.0.0 in the place of a default [::] where there is no IPv6, and of no other", async () => {
    const { open, listen } = machine(noIpv6);
    await listenOnAll("listen", [V6], listen, REPLACEABLE);
    assert.deepEqual(open, ["0.0.0.0:8443"]);
    await assert.rejects(listenOnAll("listen", [V6], machine(noIpv6).listen), { code: "connection_refused" });
    await assert.rejects(
      listenOnAll("listen", [{ ...V6, host: "::1" }], machine(noIpv6).listen, REPLACEABLE),
    );
  });

  it("doesn't look elsewhere when the port is taken", async () => {
    const { open, listen } = machine(() => "address_in_use");
    await assert.rejects(listenOnAll("listen", [V6], listen, REPLACEABLE), { code: "address_in_use" });
    assert.deepEqual(open, []);
  });

  it("takes a free port instead where it may, once", async () => {
    const taken = ({ port }: HostPort): ErrorCode | undefined => port === 8443 ? "address_in_use" : undefined;
    const { open, listen } = machine(taken);
    await listenOnAll("listen", [V6], listen, { ...REPLACEABLE, otherPort: true });
    assert.deepEqual(open, ["[::]:0"]);
    const old = machine((at) => noIpv6(at) ?? taken(at));
    await listenOnAll("listen", [V6], old.listen, { ...REPLACEABLE, otherPort: true });
    assert.deepEqual(old.open, ["0.0.0.0:0"]);
    const { listen: full } = machine(() => "address_in_use");
    await assert.rejects(listenOnAll("listen", [V6], full, { otherPort: true }), { code: "address_in_use" });
  });

  it("names the flag that helps where an address can't be used", async () => {
    for (const code of ["address_in_use", "connection_refused"] as const) {
      await assert.rejects(listenOnAll("master-listen", [V4], machine(() => code).listen), {
        code,
        message: "Cannot listen; --master-listen HOST:PORT sets another address; port 0 means any free one",
      });
    }
    const neither = machine(() => "connection_refused");
    await assert.rejects(listenOnAll("listen", [V6], neither.listen, REPLACEABLE), /; --listen HOST:PORT/);
  });

  it("leaves errors alone that aren't about an address", async () => {
    const fault = new TypeError("a fault of the program");
    await assert.rejects(
      listenOnAll("listen", [V4], () => Promise.reject(fault)),
      (error) => error === fault,
    );
  });
});
