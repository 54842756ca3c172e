/** @jsxImportSource hono/jsx */
/**
 * The audit log.
 *
 * @module
 */
import type { AuditRecord } from "../../model.ts";
import type { Page } from "../../store/store.ts";
import { Empty, type Html, Pages, Shell, Table, Time, type Viewer } from "../layout.tsx";

/** The audit log, newest entry first. */
export function AuditView({ viewer, records, subject, cursor }: {
  readonly viewer: Viewer;
  readonly records: Page<AuditRecord>;
  readonly subject: string;
  readonly cursor: string | undefined;
}): Html {
  const rows = records.items.map((record) => [
    <Time ms={record.atMs} />,
    <span class="code whole">{record.actor}</span>,
    <span class="code whole">{record.action}</span>,
    subject !== ""
      ? <span class="code whole">{record.subject}</span>
      : (
        <a class="code whole" href={`/page/audit?subject=${encodeURIComponent(record.subject)}`}>
          {record.subject}
        </a>
      ),
    <Detail record={record} />,
  ]);
  const columns = ["Time", "Actor", "Action", "Subject", "Detail"].map((name) => ({ name }));
  return (
    <Shell viewer={viewer} at="/page/audit" title="Audit">
      {subject !== "" && (
        <p class="filter">
          <span>
            Entries about <span class="code">{subject}</span>
          </span>
          <a href="/page/audit">Show all</a>
        </p>
      )}
      <div class="card">
        {rows.length > 0
          ? <Table caption="Audit log" columns={columns} rows={rows} />
          : (
            <Empty icon="audit" title="There are no entries yet">
              <p>Each change to agents, keys and sessions leaves an entry here, which nobody can alter.</p>
            </Empty>
          )}
      </div>
      <Pages path="/page/audit" next={records.next} cursor={cursor} query={{ subject }} />
    </Shell>
  );
}

function Detail({ record: { detail } }: { readonly record: AuditRecord }): Html {
  const parts = Object.entries(detail).map(([name, value]) => {
    const text = Array.isArray(value)
      ? value.map(String).join(" ")
      : typeof value === "object"
      ? JSON.stringify(value)
      : String(value);
    return (
      <span class="pair">
        <span class="faint">{name}</span> {text}
      </span>
    );
  });
  return <>{parts}</>;
}
