/**
 * The results as a picture for the README: SVG, drawn here, readable on light and dark ground.
 *
 * @module
 */

import type { Case } from "./cases/case.ts";
import { short } from "./report.ts";
import { medianOf, type Results } from "./results.ts";

const PANELS = [
  { metric: "bulk.up.8.mbps", title: "Bulk, visitor → endpoint, 8 streams" },
  { metric: "bulk.down.8.mbps", title: "Bulk, endpoint → visitor, 8 streams" },
  { metric: "visitors.32.rate", title: "New visitors, 32 at once" },
  { metric: "pingpong.alone.p50", title: "Ping-pong of 64 bytes, p50" },
  { metric: "pingpong.besideDown.p99", title: "Ping-pong beside a download, p99" },
  { metric: "sessions.memory", title: "Edge's memory for an idle session" },
];
const COLUMNS = 2;
const PANEL_WIDTH = 430;
const GAP = 24;
const NAME_WIDTH = 130;
const VALUE_WIDTH = 70;
const ROW_HEIGHT = 22;
const HEAD_HEIGHT = 44;
const STYLE =
  `text{font:12px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600;font-size:13px}.u{fill:#59636e}` +
  `.own{fill:#0969da}.other{fill:#9aa4af}` +
  `@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.u{fill:#9198a1}.own{fill:#4493f8}.other{fill:#656c76}}`;

/** The picture; panels without figures are left out. */
export function drawChart(results: Results, cases: readonly Case[]): string {
  const metrics = new Map(cases.flatMap((entry) => entry.metrics.map((metric) => [metric.name, metric])));
  const panels = PANELS.filter(({ metric }) => metrics.has(metric) && results.values[metric] !== undefined);
  const peers = results.peers.filter(({ name }) => !name.endsWith("-gcm"));
  const heights: number[] = [];
  const drawn = panels.map(({ metric, title }, index) => {
    const { unit, better } = metrics.get(metric)!;
    const bars = peers.flatMap(({ name, title }) => {
      const value = medianOf(results, metric, name);
      return value === undefined ? [] : [{ name, title, value }];
    });
    const row = Math.floor(index / COLUMNS);
    heights[row] = Math.max(heights[row] ?? 0, HEAD_HEIGHT + bars.length * ROW_HEIGHT + GAP);
    return { title, unit, better, bars, row, column: index % COLUMNS };
  });
  const top = (row: number): number => heights.slice(0, row).reduce((sum, height) => sum + height, GAP / 2);
  const width = COLUMNS * PANEL_WIDTH + (COLUMNS + 1) * GAP;
  const body = drawn.map(({ title, unit, better, bars, row, column }) => {
    const most = Math.max(...bars.map(({ value }) => value), Number.MIN_VALUE);
    const room = PANEL_WIDTH - NAME_WIDTH - VALUE_WIDTH;
    const lines = bars.map(({ name, title, value }, i) => {
      const y = HEAD_HEIGHT + i * ROW_HEIGHT;
      const length = Math.max(1, Math.max(0, value) / most * room);
      const kind = name.startsWith("sallyport") ? "own" : "other";
      return `<text x="${NAME_WIDTH - 8}" y="${y + 11}" text-anchor="end">${escape(title)}</text>` +
        `<rect class="${kind}" x="${NAME_WIDTH}" y="${y}" width="${length.toFixed(1)}" height="14" rx="2"/>` +
        `<text class="u" x="${(NAME_WIDTH + length + 6).toFixed(1)}" y="${y + 11}">${short(value)}</text>`;
    });
    const left = GAP + column * (PANEL_WIDTH + GAP);
    return `<g transform="translate(${left} ${top(row)})"><text class="t" x="0" y="14">${
      escape(title)
    }</text>` +
      `<text class="u" x="0" y="31">${escape(unit)}, ${better} is better</text>${lines.join("")}</g>`;
  });
  const height = top(heights.length);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
    `role="img" aria-label="Benchmark results"><style>${STYLE}</style>${body.join("")}</svg>\n`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
