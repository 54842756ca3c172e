/** `pg` comes without types; what is used of it is described in postgres.ts. */
declare module "pg" {
  const pg: unknown;
  export default pg;
}
