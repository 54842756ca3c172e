/** @jsxImportSource hono/jsx */
/**
 * Fernet keys, which create tokens, and API keys.
 *
 * @module
 */
import type { FernetKeyInfo } from "../../key_ring.ts";
import { ALL_TENANTS, type ApiKey } from "../../model.ts";
import {
  Badge,
  Card,
  Choice,
  Confirmed,
  Copyable,
  Empty,
  type Html,
  Shell,
  Table,
  Time,
  Token,
  type Viewer,
  Wrong,
} from "../layout.tsx";

/** The form that adds an API key. */
interface ApiKeyFields {
  readonly name: string;
  readonly scope: string;
  readonly tenant: string;
}

/** Lists Fernet keys and API keys, with the form for a new one. */
export function KeysView({ viewer, fernet, api, form, wrong, made, done }: {
  readonly viewer: Viewer;
  /** Undefined if the viewer can see only one tenant. */
  readonly fernet: readonly FernetKeyInfo[] | undefined;
  readonly api: readonly ApiKey[];
  readonly form?: ApiKeyFields;
  readonly wrong?: string;
  /** A newly created key; shown only once. */
  readonly made?: { readonly name: string; readonly key: string };
  readonly done?: string | undefined;
}): Html {
  return (
    <Shell viewer={viewer} at="/page/keys" title="Keys" done={done}>
      {wrong !== undefined && <Wrong>{wrong}</Wrong>}
      {made !== undefined && (
        <div class="card made" role="status">
          <Copyable id="made" label={`API key ${made.name}; it is not shown again`} text={made.key} />
        </div>
      )}
      <ApiKeys viewer={viewer} keys={api} {...(form === undefined ? {} : { form })} />
      {fernet !== undefined && <FernetKeys viewer={viewer} keys={fernet} />}
    </Shell>
  );
}

function ApiKeys({ viewer, keys, form = { name: "", scope: "read", tenant: "" } }: {
  readonly viewer: Viewer;
  readonly keys: readonly ApiKey[];
  readonly form?: ApiKeyFields;
}): Html {
  const rows = keys.map((key, at) => [
    <span class="strong">{key.name}</span>,
    key.scopes.join(", "),
    key.tenant === ALL_TENANTS ? "all" : key.tenant,
    <Time ms={key.createdAtMs} />,
    key.expiresAtMs === undefined ? "never" : <Time ms={key.expiresAtMs} />,
    viewer.mayChange && (
      <Confirmed
        id={`remove-${at}`}
        name="Remove"
        label={`Remove API key ${key.name}`}
        title={`Remove ${key.name}?`}
        confirm="Remove"
        action="/page/keys/api/remove"
        viewer={viewer}
        fields={{ id: key.id }}
      >
        <p>Requests with it are refused from now on. This can't be undone.</p>
      </Confirmed>
    ),
  ]);
  return (
    <Card title="API keys">
      {rows.length === 0
        ? (
          <Empty icon="keys" title="No API keys">
            <p>Scripts and people get keys of their own here, so that the admin key can stay where it is.</p>
          </Empty>
        )
        : (
          <Table
            caption="API keys"
            columns={[
              ...["Name", "Scopes", "Tenant", "Added", "Expires"].map((name) => ({ name })),
              { name: "Action", quiet: true, number: true },
            ]}
            rows={rows}
          />
        )}
      {viewer.mayChange && (
        <form class="row inner" method="post" action="/page/keys/api">
          <Token viewer={viewer} />
          <label>
            Name
            <input
              name="name"
              required
              maxlength={63}
              value={form.name}
              autocomplete="off"
              placeholder="billing"
            />
          </label>
          <label>
            Scope
            <select name="scope">
              <Choice value="read" chosen={form.scope}>read: see all of it</Choice>
              <Choice value="admin" chosen={form.scope}>admin: change it, too</Choice>
            </select>
          </label>
          {viewer.allTenants && (
            <label>
              Tenant
              <input name="tenant" maxlength={64} value={form.tenant} autocomplete="off" placeholder="all" />
            </label>
          )}
          <button type="submit" class="quiet">Add API key</button>
        </form>
      )}
    </Card>
  );
}

function FernetKeys(
  { viewer, keys }: { readonly viewer: Viewer; readonly keys: readonly FernetKeyInfo[] },
): Html {
  const rows = keys.map((key, at) => [
    <span class="code">{key.id}</span>,
    key.makesTokens
      ? <Badge kind="good">makes tokens</Badge>
      : key.state === "active"
      ? <Badge kind="idle">opens tokens</Badge>
      : <Badge kind="bad">retired</Badge>,
    key.origin === "settings" ? "a file or a setting" : "this page or the API",
    key.createdAtMs === undefined ? "–" : <Time ms={key.createdAtMs} />,
    viewer.mayChange && key.state === "active" && (
      <Confirmed
        id={`retire-${at}`}
        name="Retire"
        label={`Retire Fernet key ${key.id}`}
        title={`Retire ${key.id}?`}
        confirm="Retire"
        action="/page/keys/fernet/retire"
        viewer={viewer}
        fields={{ id: key.id }}
      >
        <p>
          Tokens made with it are refused from now on; sessions that they opened continue. This can't be
          undone.
        </p>
      </Confirmed>
    ),
  ]);
  return (
    <Card
      title="Fernet keys"
      actions={viewer.mayChange && (
        <Confirmed
          id="add-fernet"
          name="Add Fernet key"
          kind="main"
          title="Add a Fernet key?"
          confirm="Add"
          action="/page/keys/fernet"
          viewer={viewer}
        >
          <p>
            Tokens are made with it from now on. Edges that are joined to this master learn it first; others
            need it in their settings.
          </p>
        </Confirmed>
      )}
    >
      <p class="faint">
        Master and edges share them: tokens are encrypted with them. Their text is never shown.
      </p>
      <Table
        caption="Fernet keys"
        columns={[
          ...["Id", "State", "From", "Added"].map((name) => ({ name })),
          { name: "Action", quiet: true, number: true },
        ]}
        rows={rows}
      />
    </Card>
  );
}
