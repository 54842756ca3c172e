/** @jsxImportSource hono/jsx */
/**
 * Live sessions.
 *
 * @module
 */
import type { LiveSession } from "../../model.ts";
import type { Page } from "../../store/store.ts";
import { formatBytes } from "../../../bytes/format_bytes.ts";
import { agentPath, countText, durationText } from "../format.ts";
import {
  type Column,
  Confirmed,
  Empty,
  type Html,
  Pages,
  Shell,
  Table,
  Time,
  type Viewer,
} from "../layout.tsx";

/** All live sessions, paginated. */
export function SessionsView({ viewer, sessions, nowMs, cursor, done }: {
  readonly viewer: Viewer;
  readonly sessions: Page<LiveSession>;
  readonly nowMs: number;
  readonly cursor: string | undefined;
  readonly done: string | undefined;
}): Html {
  return (
    <Shell viewer={viewer} at="/page/sessions" title="Sessions" done={done}>
      <div class="card" id="sessions" data-live="">
        <SessionsTable viewer={viewer} sessions={sessions.items} nowMs={nowMs} />
      </div>
      <Pages path="/page/sessions" next={sessions.next} cursor={cursor} />
    </Shell>
  );
}

/** A table of sessions. */
export function SessionsTable({ viewer, sessions, nowMs, brief = false, close = "/page/sessions/close" }: {
  readonly viewer: Viewer;
  readonly sessions: readonly LiveSession[];
  readonly nowMs: number;
  /** Only the most important columns. */
  readonly brief?: boolean;
  readonly close?: string;
}): Html {
  if (sessions.length === 0) {
    return (
      <Empty icon="sessions" title="No live sessions">
        <p>A session appears here as soon as an agent connects to an edge.</p>
      </Empty>
    );
  }
  const columns: Column[] = [
    { name: "Hostname" },
    { name: "Remote address" },
    { name: "Transport" },
    ...brief ? [] : [{ name: "Edge" }],
    { name: "Connected" },
    { name: "Streams", number: true },
    { name: "To agent", number: true },
    { name: "To visitors", number: true },
    ...brief || !viewer.mayChange ? [] : [{ name: "Action", quiet: true, number: true }],
  ];
  const rows = sessions.map((session, at) => [
    session.agent.startsWith("hostname:")
      ? session.hostname
      : <a href={agentPath(session.agent)}>{session.hostname}</a>,
    <span class="code">{session.remote}</span>,
    <>
      {session.transport}
      {session.cipher !== "" && <span class="faint">{` ${session.cipher}`}</span>}
    </>,
    ...brief ? [] : [session.edge],
    <Time ms={session.sinceMs} text={durationText(nowMs - session.sinceMs)} />,
    countText(session.streams),
    formatBytes(session.bytesToAgent),
    formatBytes(session.bytesToVisitor),
    ...brief || !viewer.mayChange ? [] : [
      <Confirmed
        id={`close-${at}`}
        name="Disconnect"
        label={`Disconnect ${session.hostname} from ${session.remote}`}
        title={`Disconnect ${session.hostname}?`}
        action={close}
        confirm="Disconnect"
        viewer={viewer}
        fields={{ id: session.id }}
      >
        <p>Its streams end now. The agent may connect again; suspend it to keep it away.</p>
      </Confirmed>,
    ],
  ]);
  return <Table caption="Live sessions" columns={columns} rows={rows} />;
}
