/** Chains of certificates at a given time: one in order, and each way in which one may be out of order. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import * as x509 from "@peculiar/x509";
import { CERTIFICATE_CHAIN_MAX, chainFault, TrustedRoots } from "../../src/agent/certificate_chain.ts";
import { authority, issue, type Issued, type Oddity, server } from "../support/certificate_chain.ts";

const DAY_MS = 86_400_000;
const timeout = 30_000;
/** Years ahead: the machine's clock has no say. */
const NOW_MS = Date.UTC(2040, 0, 1);
const HOST = "master.example.org";
const UNTRUSTED = /no authority that this machine trusts/;

describe("chainFault", () => {
  let root: Issued;
  let middle: Issued;
  let own: Issued;
  before(async () => {
    root = await issue("Root", undefined, NOW_MS, { extensions: authority() });
    middle = await issue("Middle", root, NOW_MS, { extensions: authority(0) });
    own = await issue(HOST, middle, NOW_MS, { extensions: server(HOST, "*.wild.example.org") });
  });
  const fault = (chain: readonly Issued[], host = HOST, wallMs = NOW_MS, roots: readonly Issued[] = [root]) =>
    chainFault({
      chain: chain.map(({ der }) => der),
      host,
      roots: new TrustedRoots(() => roots.map(({ pem }) => pem)),
      wallMs,
    });
  const leaf = (oddity: Oddity, by: Issued = middle) =>
    issue(HOST, by, NOW_MS, { extensions: server(HOST), ...oddity });

  it("accepts a chain in order, in any order and with the root, for its names", { timeout }, async () => {
    assert.equal(await fault([own, middle]), undefined);
    assert.equal(await fault([own, root, middle]), undefined);
    assert.equal(await fault([own, middle], "a.wild.example.org"), undefined);
    assert.equal(
      await fault([own, middle], HOST, NOW_MS, [await issue("Other", undefined, NOW_MS), root]),
      undefined,
    );
  });

  it("accepts an address", { timeout }, async () => {
    const names = [
      new x509.SubjectAlternativeNameExtension([{ type: "ip", value: "192.0.2.1" }, {
        type: "ip",
        value: "2001:db8::1",
      }]),
    ];
    const site = await leaf({ extensions: names });
    for (const host of ["192.0.2.1", "2001:db8:0::1"]) {
      assert.equal(await fault([site, middle], host), undefined);
    }
  });

  it("refuses what isn't for the host, or isn't for servers", { timeout }, async () => {
    assert.match(await fault([own, middle], "evil.example.org") ?? "", /isn't for evil\.example\.org/);
    assert.match(await fault([own, middle], "192.0.2.1") ?? "", /isn't for 192\.0\.2\.1/);
    const client = [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth]), server(HOST)[2]!];
    assert.match(await fault([await leaf({ extensions: client }), middle]) ?? "", /isn't for TLS servers/);
    const odd = [...server(HOST), new x509.Extension("1.2.3.4", true, Uint8Array.of(5, 0))];
    assert.match(await fault([await leaf({ extensions: odd }), middle]) ?? "", /isn't for TLS servers/);
  });

  it("refuses a certificate of the chain that isn't valid at the time", { timeout }, async () => {
    assert.match(await fault([own, middle], HOST, NOW_MS + 31 * DAY_MS) ?? "", /isn't valid on 2040-02-01/);
    assert.match(await fault([own, middle], HOST, NOW_MS - 2 * DAY_MS) ?? "", /isn't valid on 2039-12-30/);
    const late = await issue("Late", root, NOW_MS, { extensions: authority(), toMs: NOW_MS - 1 });
    assert.match(await fault([await leaf({}, late), late]) ?? "", UNTRUSTED);
    const old = await issue("Old", undefined, NOW_MS, { extensions: authority(), toMs: NOW_MS - 1 });
    assert.match(await fault([await leaf({}, old)], HOST, NOW_MS, [old]) ?? "", UNTRUSTED);
  });

  it("refuses what no trusted authority vouches for", { timeout }, async () => {
    assert.match(await fault([own]) ?? "", UNTRUSTED);
    assert.match(await fault([own, middle], HOST, NOW_MS, []) ?? "", UNTRUSTED);
    // The right names, but another's signature.
    const { privateKey } = (await issue("Thief", undefined, NOW_MS)).keys;
    assert.match(await fault([await leaf({ signer: privateKey }), middle]) ?? "", UNTRUSTED);
    const forged = await issue("Middle", root, NOW_MS, { extensions: authority(0), signer: privateKey });
    assert.match(await fault([await leaf({}, forged), forged]) ?? "", UNTRUSTED);
    // A server's certificate vouches for nobody, nor does one without constraints.
    assert.match(await fault([await leaf({}, own), own, middle]) ?? "", UNTRUSTED);
    const bare = await issue("Bare", root, NOW_MS);
    assert.match(await fault([await leaf({}, bare), bare]) ?? "", UNTRUSTED);
    const usage = new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true);
    const mute = await issue("Mute", root, NOW_MS, { extensions: [authority()[0]!, usage] });
    assert.match(await fault([await leaf({}, mute), mute]) ?? "", UNTRUSTED);
    // An authority that may vouch for servers alone has vouched for another.
    const below = await issue("Below", middle, NOW_MS, { extensions: authority() });
    assert.match(await fault([await leaf({}, below), below, middle]) ?? "", UNTRUSTED);
    // Names that it may vouch for aren't heeded here.
    const bound = [...authority(), new x509.Extension("2.5.29.30", true, Uint8Array.of(48, 0))];
    const narrow = await issue("Narrow", root, NOW_MS, { extensions: bound });
    assert.match(await fault([await leaf({}, narrow), narrow]) ?? "", UNTRUSTED);
  });

  it("bounds the chain", { timeout }, async () => {
    assert.match(await fault([]) ?? "", /shows no certificate/);
    assert.match(
      await fault(new Array(CERTIFICATE_CHAIN_MAX + 1).fill(own)) ?? "",
      /more than 5 certificates/,
    );
  });
});
