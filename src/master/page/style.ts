/**
 * The page's style sheet as text, for all HTML served by the session master.
 *
 * @module
 */
import STYLE from "./style.css" with { type: "text" };

export { STYLE };
