/** Files imported as text (`with { type: "text" }`), for type checking with Bun; Deno knows their type. */
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
