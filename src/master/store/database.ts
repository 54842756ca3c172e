/**
 * Opens the session master's database: SQLite in a file, or PostgreSQL by URL. Both support the same query builder.
 *
 * @module
 */
import { closeSync, openSync } from "node:fs";
import { backup, DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { Kysely, PostgresDialect, type PostgresPool, sql, SqliteDialect, type SqliteStatement } from "kysely";
import { DEFAULT_MIGRATION_TABLE, Migrator } from "kysely/migration";
import { errorMessage, SallyportError } from "../../errors.ts";
import { VERSION } from "../../version.ts";
import { migrations } from "./migrations.ts";
import type { Tables } from "./schema.ts";

/** SQLite: how long a statement waits for another process that is writing. */
export const SQLITE_BUSY_TIMEOUT_MS = 5_000;
/** PostgreSQL: connections of one session master. */
export const POSTGRES_CONNECTIONS_MAX = 8;
/** PostgreSQL: timeout for connecting. */
export const POSTGRES_CONNECT_TIMEOUT_MS = 5_000;
/** Maximum number of cached prepared statements; the master has fewer. */
const STATEMENTS_KEPT = 256;

const FILE_MODE = 0o600;

/** The kind of database. */
export type StoreKind = "sqlite" | "postgres";

/** An open database. */
export interface Database {
  readonly kind: StoreKind;
  readonly db: Kysely<Tables>;
  /** Writes a consistent copy to a new file while the database is in use; SQLite only, since PostgreSQL has pg_dump. */
  backup(path: string): Promise<void>;
}

/** Whether this is the URL of a PostgreSQL database. */
export function isPostgresUrl(place: string): boolean {
  return /^postgres(ql)?:\/\//.test(place);
}

/**
 * Opens a database and brings its tables up to date.
 *
 * @param place a `postgres://` URL, or the path of an SQLite file; `:memory:` for a temporary in-memory database
 * @throws SallyportError `config_invalid` if it can't be opened
 */
export async function openDatabase(place: string): Promise<Database> {
  // The URL parser's own error, and pg's, would show the password.
  if (isPostgresUrl(place) && !URL.canParse(place)) {
    const why =
      "its URL isn't postgres://USER:PASSWORD@HOST:PORT/NAME; characters of a password that a URL uses " +
      "itself are written as %23 for #, %2F for /, %3F for ? and %40 for @";
    throw new SallyportError("config_invalid", `Cannot open database: ${why}`, { side: "config" });
  }
  try {
    const opened = await connectDatabase(place);
    await migrate(opened);
    return opened;
  } catch (cause) {
    // A URL contains a password.
    const shown = isPostgresUrl(place) ? new URL(place).host : place;
    const message = `Cannot open database ${shown}: ${errorMessage(cause)}`;
    throw new SallyportError("config_invalid", message, { side: "config", cause });
  }
}

/** Opens a database as it is. */
export async function connectDatabase(place: string): Promise<Database> {
  return isPostgresUrl(place) ? await openPostgres(place) : openSqlite(place);
}

function openSqlite(path: string): Database {
  // It may contain Fernet keys: readable by its owner only, like the files that SQLite creates beside it with the same
  // mode.
  if (path !== ":memory:") closeSync(openSync(path, "a", FILE_MODE));
  const database = new DatabaseSync(path);
  // WAL: readers don't wait for the writer. NORMAL: committed data survives any end of this process.
  database.exec("pragma journal_mode = wal");
  database.exec("pragma synchronous = normal");
  database.exec(`pragma busy_timeout = ${SQLITE_BUSY_TIMEOUT_MS}`);
  const statements = new Map<string, SqliteStatement>();
  const prepare = (sql: string): SqliteStatement => {
    // A transaction that starts by reading and writes later would fail if another process wrote in between.
    const text = sql === "begin" ? "begin immediate" : sql;
    let statement = statements.get(text);
    if (statement === undefined) {
      statement = adapt(database.prepare(text));
      if (text === "rollback") statement = unlessUndone(statement, database);
      if (statements.size >= STATEMENTS_KEPT) statements.clear();
      statements.set(text, statement);
    }
    return statement;
  };
  const db = new Kysely<Tables>({
    dialect: new SqliteDialect({ database: { prepare, close: () => database.close() } }),
  });
  return {
    kind: "sqlite",
    db,
    async backup(target) {
      // Existing files aren't overwritten.
      closeSync(openSync(target, "wx", FILE_MODE));
      await backup(database, target);
    },
  };
}

/** Adapts a statement of `node:sqlite` to Kysely's dialect. */
function adapt(statement: StatementSync): SqliteStatement {
  const values = (parameters: readonly unknown[]) => parameters as SQLInputValue[];
  return {
    reader: statement.columns().length > 0,
    all: (parameters) => statement.all(...values(parameters)),
    run: (parameters) => statement.run(...values(parameters)),
    iterate: (parameters) => statement.iterate(...values(parameters)),
  };
}

/**
 * After some errors, such as a full disk, SQLite has rolled back by itself. A second rollback would fail, and its error
 * would hide the first.
 */
function unlessUndone(rollback: SqliteStatement, database: DatabaseSync): SqliteStatement {
  const nothing = { changes: 0, lastInsertRowid: 0 };
  return { ...rollback, run: (parameters) => database.isTransaction ? rollback.run(parameters) : nothing };
}

/** The parts of `pg` 8 that are used; the package has no types of its own. */
interface PgPackage {
  readonly Pool: new (options: Readonly<Record<string, unknown>>) => PostgresPool & {
    on(event: "error", listener: (error: Error) => void): void;
  };
  readonly types: { getTypeParser(oid: number, format?: string): (text: string) => unknown };
}

/** PostgreSQL's type of 64-bit integers; times and byte counts fit in a JavaScript number. */
const INT8_OID = 20;
/** The type of their sums. */
const NUMERIC_OID = 1700;

async function openPostgres(url: string): Promise<Database> {
  // Loaded on demand: most session masters use SQLite.
  const pg = (await import("pg")).default as PgPackage;
  const pool = new pg.Pool({
    connectionString: url,
    max: POSTGRES_CONNECTIONS_MAX,
    connectionTimeoutMillis: POSTGRES_CONNECT_TIMEOUT_MS,
    application_name: "sallyport",
    types: {
      getTypeParser: (oid: number, format?: string) =>
        oid === INT8_OID || oid === NUMERIC_OID ? Number : pg.types.getTypeParser(oid, format),
    },
  });
  // A broken idle connection is replaced at the next query; without a listener the event would end the process.
  pool.on("error", () => {});
  return {
    kind: "postgres",
    db: new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) }),
    backup: () => {
      const why = "Cannot back up: the database is PostgreSQL; use pg_dump";
      return Promise.reject(new SallyportError("not_supported", why, { side: "config" }));
    },
  };
}

async function migrate({ db, kind }: Database): Promise<void> {
  const provider = migrations(kind);
  try {
    await refuseNewer(db, Object.keys(await provider.getMigrations()));
    const { error } = await new Migrator({ db, provider }).migrateToLatest();
    if (error !== undefined) throw error;
  } catch (error) {
    await db.destroy();
    throw error;
  }
}

/** Throws if a newer version has changed the tables in a way unknown to this one. */
async function refuseNewer(db: Kysely<Tables>, known: readonly string[]): Promise<void> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true });
  if (!tables.some(({ name }) => name === DEFAULT_MIGRATION_TABLE)) return;
  const { rows } = await sql<{ readonly name: string }>`select name from ${
    sql.table(DEFAULT_MIGRATION_TABLE)
  }`
    .execute(db);
  const stranger = rows.find(({ name }) => !known.includes(name));
  if (stranger === undefined) return;
  throw new Error(
    `a newer version has changed it (${stranger.name}), and this is ${VERSION}: start the newer version, or ` +
      "restore a backup from before",
  );
}
