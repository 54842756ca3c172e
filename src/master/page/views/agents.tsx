/** @jsxImportSource hono/jsx */
/**
 * Agents: the list, a single agent, and its start command.
 *
 * @module
 */
import { raw } from "hono/html";
import type { Agent, LiveSession } from "../../model.ts";
import type { Page } from "../../store/store.ts";
import { formatBytes } from "../../../bytes/format_bytes.ts";
import { agentPath, countText } from "../format.ts";
import { Icon } from "../icons.tsx";
import {
  Badge,
  Card,
  Choice,
  Confirmed,
  Copyable,
  Empty,
  type Html,
  Pages,
  Shell,
  Table,
  Time,
  type Viewer,
} from "../layout.tsx";
import { LIMIT_FIELDS } from "./agent_form.tsx";
import { SessionsTable } from "./sessions.tsx";

/** The query of a list of agents. */
interface AgentsQuery {
  readonly search: string;
  readonly state: string;
  readonly cursor: string | undefined;
}

/** The list of agents. */
export function AgentsView({ viewer, agents, sessions, query, done }: {
  readonly viewer: Viewer;
  readonly agents: Page<Agent>;
  /** Live sessions by agent. */
  readonly sessions: ReadonlyMap<string, number>;
  readonly query: AgentsQuery;
  readonly done: string | undefined;
}): Html {
  const { search, state, cursor } = query;
  const isFiltered = search !== "" || state !== "" || cursor !== undefined;
  const columns = [
    { name: "Name" },
    { name: "State" },
    { name: "Hostnames" },
    ...viewer.allTenants ? [{ name: "Tenant" }] : [],
  ];
  const rows = agents.items.map((agent) => [
    <a class="strong" href={agentPath(agent.id)}>{agent.name}</a>,
    <State agent={agent} sessions={sessions.get(agent.id) ?? 0} />,
    <Hostnames agent={agent} />,
    ...viewer.allTenants ? [agent.tenant] : [],
  ]);
  const add = viewer.mayChange && (
    <a class="button" href="/page/agents/new">
      <Icon name="add" />
      <span>Add agent</span>
    </a>
  );
  return (
    <Shell viewer={viewer} at="/page/agents" title="Agents" actions={add} done={done}>
      <form class="row" method="get" action="/page/agents" role="search">
        <label>
          Search
          <input
            type="search"
            name="search"
            value={search}
            maxlength={255}
            placeholder="Name, hostname or note"
          />
        </label>
        <label>
          State
          <select name="state">
            <Choice value="" chosen={state}>All</Choice>
            <Choice value="active" chosen={state}>Active</Choice>
            <Choice value="suspended" chosen={state}>Suspended</Choice>
          </select>
        </label>
        <button type="submit" class="quiet">
          <Icon name="search" />
          <span>Search</span>
        </button>
      </form>
      <div class="card" id="agents" data-live="">
        {rows.length > 0
          ? <Table caption="Agents" columns={columns} rows={rows} />
          : isFiltered
          ? (
            <Empty icon="search" title="No matching agents">
              <p>
                <a href="/page/agents">Show all agents</a>
              </p>
            </Empty>
          )
          : (
            <Empty icon="agents" title="No agents yet">
              <p>
                An agent connects a machine behind NAT to your edges. Add one, and run its start command
                there.
              </p>
              <p>{add}</p>
            </Empty>
          )}
      </div>
      <Pages path="/page/agents" next={agents.next} cursor={cursor} query={{ search, state }} />
    </Shell>
  );
}

function Hostnames({ agent: { hostnames } }: { readonly agent: Agent }): Html {
  const [first, ...others] = hostnames;
  return (
    <span title={hostnames.join(" ")}>
      {first}
      {others.length > 0 && <span class="faint">{` and ${countText(others.length)} more`}</span>}
    </span>
  );
}

function State({ agent, sessions }: { readonly agent: Agent; readonly sessions: number }): Html {
  if (agent.state === "suspended") return <Badge kind="bad">suspended</Badge>;
  if (sessions > 0) {
    return <Badge kind="good">{sessions === 1 ? "online" : `online, ${sessions} sessions`}</Badge>;
  }
  if (agent.publicKey === undefined) return <Badge kind="wait">not enrolled</Badge>;
  return <Badge kind="idle">offline</Badge>;
}

/** One agent, and its actions. */
export function AgentView({ viewer, agent, sessions, nowMs, done }: {
  readonly viewer: Viewer;
  readonly agent: Agent;
  readonly sessions: Page<LiveSession>;
  readonly nowMs: number;
  readonly done: string | undefined;
}): Html {
  const path = agentPath(agent.id);
  const shown = { viewer, agent };
  const list = (texts: readonly string[], none: string) =>
    texts.length === 0
      ? <span class="faint">{none}</span>
      : <ul class="plain">{texts.map((text) => <li class="code">{text}</li>)}</ul>;
  const limits = LIMIT_FIELDS.flatMap(({ name, label, unit }) => {
    const figure = agent.limits[name];
    if (figure === undefined) return [];
    return [`${label}: ${unit === "bytes" ? formatBytes(figure) : countText(figure)}`];
  });
  return (
    <Shell
      viewer={viewer}
      at="/page/agents"
      title={agent.name}
      back={["/page/agents", "Agents"]}
      done={done}
      actions={viewer.mayChange && (
        <>
          <a class="button quiet" href={`${path}/edit`}>Edit</a>
          {agent.state === "active" ? <Suspend {...shown} /> : <Resume {...shown} />}
        </>
      )}
    >
      <div id="agent-state" data-live="" class="states">
        <State agent={agent} sessions={sessions.items.length} />
        {agent.expiresAtMs !== undefined && agent.expiresAtMs <= nowMs && <Badge kind="bad">expired</Badge>}
      </div>
      <Card title="Live sessions">
        <div id="sessions" data-live="">
          <SessionsTable viewer={viewer} sessions={sessions.items} nowMs={nowMs} close={`${path}/close`} />
        </div>
      </Card>
      <Card
        title="Policy"
        actions={
          <>
            <a href={`/page/usage?agent=${encodeURIComponent(agent.id)}`}>Usage</a>
            <a href={`/page/audit?subject=${encodeURIComponent(agent.id)}`}>Audit</a>
          </>
        }
      >
        <dl class="plain">
          <dt>Hostnames</dt>
          <dd>{list(agent.hostnames, "none")}</dd>
          <dt>Public ports</dt>
          <dd>{list(agent.publish, "none")}</dd>
          <dt>Limits</dt>
          <dd>
            {limits.length === 0
              ? <span class="faint">none</span>
              : <ul class="plain">{limits.map((text) => <li>{text}</li>)}</ul>}
          </dd>
          <dt>Agent's networks</dt>
          <dd>{list(agent.agentNetworks, "all")}</dd>
          <dt>Visitors' networks</dt>
          <dd>{list(agent.visitorNetworks, "all")}</dd>
          <dt>Tenant</dt>
          <dd>{agent.tenant}</dd>
          {agent.group !== undefined && (
            <>
              <dt>Group</dt>
              <dd>{agent.group}</dd>
            </>
          )}
          <dt>Expires</dt>
          <dd>{agent.expiresAtMs === undefined ? "never" : <Time ms={agent.expiresAtMs} />}</dd>
          {agent.notes !== "" && (
            <>
              <dt>Notes</dt>
              <dd class="notes">{agent.notes}</dd>
            </>
          )}
          <dt>Added</dt>
          <dd>
            <Time ms={agent.createdAtMs} />
          </dd>
          <dt>Id</dt>
          <dd class="code">{agent.id}</dd>
        </dl>
      </Card>
      {viewer.mayChange && <Danger {...shown} />}
    </Shell>
  );
}

interface AgentProps {
  readonly viewer: Viewer;
  readonly agent: Agent;
}

const actionOf = (agent: Agent, verb: string) => `${agentPath(agent.id)}/${verb}`;

function Suspend({ viewer, agent }: AgentProps): Html {
  return (
    <Confirmed
      id="suspend"
      name="Suspend"
      title={`Suspend ${agent.name}?`}
      confirm="Suspend"
      action={actionOf(agent, "suspend")}
      viewer={viewer}
    >
      <p>
        Its sessions and streams end on every edge within a second, and its tokens are refused until you
        resume it.
      </p>
    </Confirmed>
  );
}

function Resume({ viewer, agent }: AgentProps): Html {
  return (
    <Confirmed
      id="resume"
      name="Resume"
      kind="main"
      title={`Resume ${agent.name}?`}
      confirm="Resume"
      action={actionOf(agent, "resume")}
      viewer={viewer}
    >
      <p>Its tokens are good again, and it comes back by itself.</p>
    </Confirmed>
  );
}

function Danger({ viewer, agent }: AgentProps): Html {
  return (
    <Card title="Restart it, or remove it">
      <div class="choices">
        <div>
          <p>
            <strong>New start command.</strong>{" "}
            For a new machine, or when its key may be known: the old key and its tokens are worthless from
            then on.
          </p>
          <Confirmed
            id="rotate"
            name="New start command"
            title={`Make a new start command for ${agent.name}?`}
            confirm="Make it"
            action={actionOf(agent, "rotate")}
            viewer={viewer}
          >
            <p>The agent's key and all its tokens are worthless from now on, and its sessions end.</p>
          </Confirmed>
        </div>
        <div>
          <p>
            <strong>Remove.</strong> Its sessions end and its hostnames are free. Its usage stays.
          </p>
          <Confirmed
            id="remove"
            name="Remove"
            title={`Remove ${agent.name}?`}
            confirm={`Remove ${agent.name}`}
            action={actionOf(agent, "remove")}
            viewer={viewer}
          >
            <p>This can't be undone. To keep it away for a while, suspend it.</p>
          </Confirmed>
        </div>
      </div>
    </Card>
  );
}

/** The command that starts an agent; its code is shown only once. */
export function StartView({ viewer, agent, command, qr, expiresAtMs }: {
  readonly viewer: Viewer;
  readonly agent: Agent;
  readonly command: string;
  /** The command as a QR code in SVG. */
  readonly qr: string;
  readonly expiresAtMs: number;
}): Html {
  const path = agentPath(agent.id);
  return (
    <Shell viewer={viewer} at="/page/agents" title={`Start ${agent.name}`} back={[path, agent.name]}>
      <Card>
        <div class="start">
          <div>
            <p>
              Run this command on the agent's own machine. <code>--to</code> is what visitors reach there:
              {" "}
              <code>http://127.0.0.1:3000</code> for a web server, <code>HOST:PORT</code>{" "}
              for what speaks TLS itself.
            </p>
            <Copyable id="command" label="Start command" text={command} />
            <p class="note">
              The code in it is good once, until <Time ms={expiresAtMs} />, and is not shown again.
            </p>
            <div class="states" role="status" id="agent-state" data-live={path}>
              <State agent={agent} sessions={0} />
            </div>
            <p>
              <a class="button quiet" href={path}>Show {agent.name}</a>
            </p>
          </div>
          <figure>
            <div class="qr" role="img" aria-label="The start command as a QR code">{raw(qr)}</div>
            <figcaption class="faint">The same command, for a phone or a terminal with a camera</figcaption>
          </figure>
        </div>
      </Card>
    </Shell>
  );
}
