/**
 * The page's style sheet, served as `/page/style.css`.
 *
 * @module
 */

/** The text of the style sheet. */
export const STYLE = String.raw`
:root {
  color-scheme: light dark;
  --back: #fff; --raised: #f3f5f7; --text: #1b1f24; --faint: #57606a; --line: #d0d7de;
  --accent: #0a58ca; --on-accent: #fff; --bad: #b3261e; --good: #1a7f37;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #14171a; --raised: #1e2328; --text: #e6e9ec; --faint: #a3adb8; --line: #3a424b;
    --accent: #7ab0ff; --on-accent: #0c1116; --bad: #ff9a91; --good: #6fd58a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.skip { position: absolute; left: -100vw; }
.skip:focus { left: .5rem; top: .5rem; background: var(--back); padding: .5rem; }
header { background: var(--raised); border-bottom: 1px solid var(--line); }
.bar, main { max-width: 72rem; margin: 0 auto; padding: .75rem 1rem; }
.bar { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: center; }
.brand { font-weight: 700; }
nav { flex: 1 1 16rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; margin: 0; padding: 0; }
nav a { display: inline-block; padding: .35rem 0; text-decoration: none; }
nav a[aria-current] { color: var(--text); font-weight: 600; border-bottom: 2px solid var(--accent); }
h1 { font-size: 1.5rem; margin: .5rem 0 1rem; }
h2 { font-size: 1.15rem; margin: 1.5rem 0 .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .45rem .75rem .45rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--faint); white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td { overflow-wrap: anywhere; min-width: 5rem; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 0; }
dl.facts > div { background: var(--raised); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; }
dl.facts dt { color: var(--faint); }
dl.facts dd { margin: 0; font-size: 1.3rem; font-weight: 600; overflow-wrap: anywhere; }
dl.plain { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .35rem 1rem; }
dl.plain dt { color: var(--faint); }
dl.plain dd { margin: 0; overflow-wrap: anywhere; }
.chart { width: 100%; height: 6rem; display: block; border-bottom: 1px solid var(--line); }
.chart polyline { fill: none; stroke: var(--accent); stroke-width: 2; vector-effect: non-scaling-stroke; }
form.row, .actions { display: flex; flex-wrap: wrap; gap: .75rem; align-items: end; margin: 0 0 1rem; }
form.stack { display: grid; gap: .75rem; max-width: 32rem; }
label { display: grid; gap: .2rem; font-weight: 600; }
label small { font-weight: 400; color: var(--faint); }
input, select, textarea, button { font: inherit; color: inherit; }
input, select, textarea {
  background: var(--back); border: 1px solid var(--faint); border-radius: .35rem; padding: .5rem; width: 100%; min-height: 2.75rem;
}
button, .button {
  border: 1px solid var(--accent); border-radius: .35rem; padding: .5rem 1rem; min-height: 2.75rem; cursor: pointer;
  background: var(--accent); color: var(--on-accent); font-weight: 600; text-decoration: none; width: auto;
}
button.quiet { background: transparent; color: var(--accent); }
button.bad { background: transparent; color: var(--bad); border-color: var(--bad); }
.note { border: 1px solid var(--line); border-left: .3rem solid var(--accent); border-radius: .35rem; padding: .75rem 1rem; margin: 0 0 1rem; }
.note.wrong { border-left-color: var(--bad); }
.state-active { color: var(--good); }
.state-suspended { color: var(--bad); }
code, .command { font-family: ui-monospace, monospace; font-size: .9rem; }
summary { cursor: pointer; padding: .5rem 0; font-weight: 600; }
p.actions { margin-top: .75rem; }
.login { max-width: 24rem; margin: 10vh auto 0; }
[hidden] { display: none; }
@media (max-width: 40rem) {
  table.cards thead { display: none; }
  table.cards tr { display: block; border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .75rem; margin: 0 0 .75rem; }
  table.cards td, table.cards td.number { display: flex; justify-content: space-between; gap: 1rem; text-align: right; border: 0; padding: .2rem 0; }
  table.cards td[data-name]::before { content: attr(data-name); color: var(--faint); text-align: left; }
}
`;
