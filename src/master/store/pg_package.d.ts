/** `pg` has no types; the parts that are used are described in database.ts. */
declare module "pg" {
  const pg: unknown;
  export default pg;
}
