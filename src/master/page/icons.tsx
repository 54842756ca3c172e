/** @jsxImportSource hono/jsx */
/**
 * The page's own icons: strokes on a 20-unit grid.
 *
 * @module
 */
import type { Html } from "./layout.tsx";

const ICONS = {
  overview: "M3 3h6v6H3zM11 3h6v4h-6zM11 9h6v8h-6zM3 11h6v6H3z",
  agents: "M3 4h14v5H3zM3 11h14v5H3zM6 6.5h.01M6 13.5h.01",
  sessions: "M2 10h4l2-6 4 12 2-6h4",
  usage: "M4 17V9M10 17V3M16 17v-6",
  audit: "M5 3h10v14H5zM8 7h4M8 10h4M8 13h2",
  keys: "M13 3a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM10 10l-7 7M5 15l2 2",
  webhooks: "M17 3L3 9l5 3 3 5zM17 3l-9 9",
  leave: "M8 3H4v14h4M8 10h9M13 6l4 4-4 4",
  copy: "M7 7h10v10H7zM13 7V3H3v10h4",
  add: "M10 4v12M4 10h12",
  search: "M9 3a6 6 0 1 0 0 12A6 6 0 0 0 9 3zM13.5 13.5L17 17",
  file: "M10 3v9M6 9l4 4 4-4M4 17h12",
} as const;

/** Names of the icons. */
export type IconName = keyof typeof ICONS;

/** An icon next to a text; hidden from screen readers. */
export function Icon({ name }: { readonly name: IconName }): Html {
  return (
    <svg class="icon" viewBox="0 0 20 20" aria-hidden="true">
      <path d={ICONS[name]} />
    </svg>
  );
}

/** Sallyport's logo, a gate in a wall: its paths on a 24-unit grid. */
export const MARK = { wall: "M2 5h4v3h3V5h6v3h3V5h4v16H2z", gate: "M8 21v-5a4 4 0 0 1 8 0v5z" } as const;

/** The logo next to the name. */
export function Mark(): Html {
  return (
    <svg class="mark" viewBox="0 0 24 24" aria-hidden="true">
      <path class="wall" d={MARK.wall} />
      <path class="gate" d={MARK.gate} />
    </svg>
  );
}
