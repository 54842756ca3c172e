/** @jsxImportSource hono/jsx */
/**
 * Counts, traffic and live sessions.
 *
 * @module
 */
import type { Child } from "hono/jsx";
import type { LiveSession } from "../../model.ts";
import type { Totals } from "../../store/store.ts";
import { formatBytes } from "../../../bytes/format_bytes.ts";
import { countText } from "../format.ts";
import { Card, Empty, type Html, Shell, type Viewer } from "../layout.tsx";
import { SessionsTable } from "./sessions.tsx";

/** Shows counts, traffic and live sessions. */
export function OverviewView({ viewer, totals, sessions, nowMs }: {
  readonly viewer: Viewer;
  readonly totals: Totals;
  readonly sessions: readonly LiveSession[];
  readonly nowMs: number;
}): Html {
  const state = (
    <p class="live" role="status">
      <span id="live-state" data-state="off">Not live: the figures are those of the last load.</span>
    </p>
  );
  return (
    <Shell viewer={viewer} at="/" title="Overview" actions={state} chart>
      <dl class="facts" id="facts" data-live="">
        <Fact name="Agents online" href="/page/agents">
          {countText(totals.online)}
          <small>{` of ${countText(totals.agents)}`}</small>
        </Fact>
        <Fact name="Sessions" href="/page/sessions">{countText(totals.sessions)}</Fact>
        <Fact name="Streams">{countText(totals.streams)}</Fact>
        <Fact name="To agents today" href="/page/usage">{formatBytes(totals.bytesToAgent)}</Fact>
        <Fact name="To visitors today" href="/page/usage">{formatBytes(totals.bytesToVisitor)}</Fact>
      </dl>
      <Card title="Traffic (UTC)">
        <p class="legend">
          <span class="key visitor">
            To visitors <strong id="rate-visitor">–</strong>
          </span>
          <span class="key agent">
            To agents <strong id="rate-agent">–</strong>
          </span>
        </p>
        <div
          id="chart"
          class="chart"
          role="img"
          aria-label="Traffic of the last minutes to visitors and to agents"
          data-events="/page/events"
        >
          <noscript>
            <p class="faint">The live chart needs JavaScript; all else works without.</p>
          </noscript>
        </div>
      </Card>
      <Card
        title="Live sessions"
        actions={totals.sessions > sessions.length && <a href="/page/sessions">All sessions</a>}
      >
        <div id="sessions" data-live="">
          {totals.agents === 0 && totals.sessions === 0
            ? (
              <Empty icon="agents" title="No agents yet">
                <p>Add one, and run its start command on the machine that visitors are to reach.</p>
                {viewer.mayChange && (
                  <p>
                    <a class="button" href="/page/agents/new">Add your first agent</a>
                  </p>
                )}
              </Empty>
            )
            : <SessionsTable viewer={viewer} sessions={sessions} nowMs={nowMs} brief />}
        </div>
      </Card>
    </Shell>
  );
}

function Fact({ name, href, children }: {
  readonly name: string;
  readonly href?: string;
  readonly children?: Child;
}): Html {
  return (
    <div>
      <dt>{href === undefined ? name : <a href={href}>{name}</a>}</dt>
      <dd>{children}</dd>
    </div>
  );
}
