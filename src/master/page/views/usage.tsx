/** @jsxImportSource hono/jsx */
/**
 * Bytes, streams and connected time.
 *
 * @module
 */
import type { Agent, UsageRow } from "../../model.ts";
import { formatBytes } from "../../../bytes/format_bytes.ts";
import { countText } from "../format.ts";
import { Icon } from "../icons.tsx";
import { Card, Empty, type Html, Shell, Table, type Viewer } from "../layout.tsx";

/** Maximum number of table rows shown. */
export const USAGE_ROWS_MAX = 500;

/** Props of {@link UsageView}. */
interface UsageProps {
  readonly viewer: Viewer;
  /** At least one. */
  readonly days: readonly string[];
  readonly rows: readonly UsageRow[];
  /** Set to show the usage of a single agent. */
  readonly agent?: Agent;
}

interface Sum {
  readonly key: string;
  name: string;
  bytesToAgent: number;
  bytesToVisitor: number;
  streams: number;
  connectedMs: number;
}

/** Usage of one agent by day, or of all by agent. */
export function UsageView({ viewer, days, rows, agent }: UsageProps): Html {
  const [from, to] = [days[0]!, days.at(-1)!];
  const byDay = sums(rows, ({ day }) => [day, day]);
  const shown = agent === undefined
    ? [...sums(rows, (row) => [row.agent, row.name || row.agent]).values()]
      .sort((a, b) => b.bytesToAgent + b.bytesToVisitor - a.bytesToAgent - a.bytesToVisitor)
    : [...byDay.values()].sort((a, b) => b.key < a.key ? -1 : 1);
  const query = new URLSearchParams({ from, to, ...agent === undefined ? {} : { agent: agent.id } });
  const name = (sum: Sum) =>
    agent !== undefined || !sum.key.startsWith("agent_")
      ? sum.name
      : <a href={`/page/usage?${new URLSearchParams({ from, to, agent: sum.key })}`}>{sum.name}</a>;
  const series = days.map((day) => {
    const sum = byDay.get(day);
    return [Date.parse(day) / 1000, sum?.bytesToVisitor ?? 0, sum?.bytesToAgent ?? 0];
  });
  return (
    <Shell
      viewer={viewer}
      at="/page/usage"
      title={agent === undefined ? "Usage" : `Usage of ${agent.name}`}
      {...(agent === undefined ? {} : { back: ["/page/usage", "Usage of all agents"] as const })}
      actions={
        <a class="button quiet" href={`/page/usage.csv?${query}`} download={`usage-${from}-${to}.csv`}>
          <Icon name="file" />
          <span>CSV</span>
        </a>
      }
      chart
    >
      <form class="row" method="get" action="/page/usage">
        {agent !== undefined && <input type="hidden" name="agent" value={agent.id} />}
        <label>
          From
          <input type="date" name="from" value={from} required />
        </label>
        <label>
          To
          <input type="date" name="to" value={to} required />
        </label>
        <button type="submit" class="quiet">Show</button>
      </form>
      {shown.length === 0
        ? (
          <div class="card">
            <Empty icon="usage" title="No usage in these days">
              <p>Edges report every few seconds what their visitors moved.</p>
            </Empty>
          </div>
        )
        : (
          <>
            <Card title="By day (UTC)">
              <p class="legend">
                <span class="key visitor">To visitors</span>
                <span class="key agent">To agents</span>
              </p>
              <div
                class="chart"
                role="img"
                aria-label="Bytes by day to visitors and to agents; the table below has the figures"
                data-days={JSON.stringify(series)}
              />
            </Card>
            <Card title={agent === undefined ? "By agent" : "Day by day"}>
              <Table
                caption="Usage"
                columns={[
                  { name: agent === undefined ? "Agent" : "Day" },
                  ...["To agent", "To visitors", "Streams", "Connected"].map((name) => ({
                    name,
                    number: true,
                  })),
                ]}
                rows={shown.slice(0, USAGE_ROWS_MAX).map((sum) => [
                  name(sum),
                  formatBytes(sum.bytesToAgent),
                  formatBytes(sum.bytesToVisitor),
                  countText(sum.streams),
                  `${(sum.connectedMs / 3_600_000).toFixed(1)} h`,
                ])}
              />
              {shown.length > USAGE_ROWS_MAX && (
                <p class="faint">
                  {`${
                    countText(shown.length - USAGE_ROWS_MAX)
                  } more are not shown; the CSV file has all of them.`}
                </p>
              )}
            </Card>
          </>
        )}
    </Shell>
  );
}

function sums(
  rows: readonly UsageRow[],
  of: (row: UsageRow) => readonly [key: string, name: string],
): Map<string, Sum> {
  const found = new Map<string, Sum>();
  for (const row of rows) {
    const [key, name] = of(row);
    let sum = found.get(key);
    if (sum === undefined) {
      sum = { key, name, bytesToAgent: 0, bytesToVisitor: 0, streams: 0, connectedMs: 0 };
      found.set(key, sum);
    }
    sum.bytesToAgent += row.bytesToAgent;
    sum.bytesToVisitor += row.bytesToVisitor;
    sum.streams += row.streams;
    sum.connectedMs += row.connectedMs;
  }
  return found;
}
