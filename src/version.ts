/** The version of this package, as in package.json and deno.json (a test keeps the three equal). */
export const VERSION = "0.1.0";
