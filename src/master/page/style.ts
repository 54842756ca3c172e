/**
 * The page's style sheet as a text, for every HTML that the session master answers with.
 *
 * @module
 */
import STYLE from "./style.css" with { type: "text" };

export { STYLE };
