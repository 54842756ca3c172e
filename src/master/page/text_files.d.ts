/** Files that are imported as texts (`with { type: "text" }`), for the type check for Bun; Deno knows their type. */
declare module "*/script.js" {
  const text: string;
  export default text;
}
declare module "uplot/dist/uPlot.iife.min.js" {
  const text: string;
  export default text;
}
declare module "*.css" {
  const text: string;
  export default text;
}
