/**
 * The page's script, served as `/page/script.js`. Everything but the live figures and the copy button works without it.
 *
 * @module
 */

/** The text of the script. */
export const SCRIPT = String.raw`"use strict";
const PERIOD_MS = 2000;
const POINTS_MAX = 60;
const rates = [];
let last;

function shown(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (bytes >= 1000 && step < units.length - 1) { bytes /= 1000; step++; }
  return (step === 0 ? Math.round(bytes) : bytes.toFixed(1)) + " " + units[step];
}

function draw(chart, total) {
  const now = performance.now();
  if (last !== undefined) {
    // Sessions that end take their bytes along: the sum may fall.
    rates.push(Math.max(0, (total - last.total) * 1000 / (now - last.now)));
    if (rates.length > POINTS_MAX) rates.shift();
  }
  last = { total, now };
  const top = Math.max(1, ...rates);
  const from = POINTS_MAX - rates.length;
  chart.querySelector("polyline").setAttribute(
    "points",
    rates.map((rate, at) => (from + at) * 100 / (POINTS_MAX - 1) + "," + (38 - 36 * rate / top)).join(" "),
  );
  document.getElementById("rate").textContent = rates.length === 0 ? "…" : shown(rates.at(-1)) + "/s";
}

async function refresh(live, chart) {
  if (!document.hidden) {
    try {
      const answer = await fetch("/page/live", { credentials: "same-origin", signal: AbortSignal.timeout(10000) });
      if (answer.status === 401) return location.reload();
      if (answer.ok) {
        const next = document.createElement("div");
        // The server has escaped every text in it.
        next.innerHTML = await answer.text();
        // Somebody who scrolls the table by keyboard keeps it as it is.
        if (!live.contains(document.activeElement)) live.replaceChildren(next.firstElementChild.cloneNode(true));
        draw(chart, Number(next.firstElementChild.dataset.bytes));
      }
    } catch {
      document.getElementById("rate").textContent = "the master does not answer";
    }
  }
  setTimeout(refresh, PERIOD_MS, live, chart);
}

const live = document.getElementById("live");
if (live !== null) refresh(live, document.getElementById("chart"));

for (const button of document.querySelectorAll("button[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  button.hidden = false;
  button.addEventListener("click", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      document.getElementById("copied").textContent = "Copied.";
    } catch {
      // Browsers give the clipboard to https and localhost alone.
      document.getElementById("copied").textContent = "The text is selected; copy it with the keyboard.";
    }
  });
}
`;
