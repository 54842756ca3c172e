/** `fernet` 0.4.0 comes without types; what the tests use of it they describe. */
declare module "fernet" {
  const fernet: unknown;
  export default fernet;
}
