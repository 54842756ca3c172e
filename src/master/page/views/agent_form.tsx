/** @jsxImportSource hono/jsx */
/**
 * The form that adds an agent, and changes one.
 *
 * @module
 */
import type { AgentLimits } from "../../../wire/token/agent_claim.ts";
import type { Agent } from "../../model.ts";
import type { Fault } from "../../problem.ts";
import { agentPath } from "../format.ts";
import { type Html, Shell, Token, type Viewer, Wrong } from "../layout.tsx";

/** The limits in the form, in order. */
export const LIMIT_FIELDS: readonly {
  readonly name: keyof AgentLimits;
  readonly label: string;
  readonly unit: "count" | "bytes";
}[] = [
  { name: "sessions", label: "Sessions at the same time", unit: "count" },
  { name: "streams", label: "Streams at the same time", unit: "count" },
  { name: "visitors_per_second", label: "New visitors a second", unit: "count" },
  { name: "bytes_per_second_to_agent", label: "Bytes a second to the agent", unit: "bytes" },
  { name: "bytes_per_second_to_visitor", label: "Bytes a second to visitors", unit: "bytes" },
  { name: "monthly_bytes", label: "Bytes a month, both ways", unit: "bytes" },
];

/** The form's values, by field name. */
export type AgentFields = Readonly<Record<string, string>>;

/** Props of {@link AgentFormView}. */
interface AgentFormProps {
  readonly viewer: Viewer;
  /** The agent being edited; absent for a new one. */
  readonly agent?: Agent;
  readonly fields: AgentFields;
  /** Validation errors, and the invalid fields. */
  readonly wrong?: { readonly message: string; readonly faults: readonly Fault[] };
}

/** An agent's values for the form. */
export function fieldsOf(agent: Agent): AgentFields {
  const { limits, expiresAtMs } = agent;
  return {
    name: agent.name,
    hostnames: agent.hostnames.join("\n"),
    notes: agent.notes,
    group: agent.group ?? "",
    publish: agent.publish.join("\n"),
    agent_networks: agent.agentNetworks.join("\n"),
    visitor_networks: agent.visitorNetworks.join("\n"),
    expires_at: expiresAtMs === undefined ? "" : new Date(expiresAtMs).toISOString().slice(0, 16),
    revision: String(agent.revision),
    ...Object.fromEntries(LIMIT_FIELDS.map(({ name }) => [`limits.${name}`, String(limits[name] ?? "")])),
  };
}

/** Renders the form that adds or changes an agent. */
export function AgentFormView({ viewer, agent, fields, wrong }: AgentFormProps): Html {
  const path = agent === undefined ? undefined : agentPath(agent.id);
  const form = { fields, faults: wrong?.faults ?? [] };
  const more = Object.keys(fields).some((name) =>
    !["name", "hostnames", "notes", "revision"].includes(name) && fields[name] !== ""
  );
  return (
    <Shell
      viewer={viewer}
      at="/page/agents"
      title={agent === undefined ? "Add agent" : `Edit ${agent.name}`}
      back={path === undefined || agent === undefined ? ["/page/agents", "Agents"] : [path, agent.name]}
    >
      {wrong !== undefined && <Wrong>{wrong.message}</Wrong>}
      <form
        class="card stack form"
        method="post"
        action={path === undefined ? "/page/agents/new" : `${path}/edit`}
      >
        <Token viewer={viewer} />
        {agent !== undefined && <input type="hidden" name="revision" value={fields.revision ?? ""} />}
        <Field
          form={form}
          name="name"
          label="Name"
          hint="Letters, digits, dots, - and _. For people; visitors don't see it."
          required
          maxlength={63}
          autofocus={agent === undefined}
        />
        <Field
          form={form}
          name="hostnames"
          label="Hostnames"
          required
          rows={2}
          hint="One per line. *.home.example.org covers all names one label below."
        />
        <Field form={form} name="notes" label="Notes" rows={2} hint="Where it is, and whose it is." />
        <details {...(more ? { open: true } : {})}>
          <summary>Limits, networks and more</summary>
          <div class="stack">
            <fieldset>
              <legend>Limits</legend>
              <p class="faint">They hold at each edge. An empty field is no limit.</p>
              <div class="grid">
                {LIMIT_FIELDS.map(({ name, label }) => (
                  <Field form={form} name={`limits.${name}`} label={label} type="number" />
                ))}
              </div>
            </fieldset>
            <fieldset>
              <legend>Networks</legend>
              <p class="faint">One per line, such as 192.0.2.0/24. Empty means all.</p>
              <div class="grid">
                <Field form={form} name="agent_networks" label="The agent may connect from" rows={2} />
                <Field form={form} name="visitor_networks" label="Visitors may come from" rows={2} />
              </div>
            </fieldset>
            <fieldset>
              <legend>Ports, group and expiry</legend>
              <div class="grid">
                <Field
                  form={form}
                  name="publish"
                  label="Public ports"
                  rows={2}
                  hint="One per line: tcp:2222, or tcp for any port."
                />
                <Field form={form} name="group" label="Group" hint="Agents of one group share hostnames." />
                <Field
                  form={form}
                  name="expires_at"
                  label="Expires (UTC)"
                  type="datetime-local"
                  hint="It gets no tokens after this time."
                />
                {agent === undefined && viewer.allTenants && (
                  <Field form={form} name="tenant" label="Tenant" hint="default where it is empty." />
                )}
              </div>
            </fieldset>
          </div>
        </details>
        <div class="actions">
          <button type="submit">{agent === undefined ? "Add agent" : "Save"}</button>
          <a class="button quiet" href={path ?? "/page/agents"}>Cancel</a>
        </div>
      </form>
    </Shell>
  );
}

/** A field with its label, its hint and its error. */
function Field(
  { form, name, label, hint, type = "text", rows, required = false, maxlength, autofocus = false }: {
    readonly form: { readonly fields: AgentFields; readonly faults: readonly Fault[] };
    readonly name: string;
    readonly label: string;
    readonly hint?: string;
    readonly type?: "text" | "number" | "datetime-local";
    /** Number of rows of a multi-line text. */
    readonly rows?: number;
    readonly required?: boolean;
    readonly maxlength?: number;
    readonly autofocus?: boolean;
  },
): Html {
  const id = name.replaceAll(".", "-");
  const value = form.fields[name] ?? "";
  const fault = form.faults.find(({ member, pointer }) =>
    member === name || pointer?.slice(2).replaceAll("/", ".") === name || member === name.split(".")[1]
  );
  const described = [hint === undefined ? "" : `${id}-hint`, fault === undefined ? "" : `${id}-fault`]
    .filter((word) => word !== "").join(" ");
  const common = {
    id,
    name,
    ...required ? { required } : {},
    ...described === "" ? {} : { "aria-describedby": described },
    ...fault === undefined ? {} : { "aria-invalid": "true" as const },
    ...autofocus ? { autofocus } : {},
    autocomplete: "off",
    autocapitalize: "none" as const,
    spellcheck: rows !== undefined && name === "notes",
  };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {rows === undefined
        ? (
          <input
            {...common}
            type={type}
            value={value}
            {...(maxlength === undefined ? {} : { maxlength })}
            {...(type === "number" ? { min: 1, step: 1, inputmode: "numeric" } : {})}
          />
        )
        : <textarea {...common} rows={rows}>{value}</textarea>}
      {hint !== undefined && <small id={`${id}-hint`}>{hint}</small>}
      {fault !== undefined && <small class="fault" id={`${id}-fault`}>{`This ${fault.detail}`}</small>}
    </div>
  );
}
