import assert from "node:assert/strict";
import { test } from "node:test";
import { countCases, failedFiles, secondsOfFiles } from "./junit.ts";

// Both reports are of one file: describe("outer", one + skipped + describe("inner", deep)), test("top") failing.
const DENO = `<testsuites name="deno test" tests="6" failures="1">
  <testsuite name="./a_test.ts" tests="2" disabled="0" errors="0" failures="1">
    <testcase name="outer" classname="./a_test.ts" time="0.004" line="2" col="1">
    </testcase>
    <testcase name="top" classname="./a_test.ts" time="0.009" line="4" col="1">
      <failure message="Uncaught AssertionError: 1 !== 2">at test(&quot;bad&quot;,()=&gt;{})</failure>
    </testcase>
  </testsuite>
  <testsuite name="./b_test.ts" tests="1" disabled="0" errors="0" failures="0">
    <testcase name="outer" classname="./b_test.ts" time="0.001" line="2" col="1"></testcase>
  </testsuite>
  <testsuite name="ext:deno_node/testing.ts" tests="4" disabled="1" errors="0" failures="0">
    <testcase name="outer &gt; one" classname="x" time="0.000"></testcase>
    <testcase name="outer &gt; two" classname="x" time="0.000">
      <skipped/>
    </testcase>
    <testcase name="outer &gt; inner" classname="x" time="0.001"></testcase>
    <testcase name="outer &gt; inner &gt; deep" classname="x" time="0.000"></testcase>
  </testsuite>
</testsuites>`;
const BUN = `<testsuites name="bun test" tests="4" failures="1" skipped="1">
  <testsuite name="b_test.ts" file="b_test.ts" tests="0" assertions="0" failures="0" time="0.001"></testsuite>
  <testsuite name="a_test.ts" file="a_test.ts" tests="4" assertions="0" failures="1" skipped="1" time="0.013">
  <testsuite name="outer" file="a_test.ts" line="2" tests="3" failures="0">
    <testcase name="one" classname="outer" time="0.0008" line="2" assertions="0" />
    <testcase name="two" classname="outer" time="0"><skipped /></testcase>
    <testsuite name="inner"><testcase name="deep" classname="inner &gt; outer" time="0.00001" /></testsuite>
  </testsuite>
  <testcase name="top" classname=""><failure type="AssertionError" message="1 !== 2">x</failure></testcase>
  </testsuite>
</testsuites>`;

test("both runtimes' reports count the same", () => {
  for (const xml of [DENO, BUN]) assert.deepEqual(countCases(xml), { passed: 2, failed: 1, skipped: 1 });
});

test("both runtimes' reports name the files with failures", () => {
  for (const xml of [DENO, BUN]) assert.deepEqual(failedFiles(xml), ["a_test.ts"]);
  const shared = `<testsuite name="./scenarios.ts" failures="1"></testsuite>
    <testsuite name="ext:deno_node/testing.ts" failures="1"></testsuite>`;
  assert.deepEqual(failedFiles(shared), ["scenarios.ts"]);
  assert.deepEqual(failedFiles(""), []);
});

test("both runtimes' reports tell how long a file took", () => {
  for (const xml of [DENO, BUN]) {
    assert.deepEqual(secondsOfFiles(xml), new Map([["a_test.ts", 0.013], ["b_test.ts", 0.001]]));
  }
  assert.deepEqual(secondsOfFiles(""), new Map());
});

test("a describe that fails by itself counts as one failure", () => {
  const xml =
    `<testcase name="outer"><failure message="hook"/></testcase><testcase name="outer &gt; a"></testcase>`;
  assert.deepEqual(countCases(xml), { passed: 1, failed: 1, skipped: 0 });
});

test("an empty report has no cases", () => {
  assert.deepEqual(countCases(""), { passed: 0, failed: 0, skipped: 0 });
});
