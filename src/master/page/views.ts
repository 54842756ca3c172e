/**
 * The page's views as HTML. The `html` tag escapes every text that is put into it.
 *
 * @module
 */
import { html } from "hono/html";
import { VERSION } from "../../version.ts";
import type { Agent, AuditRecord, LiveSession, UsageRow } from "../model.ts";
import type { Page } from "../store/store.ts";

/** HTML whose texts are escaped. */
export type Html = ReturnType<typeof html>;

/** What every view of a login knows. */
export interface Viewer {
  /** The credential's id. */
  readonly name: string;
  /** Whether it may change something. */
  readonly mayChange: boolean;
  /** What forms repeat. */
  readonly token: string;
}

const VIEWS = [
  ["/", "Overview"],
  ["/page/agents", "Agents"],
  ["/page/sessions", "Sessions"],
  ["/page/usage", "Usage"],
  ["/page/audit", "Audit"],
] as const;
/** A path of the menu. */
export type ViewPath = typeof VIEWS[number][0];

function document(title: string, body: Html): Html {
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>${title} – Sallyport</title>
        <link rel="icon" href="data:,">
        <link rel="stylesheet" href="/page/style.css">
        <script src="/page/script.js" defer></script>
      </head>
      <body>
    ${body}
      </body>
    </html>
  `;
}

/** A view with the menu. */
function view(viewer: Viewer, path: ViewPath, title: string, body: Html): Html {
  const items = VIEWS.map(([to, name]) =>
    html`<li><a href="${to}"${
      to === path
        ? html`
          aria-current="page"
        `
        : ""
    }>${name}</a></li>`
  );
  return document(
    title,
    html`
      <a class="skip" href="#main">Skip to content</a>
      <header>
        <div class="bar">
          <span class="brand">Sallyport</span>
          <nav aria-label="Views">
            <ul>${items}</ul>
          </nav>
          <form method="post"
            action="/page/logout">${hidden(viewer)}<button class="quiet">Log out ${viewer
              .name}</button></form>
        </div>
      </header>
      <main id="main" tabindex="-1">
      <h1>${title}</h1>
      ${body}
      </main>
    `,
  );
}

function hidden({ token }: Viewer, more: Readonly<Record<string, string>> = {}): Html {
  const fields = Object.entries({ token, ...more })
    .map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`);
  return html`${fields}`;
}

/** The page of somebody who isn't logged in. */
export function loginView(wrong?: string): Html {
  return document(
    "Log in",
    html`<main class="login">
<h1>Sallyport session master</h1>
${wrong === undefined ? "" : html`<p class="note wrong" role="alert" id="wrong">${wrong}</p>`}
<form class="stack" method="post" action="/page/login">
<label>Admin key
<input type="password" name="key" required autofocus autocomplete="current-password"${
      wrong === undefined ? "" : html`
        aria-describedby="wrong" aria-invalid="true"
      `
    }>
<small>Or an API key with the scope read or admin</small></label>
<button>Log in</button>
</form>
</main>`,
  );
}

/** What went wrong, for somebody who may or may not be logged in. */
export function errorView(detail: string): Html {
  return document(
    "Error",
    html`
      <main class="login">
        <h1>This did not work</h1>
        <p class="note wrong" role="alert">${detail}</p>
        <p><a href="/">Back to the overview</a></p>
      </main>
    `,
  );
}

/** Counts, live sessions and traffic. */
export function overviewView(viewer: Viewer, live: Html): Html {
  return view(
    viewer,
    "/",
    "Overview",
    html`
      <div id="live">${live}</div>
      <h2 id="traffic">Traffic</h2>
      <p>Now: <strong id="rate">…</strong></p>
      <svg id="chart" class="chart" viewBox="0 0 100 40" preserveAspectRatio="none" role="img"
        aria-labelledby="traffic">
        <polyline points="" />
      </svg>
      <p><small>Payload both ways over the last two minutes. Version ${VERSION}.</small></p>
    `,
  );
}

/** The part of the overview that is fetched again and again. */
export function liveView(agents: Page<Agent>, sessions: Page<LiveSession>): Html {
  const sum = (of: (session: LiveSession) => number) =>
    sessions.items.reduce((total, session) => total + of(session), 0);
  const toAgent = sum(({ bytesToAgent }) => bytesToAgent);
  const toVisitor = sum(({ bytesToVisitor }) => bytesToVisitor);
  const more = sessions.next === undefined ? "" : "+";
  const fact = (name: string, value: string) =>
    html`
      <div>
        <dt>${name}</dt>
        <dd>${value}</dd>
      </div>
    `;
  return html`<div data-bytes="${toAgent + toVisitor}">
<dl class="facts">
${fact("Agents", `${agents.items.length}${agents.next === undefined ? "" : "+"}`)}
${fact("Live sessions", `${sessions.items.length}${more}`)}
${fact("Streams", `${sum(({ streams }) => streams)}${more}`)}
${fact("To agents", `${bytesText(toAgent)}${more}`)}
${fact("To visitors", `${bytesText(toVisitor)}${more}`)}
</dl>
<h2>Live sessions</h2>
${
    table("Live sessions", ["Hostname", "Remote address", "Transport", "Since", "#Streams", "#Bytes"], [
      ...sessions.items.slice(0, 20).map((session) => [
        session.hostname,
        session.remote,
        session.transport,
        timeText(session.sinceMs),
        String(session.streams),
        bytesText(session.bytesToAgent + session.bytesToVisitor),
      ]),
    ])
  }
</div>`;
}

/** What the form that adds an agent holds. */
export interface AgentForm {
  readonly name: string;
  readonly hostnames: string;
  readonly notes: string;
}

/** Agents, and the form that adds one. */
export function agentsView(viewer: Viewer, agents: Page<Agent>, options: {
  readonly search?: string;
  readonly state?: string;
  readonly form?: AgentForm;
  readonly wrong?: string;
} = {}): Html {
  const { search = "", state = "", form = { name: "", hostnames: "", notes: "" }, wrong } = options;
  const choice = (value: string, name: string) =>
    html`
      <option value="${value}" ${value === state
        ? html`
          selected
        `
        : ""}>${name}</option>
    `;
  const rows = agents.items.map((agent) => [
    html`<a href="/page/agents/${encodeURIComponent(agent.id)}">${agent.name}</a>`,
    stateText(agent),
    agent.hostnames.join(", "),
    agent.tenant,
  ]);
  const add = html`<details${
    wrong === undefined ? "" : html`
      open
    `
  }>
<summary>Add an agent</summary>
${wrong === undefined ? "" : html`<p class="note wrong" role="alert">${wrong}</p>`}
<form class="stack" method="post" action="/page/agents">${hidden(viewer)}
<label>Name<input name="name" required maxlength="63" value="${form.name}" autocomplete="off"></label>
<label>Hostnames<input name="hostnames" required value="${form.hostnames}" autocomplete="off" autocapitalize="none">
<small>With spaces between them; *.home.example.org for all names below</small></label>
<label>Notes<textarea name="notes" rows="2">${form.notes}</textarea></label>
<div><button>Add agent</button></div>
</form>
</details>`;
  return view(
    viewer,
    "/page/agents",
    "Agents",
    html`
      ${viewer.mayChange ? add : ""}
      <form class="row" method="get" action="/page/agents" role="search">
        <label>Search<input type="search" name="search" value="${search}" maxlength="255"></label>
        <label>State<select name="state">${choice("", "All")}${choice("active", "Active")}${choice(
          "suspended",
          "Suspended",
        )}</select></label>
        <button>Search</button>
      </form>
      ${table("Agents", ["Name", "State", "Hostnames", "Tenant"], rows)}
      ${nextLink("/page/agents", agents.next, { search, state })}
    `,
  );
}

/** One agent, and what can be done with it. */
export function agentView(viewer: Viewer, agent: Agent, sessions: Page<LiveSession>): Html {
  const path = `/page/agents/${encodeURIComponent(agent.id)}`;
  const button = (verb: string, name: string, kind = "") =>
    html`
      <form method="post"
        action="${path}/${verb}">${hidden(viewer)}<button class="${kind}">${name}</button></form>
    `;
  const behind = (title: string, text: string, verb: string, name: string) =>
    html`<details><summary>${title}</summary><p>${text}</p>${button(verb, name, "bad")}</details>`;
  const facts = [
    ["State", stateText(agent)],
    ["Hostnames", agent.hostnames.join(", ")],
    ["Public ports", agent.publish.join(", ") || "none"],
    [
      "Limits",
      Object.entries(agent.limits).map(([name, figure]) => `${name} ${figure}`).join(", ") || "none",
    ],
    ["Tenant", agent.tenant],
    ["Expires", agent.expiresAtMs === undefined ? "never" : timeText(agent.expiresAtMs)],
    ["Notes", agent.notes],
    ["Added", timeText(agent.createdAtMs)],
    ["Id", agent.id],
  ] as const;
  const actions = html`<h2>Actions</h2>
<div class="actions">${
    agent.state === "active" ? button("suspend", "Suspend", "bad") : button("resume", "Resume")
  }</div>
${
    behind(
      "New start command…",
      "The agent's key and all its tokens are worthless from then on, and its sessions end.",
      "rotate",
      "Make a new start command",
    )
  }
${
    behind(
      "Remove…",
      "Its sessions end and its hostnames are free. Its usage stays.",
      "remove",
      `Remove ${agent.name}`,
    )
  }`;
  return view(
    viewer,
    "/page/agents",
    `Agent ${agent.name}`,
    html`<dl class="plain">${
      facts.map(([name, value]) =>
        html`
          <dt>${name}</dt>
          <dd>${value}</dd>
        `
      )
    }</dl>
${viewer.mayChange ? actions : ""}
<h2>Live sessions</h2>
${sessionsTable(viewer, sessions)}
<p><a href="/page/usage?agent=${encodeURIComponent(agent.id)}">Usage</a>,
<a href="/page/audit?subject=${encodeURIComponent(agent.id)}">audit</a></p>`,
  );
}

/** The command that starts an agent; its code is shown this once. */
export function startView(viewer: Viewer, agent: Agent, command: string, expiresAtMs: number): Html {
  return view(
    viewer,
    "/page/agents",
    `Start ${agent.name}`,
    html`
      <p>Run this command on the agent's own machine; <code>--to</code> is what visitors reach. The code is good once,
      until ${timeText(expiresAtMs)}, and is not shown again.</p>
      <div class="stack">
        <label>Start command<input class="command" id="command" readonly value="${command}"></label>
        <p class="actions"><button data-copy="command" hidden>Copy</button>
      <a href="/page/agents/${encodeURIComponent(agent.id)}">Show ${agent.name}</a></p>
        <p id="copied" role="status"></p>
      </div>
    `,
  );
}

/** Live sessions. */
export function sessionsView(viewer: Viewer, sessions: Page<LiveSession>): Html {
  return view(
    viewer,
    "/page/sessions",
    "Sessions",
    html`${sessionsTable(viewer, sessions)}${nextLink("/page/sessions", sessions.next)}`,
  );
}

function sessionsTable(viewer: Viewer, { items }: Page<LiveSession>): Html {
  const close = (session: LiveSession) =>
    html`
      <form method="post"
        action="/page/sessions/close">${hidden(viewer, {
          id: session.id,
        })}<button class="bad" aria-label="Disconnect ${session.hostname} from ${session
          .remote}">Disconnect</button></form>
    `;
  const columns = [
    "Hostname",
    "Remote address",
    "Transport",
    "Cipher",
    "Edge",
    "Since",
    "#Streams",
    "#Bytes",
  ];
  const rows = items.map((session) => [
    session.hostname,
    session.remote,
    session.transport,
    session.cipher,
    session.edge,
    timeText(session.sinceMs),
    String(session.streams),
    bytesText(session.bytesToAgent + session.bytesToVisitor),
    ...viewer.mayChange ? [close(session)] : [],
  ]);
  return table("Live sessions", viewer.mayChange ? [...columns, "Action"] : columns, rows);
}

/** Bytes, streams and connected time of the last 30 days. */
export function usageView(viewer: Viewer, rows: readonly UsageRow[], shownMax: number): Html {
  const body = rows.slice(0, shownMax).map((row) => [
    row.day,
    row.name || row.agent,
    bytesText(row.bytesToAgent),
    bytesText(row.bytesToVisitor),
    String(row.streams),
    `${(row.connectedMs / 3_600_000).toFixed(1)} h`,
  ]);
  return view(
    viewer,
    "/page/usage",
    "Usage",
    html`<p>The last 30 days (UTC). <code>usage --csv</code> gives all of it for a spreadsheet.</p>
${table("Usage", ["Day", "Agent", "#To agent", "#To visitors", "#Streams", "#Connected"], body)}
${rows.length > shownMax ? html`<p>${rows.length - shownMax} more entries are not shown.</p>` : ""}`,
  );
}

/** Who did what. */
export function auditView(viewer: Viewer, records: Page<AuditRecord>, subject: string): Html {
  const rows = records.items.map((record) => [
    timeText(record.atMs),
    record.actor,
    record.action,
    record.subject,
    Object.keys(record.detail).length === 0 ? "" : JSON.stringify(record.detail),
  ]);
  return view(
    viewer,
    "/page/audit",
    "Audit",
    html`${table("Audit log", ["Time", "Actor", "Action", "Subject", "Detail"], rows)}
${nextLink("/page/audit", records.next, { subject })}`,
  );
}

/** A table; columns whose name begins with `#` hold figures. On a phone each row is a card. */
function table(
  caption: string,
  columns: readonly string[],
  rows: readonly (readonly (string | Html)[])[],
): Html {
  if (rows.length === 0) return html`<p>There are none.</p>`;
  const names = columns.map((column) => column.replace(/^#/, ""));
  const kind = (at: number) =>
    columns[at].startsWith("#")
      ? html`
        class="number"
      `
      : "";
  return html`
    <div class="scroll" role="region" aria-label="${caption}" tabindex="0">
      <table class="cards">
        <thead>
          <tr>${names.map((name, at) =>
            html`
              <th scope="col" ${kind(at)}>${name}</th>
            `
          )}</tr>
        </thead>
        <tbody>${rows.map((row) =>
          html`<tr>${
            row.map((cell, at) =>
              html`
                <td data-name="${names[at]}" ${kind(at)}>${cell}</td>
              `
            )
          }</tr>`
        )}</tbody>
      </table>
    </div>
  `;
}

function nextLink(
  path: ViewPath,
  next: string | undefined,
  query: Readonly<Record<string, string>> = {},
): Html {
  if (next === undefined) return html``;
  const set = Object.entries(query).filter(([, value]) => value !== "");
  return html`<p><a href="${path}?${
    new URLSearchParams([...set, ["cursor", next]]).toString()
  }">Next page</a></p>`;
}

function stateText({ state, publicKey }: Agent): Html {
  const text = state === "active" && publicKey === undefined ? "not enrolled" : state;
  return html`<span class="state-${state}">${text}</span>`;
}

function timeText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

function bytesText(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let step = 0;
  let figure = bytes;
  while (figure >= 1000 && step < units.length - 1) {
    figure /= 1000;
    step++;
  }
  return `${step === 0 ? figure : figure.toFixed(1)} ${units[step]}`;
}
