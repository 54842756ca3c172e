/**
 * The page's view and forms of keys: those of the API, and the Fernet keys.
 *
 * @module
 */
import { ApiKeyCreateSchema } from "../api/schemas.ts";
import { type Problem, schemaProblem } from "../problem.ts";
import { type PageHost, type Visit, wrongOf } from "./host.ts";
import { KeysView } from "./views/keys.tsx";

/** Adds the paths below `/page/keys`. */
export function addKeyPages(host: PageHost): void {
  const { management } = host.parts;
  const keys = async ({ actor, viewer }: Visit) => ({
    viewer,
    // Fernet keys belong to all tenants.
    fernet: viewer.allTenants ? management.keys.list() : undefined,
    api: await management.apiKeys(actor),
  });
  host.shows(
    "/page/keys",
    async (visit) => KeysView({ ...await keys(visit), done: visit.c.req.query("done") }),
  );
  host.changes("/page/keys/api", async (visit, fields) => {
    const { c, actor } = visit;
    const field = (name: string) => (fields.get(name) ?? "").trim();
    const form = { name: field("name"), scope: field("scope"), tenant: field("tenant") };
    try {
      const wanted = ApiKeyCreateSchema.safeParse({
        name: form.name,
        scopes: [form.scope],
        ...form.tenant === "" ? {} : { tenant: form.tenant },
      });
      if (!wanted.success) throw schemaProblem("Cannot add API key", wanted.error);
      const { name, scopes, hostnames, publish, tenant = actor.tenant } = wanted.data;
      const { key } = await management.addApiKey(actor, { name, scopes, hostnames, publish, tenant });
      return await c.html(KeysView({ ...await keys(visit), made: { name, key } }));
    } catch (error) {
      const wrong = wrongOf(error).message;
      return await c.html(KeysView({ ...await keys(visit), form, wrong }), (error as Problem).status);
    }
  });
  host.changes("/page/keys/api/remove", async ({ c, actor }, form) => {
    await management.removeApiKey(actor, form.get("id") ?? "");
    return c.redirect("/page/keys?done=key-removed", 303);
  });
  host.changes("/page/keys/fernet", async ({ c, actor }) => {
    await management.addFernetKey(actor);
    return c.redirect("/page/keys?done=fernet-added", 303);
  });
  host.changes("/page/keys/fernet/retire", async ({ c, actor }, form) => {
    await management.retireFernetKey(actor, form.get("id") ?? "");
    return c.redirect("/page/keys?done=fernet-retired", 303);
  });
}
