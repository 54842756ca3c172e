/**
 * The page's views and forms of agents.
 *
 * @module
 */
import { encodeQR } from "qr";
import { formatJoinLink } from "../../wire/token/join_link.ts";
import { changeOf } from "../api/agents.ts";
import { AgentChangeSchema, AgentCreateSchema } from "../api/schemas.ts";
import type { IssuedJoin } from "../management.ts";
import type { Agent } from "../model.ts";
import { type Problem, schemaProblem } from "../problem.ts";
import { agentPath } from "./format.ts";
import { agentBody } from "./forms.ts";
import {
  idOf,
  originOf,
  PAGE_LIMIT,
  type PageHost,
  pageOf,
  refuseReaders,
  type Visit,
  wrongOf,
} from "./host.ts";
import { AgentFormView, fieldsOf } from "./views/agent_form.tsx";
import { AgentsView, AgentView, StartView } from "./views/agents.tsx";

/** The target in a start command, for the reader to replace. */
const START_TARGET = "http://127.0.0.1:3000";

/** Adds the paths below `/page/agents`. */
export function addAgentPages(host: PageHost): void {
  const { management, clock } = host.parts;
  const { store } = management;
  const started = async ({ c, viewer }: Visit, agent: Agent, join: IssuedJoin) => {
    const link = formatJoinLink({ master: originOf(c), code: join.code }).replaceAll("'", "%27");
    const command = `sallyport agent --join '${link}' --to ${START_TARGET}`;
    const qr = encodeQR(command, "svg", { border: 2, optimize: true });
    return await c.html(StartView({ viewer, agent, command, qr, expiresAtMs: join.expiresAtMs }));
  };
  host.shows("/page/agents", async ({ c, actor, viewer }) => {
    const search = c.req.query("search")?.slice(0, 255) ?? "";
    const state = (["active", "suspended"] as const).find((known) => known === c.req.query("state"));
    const paged = pageOf(c);
    const agents = await management.agents(actor, {
      ...paged,
      ...search === "" ? {} : { search },
      ...state === undefined ? {} : { state },
    });
    return AgentsView({
      viewer,
      agents,
      sessions: await management.sessionCounts(agents.items),
      query: { search, state: state ?? "", cursor: paged.cursor },
      done: c.req.query("done"),
    });
  });
  host.shows("/page/agents/new", ({ viewer }) => {
    refuseReaders(viewer);
    return AgentFormView({ viewer, fields: {} });
  });
  host.changes("/page/agents/new", async (visit, form) => {
    const { c, actor, viewer } = visit;
    const { fields, body } = agentBody(form, "create");
    try {
      const wanted = AgentCreateSchema.safeParse(body);
      if (!wanted.success) throw schemaProblem("Cannot add agent", wanted.error);
      const { name, hostnames } = wanted.data;
      const policy = { ...changeOf(wanted.data), name, hostnames };
      const { agent, join } = await management.addAgent(actor, policy, wanted.data.join_ttl_seconds);
      return await started(visit, agent, join);
    } catch (error) {
      return await c.html(
        AgentFormView({ viewer, fields, wrong: wrongOf(error) }),
        (error as Problem).status,
      );
    }
  });
  host.shows("/page/agents/:id", async ({ c, actor, viewer }) => {
    const agent = await management.agent(actor, idOf(c));
    const live = await store.sessions({ agent: agent.id, limit: PAGE_LIMIT });
    return AgentView({ viewer, agent, sessions: live, nowMs: clock.wallMs(), done: c.req.query("done") });
  });
  host.shows("/page/agents/:id/edit", async ({ c, actor, viewer }) => {
    refuseReaders(viewer);
    const agent = await management.agent(actor, idOf(c));
    return AgentFormView({ viewer, agent, fields: fieldsOf(agent) });
  });
  host.changes("/page/agents/:id/edit", async ({ c, actor, viewer }, form) => {
    const agent = await management.agent(actor, idOf(c));
    const { fields, body } = agentBody(form, "change");
    try {
      const wanted = AgentChangeSchema.safeParse(body);
      if (!wanted.success) throw schemaProblem("Cannot change agent", wanted.error);
      const revision = Number(form.get("revision"));
      await management.changeAgent(actor, agent.id, changeOf(wanted.data), revision);
      return c.redirect(`${agentPath(agent.id)}?done=saved`, 303);
    } catch (error) {
      const wrong = wrongOf(error);
      return await c.html(AgentFormView({ viewer, agent, fields, wrong }), (error as Problem).status);
    }
  });
  for (const verb of ["suspend", "resume"] as const) {
    host.changes(`/page/agents/:id/${verb}`, async ({ c, actor }) => {
      const agent = await management[verb](actor, idOf(c));
      return c.redirect(`${agentPath(agent.id)}?done=${verb === "suspend" ? "suspended" : "resumed"}`, 303);
    });
  }
  host.changes("/page/agents/:id/rotate", async (visit) => {
    const { agent, join } = await management.rotate(visit.actor, idOf(visit.c));
    return await started(visit, agent, join);
  });
  host.changes("/page/agents/:id/remove", async ({ c, actor }) => {
    await management.removeAgent(actor, idOf(c));
    return c.redirect("/page/agents?done=removed", 303);
  });
  host.changes("/page/agents/:id/close", async ({ c, actor }, form) => {
    const agent = await management.agent(actor, idOf(c));
    await management.closeSession(actor, form.get("id") ?? "");
    return c.redirect(`${agentPath(agent.id)}?done=disconnected`, 303);
  });
}
