/**
 * Converts the agent form to an API request body: the same schema validates both.
 *
 * @module
 */
import { type AgentFields, LIMIT_FIELDS } from "./views/agent_form.tsx";

const TEXTS = ["name", "notes", "group", "tenant", "expires_at"];
const LISTS = ["hostnames", "publish", "agent_networks", "visitor_networks"];

/** The form's input, and the request body made from it. In a change, an empty field clears its setting. */
export function agentBody(
  form: URLSearchParams,
  kind: "create" | "change",
): { readonly fields: AgentFields; readonly body: Record<string, unknown> } {
  const limitNames = LIMIT_FIELDS.map(({ name }) => name);
  const names = [...TEXTS, ...LISTS, ...limitNames.map((name) => `limits.${name}`), "revision"];
  const fields = Object.fromEntries(names.map((name) => [name, (form.get(name) ?? "").trim()]));
  const text = (name: string) => fields[name] as string;
  const list = (name: string) => text(name).split(/[\s,]+/).filter((word) => word !== "");
  const optional = (name: string, value: unknown = text(name)) => {
    if (text(name) !== "") return { [name]: value };
    return kind === "change" ? { [name]: null } : {};
  };
  const limits = limitNames.filter((name) => text(`limits.${name}`) !== "")
    .map((name) => [name, Number(text(`limits.${name}`))]);
  const body = {
    name: text("name"),
    hostnames: list("hostnames"),
    notes: text("notes"),
    publish: list("publish"),
    limits: Object.fromEntries(limits),
    agent_networks: list("agent_networks"),
    visitor_networks: list("visitor_networks"),
    ...optional("group"),
    ...optional("expires_at", wholeTime(text("expires_at"))),
    ...kind === "create" && text("tenant") !== "" ? { tenant: text("tenant") } : {},
  };
  return { fields, body };
}

/** The browser's time to the minute or the second, which the form declares as UTC. */
function wholeTime(text: string): string {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d$/.test(text) ? `${text}:00Z` : `${text}Z`;
}
