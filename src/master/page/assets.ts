/**
 * The page's files. They are imported as text, so that every build includes them: no folder is read, nothing is loaded
 * from other hosts.
 *
 * @module
 */
import CHART_SCRIPT from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import CHART_STYLE from "uplot/dist/uPlot.min.css" with { type: "text" };
import SCRIPT from "./script.js" with { type: "text" };
import { MARK } from "./icons.tsx";
import { STYLE } from "./style.ts";

/** A file that browsers load. */
interface Asset {
  readonly type: string;
  readonly text: string;
}

const script = (text: string): Asset => ({ type: "text/javascript; charset=utf-8", text });
const style = (text: string): Asset => ({ type: "text/css; charset=utf-8", text });

/** The logo in the colours of a browser tab. */
const ICON = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">' +
  `<path fill="#0f8577" d="${MARK.wall}"/><path fill="#fff" d="${MARK.gate}"/></svg>`;

/** By file name under `/page/`. */
export const ASSETS: Readonly<Record<string, Asset>> = {
  "style.css": style(STYLE),
  "script.js": script(SCRIPT),
  "chart.css": style(CHART_STYLE),
  "chart.js": script(CHART_SCRIPT),
  "icon.svg": { type: "image/svg+xml", text: ICON },
};
