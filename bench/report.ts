/**
 * The results as a table in Markdown.
 *
 * @module
 */

import type { Case, Metric } from "./cases/case.ts";
import { medianOf, type Results } from "./results.ts";
import { judge, met } from "./targets.ts";

const OWN = ["sallyport-bun", "sallyport-deno"];

/** The whole report. */
export function writeReport(results: Results, cases: readonly Case[]): string {
  const { machine } = results;
  const parts = [
    "# Benchmark",
    `${results.date}. ${machine.processors}, ${machine.memory}, ${machine.kernel}, load before ${machine.load}. ` +
    `Edge, agent, endpoint and visitors share the machine. Medians of ${results.rounds} round${
      results.rounds === 1 ? "" : "s"
    }${results.quick ? ", quick and rough" : ""}; in brackets the ratio to the direct connection.`,
    table(["peer", "version"], results.peers.map(({ title, version }) => [title, version])),
  ];
  for (const entry of cases) {
    const shown = entry.metrics.filter(({ name }) => results.values[name] !== undefined);
    if (shown.length === 0) continue;
    const peers = results.peers.filter(({ name }) =>
      shown.some((metric) => results.values[metric.name]![name])
    );
    parts.push(
      `## ${entry.title}`,
      table(
        ["", ...peers.map(({ title }) => title)],
        shown.map((metric) => [
          metric.title + (metric.unit === "" ? "" : `, ${metric.unit}`),
          ...peers.map(({ name }) => cell(results, metric, name)),
        ]),
      ),
    );
  }
  parts.push(...ratios(results, cases), ...targets(results));
  if (results.missing.length > 0) {
    parts.push(
      "## Not measured",
      results.missing.map(({ peer, case: of, why }) =>
        `- ${peer}${of === undefined ? "" : `, ${of}`}: ${why}`
      ).join(
        "\n",
      ),
    );
  }
  return parts.join("\n\n") + "\n";
}

/** A number with about three digits. */
export function short(value: number): string {
  const size = Math.abs(value);
  if (size >= 100) return Math.round(value).toLocaleString("en").replaceAll(",", " ");
  return size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function cell(results: Results, { name, unit }: Metric, peer: string): string {
  const value = medianOf(results, name, peer);
  if (value === undefined) return "";
  const direct = medianOf(results, name, "direct");
  const comparable = peer !== "direct" && direct !== undefined && direct > 0 && unit !== "";
  return short(value) + (comparable ? ` (${(value / direct).toFixed(2)})` : "");
}

/** Sallyport against each of the others, rates and times alike: above 1 Sallyport is better. */
function ratios(results: Results, cases: readonly Case[]): string[] {
  const parts: string[] = [];
  for (const own of OWN) {
    const title = results.peers.find(({ name }) => name === own)?.title;
    const others = results.peers.filter(({ name }) =>
      !name.startsWith("sallyport") && !name.endsWith("-gcm")
    );
    if (title === undefined || others.length === 0) continue;
    const rows: string[][] = [];
    for (const { metrics } of cases) {
      for (const metric of metrics) {
        const mine = medianOf(results, metric.name, own);
        if (mine === undefined || mine <= 0 || metric.unit === "") continue;
        const row = others.map(({ name }) => {
          const theirs = medianOf(results, metric.name, name);
          if (theirs === undefined || theirs <= 0) return "";
          return (metric.better === "more" ? mine / theirs : theirs / mine).toFixed(2);
        });
        if (row.some((text) => text !== "")) rows.push([`\`${metric.name}\``, ...row]);
      }
    }
    parts.push(
      `## ${title} against the others`,
      "How many times better it is; below 1 it is worse.",
      table(["", ...others.map((other) => other.title)], rows),
    );
  }
  return parts;
}

function targets(results: Results): string[] {
  const judged = judge(results);
  if (judged.length === 0) return [];
  return [
    "## Targets",
    table(
      ["", "runtime", "reached", "wanted", ""],
      judged.map((target) => [
        target.what,
        target.runtime,
        `${target.reached.toFixed(2)} ${target.unit}`,
        `${target.atMost ? "≤" : "≥"} ${target.wanted} ${target.unit}`,
        met(target) ? "yes" : "**no**",
      ]),
    ),
  ];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = head.map((_, i) => i === 0 ? "---" : "---:");
  return [line(head), line(rule), ...rows.map(line)].join("\n");
}
