/** @jsxImportSource hono/jsx */
/**
 * Shared by all views: the document, the menu, and common components. JSX escapes all inserted text.
 *
 * @module
 */
import { raw } from "hono/html";
import type { Child } from "hono/jsx";
import type { HtmlEscapedString } from "hono/utils/html";
import { VERSION } from "../../version.ts";
import { timeText } from "./format.ts";
import { Icon, type IconName, Mark } from "./icons.tsx";

/** HTML with escaped text. */
export type Html = HtmlEscapedString | Promise<HtmlEscapedString>;

/** The logged-in user, as known to every view. */
export interface Viewer {
  /** The credential's id. */
  readonly name: string;
  /** Whether it may make changes. */
  readonly mayChange: boolean;
  /** Whether it can see every tenant. */
  readonly allTenants: boolean;
  /** The token that forms must contain. */
  readonly token: string;
}

const MENU = [
  ["/", "Overview", "overview"],
  ["/page/agents", "Agents", "agents"],
  ["/page/sessions", "Sessions", "sessions"],
  ["/page/usage", "Usage", "usage"],
  ["/page/audit", "Audit", "audit"],
  ["/page/keys", "Keys", "keys"],
  ["/page/webhooks", "Webhooks", "webhooks"],
] as const satisfies readonly (readonly [string, string, IconName])[];
/** A path in the menu. */
type MenuPath = typeof MENU[number][0];

/** Confirmation messages, by the keyword in the redirect. */
const NOTICES: Readonly<Record<string, string>> = {
  saved:
    "Saved. Limits and names apply to tokens issued from now on; suspend and resume to apply them at once.",
  suspended: "Suspended. Its sessions have ended on every edge, and its tokens are refused.",
  resumed: "Resumed. The agent reconnects by itself.",
  removed: "Removed. Its sessions have ended and its hostnames are free.",
  disconnected: "Disconnected. The agent may reconnect; suspend it to keep it out.",
  "key-removed": "The API key is removed. Requests with it are refused from now on.",
  "fernet-added": "A Fernet key is added. Tokens are made with it from now on.",
  "fernet-retired": "The Fernet key is retired. Tokens made with it are refused from now on.",
  "webhook-removed": "The webhook is removed, with its messages.",
  "webhook-tested": "The test message has been delivered.",
};
/** Messages of an action that failed, likewise. */
const FAILURES: Readonly<Record<string, string>> = {
  "webhook-test-failed": "The test message has not been delivered. The first line of the log says why.",
};

/** A complete document. */
function Document({ title, chart = false, children }: {
  readonly title: string;
  readonly chart?: boolean;
  readonly children?: Child;
}): Html {
  return (
    <>
      {raw("<!doctype html>")}
      <html lang="en">
        <head>
          <meta charset="utf-8" />
          <meta name="viewport" content="width=device-width, initial-scale=1" />
          <meta name="color-scheme" content="light dark" />
          <title>{`${title} · Sallyport`}</title>
          <link rel="icon" type="image/svg+xml" href="/page/icon.svg" />
          {chart && <link rel="stylesheet" href="/page/chart.css" />}
          <link rel="stylesheet" href="/page/style.css" />
          {chart && <script src="/page/chart.js" defer></script>}
          <script src="/page/script.js" defer></script>
        </head>
        {children}
      </html>
    </>
  );
}

/** Props of {@link Shell}. */
interface ShellProps {
  readonly viewer: Viewer;
  readonly at: MenuPath;
  readonly title: string;
  /** Buttons next to the heading. */
  readonly actions?: Child;
  /** The action just completed; see NOTICES. */
  readonly done?: string | undefined;
  /** A link back to the parent list. */
  readonly back?: readonly [to: string, name: string];
  readonly chart?: boolean;
  readonly children?: Child;
}

/** A view with the menu. */
export function Shell(props: ShellProps): Html {
  const { viewer, at, title, actions, done, back, chart = false, children } = props;
  const notice = NOTICES[done ?? ""];
  const failure = FAILURES[done ?? ""];
  return (
    <Document title={title} chart={chart}>
      <body class="shell">
        <a class="skip" href="#main">Skip to content</a>
        <header class="side">
          <a class="brand" href="/">
            <Mark />
            <span>Sallyport</span>
          </a>
          <nav aria-label="Views">
            <ul>
              {MENU.map(([to, name, icon]) => (
                <li>
                  <a
                    href={to}
                    {...(to === at ? { "aria-current": back === undefined ? "page" : "true" } : {})}
                  >
                    <Icon name={icon} />
                    <span>{name}</span>
                  </a>
                </li>
              ))}
            </ul>
          </nav>
          <form class="who" method="post" action="/page/logout">
            <Token viewer={viewer} />
            <span class="name">{viewer.name}</span>
            <button type="submit" class="quiet small" aria-label={`Log out ${viewer.name}`}>
              <Icon name="leave" />
              <span>Log out</span>
            </button>
          </form>
        </header>
        <div class="column">
          <main id="main" tabindex={-1}>
            {back !== undefined && (
              <p class="back">
                <a href={back[0]}>← {back[1]}</a>
              </p>
            )}
            <div class="head">
              <h1>{title}</h1>
              {actions !== undefined && <div class="actions">{actions}</div>}
            </div>
            {notice !== undefined && <p class="note good" role="status">{notice}</p>}
            {failure !== undefined && <Wrong>{failure}</Wrong>}
            {children}
          </main>
          <footer>
            <span>Sallyport {VERSION}</span>
            <a href="/docs">API</a>
          </footer>
        </div>
      </body>
    </Document>
  );
}

/** A view for users who are not logged in, or not allowed to be. */
export function Plain({ title, children }: { readonly title: string; readonly children?: Child }): Html {
  return (
    <Document title={title}>
      <body class="plain">
        <main id="main" class="panel">
          <p class="brand">
            <Mark />
            <span>Sallyport</span>
          </p>
          <h1>{title}</h1>
          {children}
        </main>
      </body>
    </Document>
  );
}

/** The token field of every form. */
export function Token({ viewer }: { readonly viewer: Viewer }): Html {
  return <input type="hidden" name="token" value={viewer.token} />;
}

/** A section of the page, with a heading. */
export function Card({ title, id, actions, children }: {
  readonly title?: string;
  readonly id?: string;
  readonly actions?: Child;
  readonly children?: Child;
}): Html {
  return (
    <section class="card" {...(id === undefined ? {} : { id })}>
      {title !== undefined && (
        <div class="head">
          <h2>{title}</h2>
          {actions !== undefined && <div class="actions">{actions}</div>}
        </div>
      )}
      {children}
    </section>
  );
}

/** Placeholder of an empty list. */
export function Empty({ icon, title, children }: {
  readonly icon: IconName;
  readonly title: string;
  readonly children?: Child;
}): Html {
  return (
    <div class="empty">
      <Icon name={icon} />
      <p class="title">{title}</p>
      {children}
    </div>
  );
}

/** The error message of a form. */
export function Wrong({ children }: { readonly children?: Child }): Html {
  return <p class="note wrong" role="alert">{children}</p>;
}

/** A column of a {@link Table}. */
export interface Column {
  readonly name: string;
  readonly number?: boolean;
  /** Its heading is only for screen readers. */
  readonly quiet?: boolean;
}

/** A table; on a phone each row is a card, so ARIA roles are explicit: `display` would remove them. */
export function Table({ caption, columns, rows }: {
  readonly caption: string;
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly Child[])[];
}): Html {
  const kind = ({ number = false }: Column) => number ? { class: "number" } : {};
  return (
    <div class="scroll" role="region" aria-label={caption} tabindex={0}>
      <table role="table" aria-label={caption}>
        <thead role="rowgroup">
          <tr role="row">
            {columns.map((column) => (
              <th scope="col" role="columnheader" {...kind(column)}>
                {column.quiet === true ? <span class="unseen">{column.name}</span> : column.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((row) => (
            <tr role="row">
              {row.map((cell, at) => {
                const column = columns[at] as Column;
                return (
                  <td
                    role="cell"
                    {...(column.quiet === true ? {} : { "data-name": column.name })}
                    {...kind(column)}
                  >
                    <div>{cell}</div>
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Links to the next page of a list, and back to its first. */
export function Pages({ path, next, query = {}, cursor }: {
  readonly path: string;
  readonly next: string | undefined;
  readonly cursor: string | undefined;
  readonly query?: Readonly<Record<string, string>>;
}): Html | null {
  if (next === undefined && cursor === undefined) return null;
  const set = Object.entries(query).filter(([, value]) => value !== "");
  const link = (more: readonly (readonly [string, string])[]) => {
    const text = new URLSearchParams([...set, ...more].map(([name, value]) => [name, value])).toString();
    return text === "" ? path : `${path}?${text}`;
  };
  return (
    <nav class="pages" aria-label="Pages">
      {cursor !== undefined && <a class="button quiet" href={link([])}>First page</a>}
      {next !== undefined && <a class="button quiet" href={link([["cursor", next]])} rel="next">Next page</a>}
    </nav>
  );
}

/** A button that opens a dialog. It needs no script: the dialog is a popover. */
export function Dialog({ id, name, title, kind = "quiet", label, children }: {
  readonly id: string;
  readonly name: string;
  readonly title: string;
  readonly kind?: "bad" | "quiet";
  /** The button's name for screen readers, if `name` isn't enough. */
  readonly label?: string | undefined;
  readonly children?: Child;
}): Html {
  return (
    <>
      <button
        type="button"
        class={kind}
        popovertarget={id}
        aria-haspopup="dialog"
        {...(label === undefined ? {} : { "aria-label": label })}
      >
        {name}
      </button>
      <div popover="auto" id={id} role="dialog" aria-labelledby={`${id}-title`} class="dialog">
        <h2 id={`${id}-title`}>{title}</h2>
        {children}
      </div>
    </>
  );
}

/** The button that closes a {@link Dialog}; it has the focus when the dialog opens. */
export function CloseDialog({ id, name }: { readonly id: string; readonly name: string }): Html {
  return (
    <button type="button" class="quiet" popovertarget={id} popovertargetaction="hide" autofocus>
      {name}
    </button>
  );
}

/** A button that asks for confirmation. */
export function Confirmed(
  { id, name, title, action, viewer, confirm, kind = "bad", label, fields = {}, children }: {
    readonly id: string;
    readonly name: string;
    readonly title: string;
    readonly action: string;
    readonly viewer: Viewer;
    readonly confirm: string;
    readonly kind?: "bad" | "main";
    readonly label?: string;
    readonly fields?: Readonly<Record<string, string>>;
    readonly children?: Child;
  },
): Html {
  return (
    <Dialog id={id} name={name} title={title} kind={kind === "bad" ? "bad" : "quiet"} label={label}>
      {children}
      <form method="post" action={action} class="actions">
        <Token viewer={viewer} />
        {Object.entries(fields).map(([field, value]) => <input type="hidden" name={field} value={value} />)}
        <CloseDialog id={id} name="Cancel" />
        <button type="submit" class={kind === "bad" ? "bad full" : ""}>{confirm}</button>
      </form>
    </Dialog>
  );
}

/** A time, machine-readable. */
export function Time({ ms, text }: { readonly ms: number; readonly text?: string }): Html {
  return <time datetime={new Date(ms).toISOString()} title={timeText(ms)}>{text ?? timeText(ms)}</time>;
}

/** An option of a select; `chosen` is the value of the select. */
export function Choice({ value, chosen, children }: {
  readonly value: string;
  readonly chosen: string;
  readonly children?: Child;
}): Html {
  return <option value={value} {...(value === chosen ? { selected: true } : {})}>{children}</option>;
}

/** A state as a badge; it has a text, since colour isn't enough. */
export function Badge({ kind, children }: {
  readonly kind: "good" | "bad" | "idle" | "wait";
  readonly children?: Child;
}): Html {
  return <span class={`badge ${kind}`}>{children}</span>;
}

/** A text that is copied with a click. */
export function Copyable({ id, label, text }: {
  readonly id: string;
  readonly label: string;
  readonly text: string;
}): Html {
  return (
    <div class="copyable">
      <label for={id}>{label}</label>
      <div class="line">
        <textarea id={id} class="code" readonly rows={2} spellcheck={false}>{text}</textarea>
        <button type="button" class="quiet" data-copy={id} hidden>
          <Icon name="copy" />
          <span>Copy</span>
        </button>
      </div>
      <p class="faint" role="status" id={`${id}-copied`}></p>
    </div>
  );
}
