/** `fernet` 0.4.0 comes without types; what is used of it is described in fernet.ts. */
declare module "fernet" {
  const fernet: unknown;
  export default fernet;
}
