/**
 * `keys`, the Fernet keys of a session master, and `api-keys`, the keys of its API; `backup` of its database.
 *
 * @module
 */
import { isPostgresUrl } from "../master/store/database.ts";
import { openStore } from "../master/store/sql_store.ts";
import { addExamples, addSettings, type CliContext, type Command, readSettings, several } from "./command.ts";
import { databasePlace } from "./management.ts";
import { manages, printDone, printEntries, printEntry } from "./manage.ts";
import { exists } from "./data_dir.ts";
import { SallyportError } from "../errors.ts";

interface KeyAnswer {
  readonly id: string;
  readonly origin: string;
  readonly state: string;
  readonly makes_tokens: boolean;
  readonly created_at: string | null;
}

interface ApiKeyAnswer {
  readonly id: string;
  readonly name: string;
  readonly tenant: string;
  readonly scopes: readonly string[];
  readonly expires_at: string | null;
}

/** Adds the commands. */
export function addMasterKeys(program: Command, context: CliContext): void {
  const keys = program.command("keys").description(
    "The Fernet keys that a session master makes tokens with; edges that are joined to it learn them without a restart.",
  );
  manages(keys.command("list").description("List keys by their ids."), context, async (master) => {
    const { items } = await master.call("GET", "/v1/keys") as { readonly items: readonly KeyAnswer[] };
    printEntries(master, items, [
      ["ID", ({ id }) => id],
      ["STATE", ({ state, makes_tokens }) => makes_tokens ? "makes tokens" : state],
      ["FROM", ({ origin }) => origin],
      ["ADDED", ({ created_at }) => created_at],
    ], "There are no keys.");
  });
  manages(
    keys.command("add").description("Add a key; tokens are made with it from now on."),
    context,
    async (master) => {
      printEntry(master, await master.call("POST", "/v1/keys", {}));
    },
  );
  const retire = keys.command("retire").argument("<key>", "its id").description(
    "Retire a key: tokens made with it are refused from now on.",
  );
  manages(retire, context, async (master, [id]) => {
    await master.call("DELETE", `/v1/keys/${encodeURIComponent(id ?? "")}`);
    printDone(master, { id, retired: true }, `Retired ${id}.`);
  });

  const apiKeys = program.command("api-keys").description(
    "The keys of a session master's API, with scopes and tenants.",
  );
  manages(apiKeys.command("list").description("List keys by their ids."), context, async (master) => {
    const { items } = await master.call("GET", "/v1/api-keys") as { readonly items: readonly ApiKeyAnswer[] };
    printEntries(master, items, [
      ["NAME", ({ name }) => name],
      ["SCOPES", ({ scopes }) => scopes],
      ["TENANT", ({ tenant }) => tenant],
      ["EXPIRES", ({ expires_at }) => expires_at],
      ["ID", ({ id }) => id],
    ], "There are no keys of the API besides the admin key.");
  });
  const add = apiKeys.command("add").argument("<name>", "a name that says what it is for").description(
    "Add a key, and print it once.",
  )
    .requiredOption("--scope <scope>", "issue, read or admin; repeatable", several)
    .option("--tenant <name>", "the tenant that it can access; default: all")
    .option(
      "--hostname <name>",
      "for issue: a name for which it may request tokens, *.NAME or *; repeatable",
      several,
    )
    .option("--publish <tcp[:PORT]>", "for issue: a public port that it may request; repeatable", several)
    .option("--expires <time>", "such as 2027-01-31T00:00:00Z");
  manages(add, context, async (master, [name], { scope, tenant, hostname, publish, expires }) => {
    const body = { name, scopes: scope, tenant, hostnames: hostname, publish, expires_at: expires };
    printEntry(master, await master.call("POST", "/v1/api-keys", body));
  });
  const remove = apiKeys.command("remove").argument("<key>", "its id").description("Remove a key.");
  manages(remove, context, async (master, [id]) => {
    await master.call("DELETE", `/v1/api-keys/${encodeURIComponent(id ?? "")}`);
    printDone(master, { id, removed: true }, `Removed ${id}.`);
  });

  addBackup(program, context);
}

/** Adds `backup`. */
function addBackup(program: Command, { io }: CliContext): void {
  const backup = program.command("backup").argument("<file>", "path of the copy, which must not exist yet")
    .description(
      "Copy a session master's database while it is in use. To restore, stop the master and put the copy in its place.",
    );
  addSettings(backup, "backup");
  addExamples(backup, io, [{
    what: "the database of the data folder",
    args: "backup /var/backups/sallyport.db",
  }]);
  backup.action(async (file: string) => {
    const { config } = readSettings(backup, "backup", io);
    const place = databasePlace(config);
    if (!isPostgresUrl(place) && !await exists(place)) {
      throw new SallyportError("config_invalid", `Cannot back up: there is no database ${place}`, {
        side: "config",
      });
    }
    const store = await openStore(place);
    try {
      await store.backup(file);
    } finally {
      await store.close();
    }
    io.out(`Copied ${place} to ${file}.`);
  });
}
