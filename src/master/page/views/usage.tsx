/** @jsxImportSource hono/jsx */
/**
 * Bytes, streams and connected time.
 *
 * @module
 */
import type { Agent } from "../../model.ts";
import type { AgentUsage, DayUsage, UsageSum } from "../../store/store.ts";
import { formatBytes } from "../../../bytes/format_bytes.ts";
import { countText } from "../format.ts";
import { Icon } from "../icons.tsx";
import { Card, Empty, type Html, Shell, Table, type Viewer } from "../layout.tsx";

/** Maximum number of agents shown. */
export const USAGE_ROWS_MAX = 500;

/** Props of {@link UsageView}. */
interface UsageProps {
  readonly viewer: Viewer;
  /** At least one. */
  readonly days: readonly string[];
  readonly byDay: readonly DayUsage[];
  /** The agents with the most usage, and the number of all. Absent if a single one is shown. */
  readonly agents?: { readonly items: readonly AgentUsage[]; readonly count: number };
  /** Set to show the usage of a single agent. */
  readonly agent?: Agent;
}

/** Usage of one agent by day, or of all by agent. */
export function UsageView({ viewer, days, byDay, agents, agent }: UsageProps): Html {
  const [from, to] = [days[0]!, days.at(-1)!];
  const query = new URLSearchParams({ from, to, ...agent === undefined ? {} : { agent: agent.id } });
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
      <DaysForm from={from} to={to} agent={agent} />
      {byDay.length === 0
        ? (
          <div class="card">
            <Empty icon="usage" title="No usage in these days">
              <p>Edges report every few seconds what their visitors moved.</p>
            </Empty>
          </div>
        )
        : (
          <>
            <DaysChart days={days} byDay={byDay} />
            {agents === undefined
              ? <DayTable byDay={byDay} />
              : <AgentTable agents={agents} link={(id) => new URLSearchParams({ from, to, agent: id })} />}
          </>
        )}
    </Shell>
  );
}

function DaysForm(
  { from, to, agent }: { readonly from: string; readonly to: string; readonly agent: Agent | undefined },
): Html {
  return (
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
  );
}

function DaysChart({ days, byDay }: Pick<UsageProps, "days" | "byDay">): Html {
  const sums = new Map(byDay.map((sum) => [sum.day, sum]));
  const series = days.map((day) => {
    const sum = sums.get(day);
    return [Date.parse(day) / 1000, sum?.bytesToVisitor ?? 0, sum?.bytesToAgent ?? 0];
  });
  return (
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
  );
}

function DayTable({ byDay }: Pick<UsageProps, "byDay">): Html {
  return (
    <Card title="Day by day">
      <SumTable first="Day" rows={[...byDay].reverse().map((sum) => [sum.day, sum])} />
    </Card>
  );
}

function AgentTable({ agents: { items, count }, link }: {
  readonly agents: NonNullable<UsageProps["agents"]>;
  readonly link: (agent: string) => URLSearchParams;
}): Html {
  const name = ({ agent, name }: AgentUsage) =>
    agent.startsWith("agent_") ? <a href={`/page/usage?${link(agent)}`}>{name || agent}</a> : name || agent;
  const hidden = count - items.length;
  return (
    <Card title="By agent">
      <SumTable first="Agent" rows={items.map((sum) => [name(sum), sum])} />
      {hidden > 0 && (
        <p class="faint">{`${countText(hidden)} more are not shown; the CSV file has all of them.`}</p>
      )}
    </Card>
  );
}

function SumTable({ first, rows }: {
  readonly first: string;
  readonly rows: readonly (readonly [name: Html | string, sum: UsageSum])[];
}): Html {
  return (
    <Table
      caption="Usage"
      columns={[
        { name: first },
        ...["To agent", "To visitors", "Streams", "Connected"].map((name) => ({ name, number: true })),
      ]}
      rows={rows.map(([name, sum]) => [
        name,
        formatBytes(sum.bytesToAgent),
        formatBytes(sum.bytesToVisitor),
        countText(sum.streams),
        `${(sum.connectedMs / 3_600_000).toFixed(1)} h`,
      ])}
    />
  );
}
