/** The dashboard and the alert rules: every metric and label in them is one that there is, and Prometheus takes the rules. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { promtool, skipPromtool } from "../support/promtool.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const read = (path: string) => readFile(join(ROOT, path), "utf8");
/** What Prometheus itself adds. */
const OWN_LABELS = ["instance", "job", "le"];

/** The metrics of the reference page with their labels. */
async function documented(): Promise<Map<string, readonly string[]>> {
  const text = await read("docs/reference/metrics.md");
  const rows = [...text.matchAll(/^\| `(\w+)` +\| (\w+) +\|([^|]*)\|/gm)];
  const found = new Map(
    rows.map(([, name, , labels]) =>
      [
        name as string,
        [...(labels as string).matchAll(/`(\w+)`/g)].map(([, label]) => label as string),
      ] as const
    ),
  );
  for (const [, name, type] of rows) {
    if (type !== "histogram") continue;
    for (const part of ["bucket", "sum", "count"]) found.set(`${name}_${part}`, found.get(name as string)!);
  }
  return found;
}

/** What is wrong in an expression: metrics and labels that there aren't. */
function faults(expr: string, metrics: ReadonlyMap<string, readonly string[]>): string[] {
  const wrong: string[] = [];
  const labels = new Set(OWN_LABELS);
  for (const [, name] of expr.matchAll(/\b((?:sallyport|process)_\w+)\b/g)) {
    const known = metrics.get(name as string);
    if (known === undefined) wrong.push(`${name} in ${expr}`);
    for (const label of known ?? []) labels.add(label);
  }
  const named = [
    ...[...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list]) => (list as string).split(/, */)),
    ...[...expr.matchAll(/\{([^}]*)\}/g)].flatMap(([, inside]) =>
      [...(inside as string).matchAll(/(\w+) *(?:=~|!~|!=|=)/g)].map(([, label]) => label as string)
    ),
  ];
  for (const label of named) if (!labels.has(label)) wrong.push(`label ${label} in ${expr}`);
  return wrong;
}

interface Rules {
  readonly groups: readonly {
    readonly rules: readonly {
      readonly alert: string;
      readonly expr: string;
      readonly annotations: Readonly<Record<string, string>>;
    }[];
  }[];
}

const skip = await skipPromtool();

describe("packaging/monitoring", () => {
  it("the check sees what is wrong", async () => {
    const metrics = await documented();
    assert.deepEqual(faults('sum by (transport) (sallyport_sessions{instance="a"})', metrics), []);
    assert.equal(faults("sallyport_sesions", metrics).length, 1);
    assert.equal(faults('sum by (colour) (sallyport_sessions{tenant="a"})', metrics).length, 2);
  });

  it("alert rules use metrics and labels of docs/reference/metrics.md", async () => {
    const metrics = await documented();
    const rules = (parse(await read("packaging/monitoring/alerts.yaml")) as Rules).groups.flatMap((
      { rules },
    ) => rules);
    assert.ok(rules.length > 10);
    assert.deepEqual(rules.flatMap(({ expr }) => faults(expr, metrics)), []);
    for (const { alert, annotations } of rules) {
      for (const name of ["summary", "description"]) assert.ok(annotations[name], `${alert} has no ${name}`);
    }
  });

  it("the dashboard does, and no two of its panels lie on one another", async () => {
    const metrics = await documented();
    const dashboard = JSON.parse(await read("packaging/monitoring/grafana-dashboard.json"));
    const exprs: string[] = dashboard.panels.flatMap((panel: { targets?: { expr: string }[] }) =>
      (panel.targets ?? []).map(({ expr }) => expr)
    );
    assert.ok(exprs.length > 20);
    assert.deepEqual(exprs.flatMap((expr) => faults(expr, metrics)), []);
    const query: string = dashboard.templating.list[1].query.query;
    assert.deepEqual(faults(query, metrics), []);
    const taken = new Set<string>();
    for (const { gridPos: { x, y, w, h }, title } of dashboard.panels) {
      assert.ok(x + w <= 24, title);
      for (let column = x; column < x + w; column++) {
        for (let line = y; line < y + h; line++) {
          const place = `${column}/${line}`;
          assert.ok(!taken.has(place), `${title} lies on another panel`);
          taken.add(place);
        }
      }
    }
  });

  it(
    "promtool takes the rules and their tests",
    { skip, timeout: 180_000 },
    async () => {
      const folder = join(ROOT, "packaging", "monitoring");
      await promtool("check", "rules", join(folder, "alerts.yaml"));
      await promtool("test", "rules", join(folder, "alerts.test.yaml"));
    },
  );
});
