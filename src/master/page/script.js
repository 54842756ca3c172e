"use strict";
// Progressive enhancements of the page: live figures, charts, and the copy button. Everything else works without it.
// The policy forbids building HTML from text: the browser parses server responses as documents.

const byId = (id) => document.getElementById(id);
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function bytesText(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let step = 0;
  while (bytes >= 1000 && step < units.length - 1) {
    bytes /= 1000;
    step++;
  }
  return `${step === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${units[step]}`;
}

/** A part of a UTC time, in the format of the rest of the page. */
function timeText(seconds, end, start = 11) {
  return new Date(seconds * 1000).toISOString().slice(start, end);
}

// Regions reloaded after a change: each has an id, and the address of its page in data-live.

/** Fetches a document from this server. Rejects unless the response is one for a logged-in user. */
function load(url) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.responseType = "document";
    request.timeout = 10_000;
    request.addEventListener("loadend", () => {
      if (request.status === 200 && request.response) {
        resolve({ document: request.response, url: request.responseURL });
      } else reject(new Error(`Cannot load ${url}: status ${request.status}`));
    });
    request.open("GET", url);
    request.setRequestHeader("Accept", "text/html");
    request.send();
  });
}

/** Whether the user is working in a region: it is then left unchanged. */
function isInUse(region) {
  return region.contains(document.activeElement) || region.querySelector(":popover-open") !== null;
}

async function refresh() {
  const regions = [...document.querySelectorAll("[data-live]")];
  const addressOf = (region) => region.dataset.live || location.href;
  for (const address of new Set(regions.map(addressOf))) {
    const { document: fresh } = await load(address);
    // An expired login replaces the whole page with the login form.
    if (fresh.querySelector("form[action='/page/login']") !== null) return location.reload();
    for (const region of regions) {
      if (addressOf(region) !== address || isInUse(region)) continue;
      const next = fresh.getElementById(region.id);
      if (next !== null && next.textContent !== region.textContent) {
        region.replaceChildren(...[...next.childNodes].map((node) => document.importNode(node, true)));
      }
    }
  }
}

// Charts.

/**
 * Draws a chart into an element, and redraws it when its width or the colours change. `data`: times, to visitors, to
 * agents.
 */
function makeChart(place, more) {
  const ways = [["To visitors", "--accent"], ["To agents", "--second"]];
  let data = [[], [], []];
  let plot;
  const draw = () => {
    plot?.destroy();
    const axis = {
      stroke: style("--faint"),
      font: "12px system-ui, sans-serif",
      grid: { stroke: style("--line"), width: 1 },
      ticks: { show: false },
    };
    plot = new uPlot(
      {
        width: place.clientWidth,
        height: 200,
        legend: { show: false },
        cursor: { show: false },
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        scales: { y: { range: (_plot, _low, high) => [0, Math.max(1000, high * 1.1)] }, ...more.scales },
        axes: [
          { ...axis, grid: { show: false }, size: 30, ...more.times },
          { ...axis, size: 72, values: (_plot, ticks) => ticks.map((tick) => bytesText(tick) + more.unit) },
        ],
        series: [
          {},
          ...ways.map(([label, colour]) => ({
            label,
            stroke: style(colour),
            width: 2,
            fill: `color-mix(in srgb, ${style(colour)} 12%, transparent)`,
            points: { show: false },
            ...more.series,
          })),
        ],
      },
      data,
      place,
    );
    plot.root.setAttribute("aria-hidden", "true");
  };
  new ResizeObserver(() => plot?.setSize({ width: place.clientWidth, height: 200 })).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
  return (next) => {
    data = next;
    plot.setData(data);
  };
}

const columns = (rows) => [0, 1, 2].map((at) => rows.map((row) => row[at]));

const days = document.querySelector("[data-days]");
if (days !== null) {
  const rows = JSON.parse(days.dataset.days);
  const show = makeChart(days, {
    unit: "",
    scales: { x: { range: (_plot, low, high) => [low - 43_200, high + 43_200] } },
    times: {
      values: (_plot, ticks) => ticks.map((tick) => new Date(tick * 1000).toISOString().slice(5, 10)),
    },
    series: {},
  });
  show(columns(rows));
}

// Live figures.

const LIVE_SECONDS = 600;
/** Time span of a new chart. */
const FIRST_SECONDS = 120;
const RECONNECT_MS = 5_000;

function watch() {
  const state = byId("live-state");
  const place = byId("chart");
  let points = [];
  let version;
  let lost;
  const show = place === null ? () => {} : makeChart(place, {
    unit: "/s",
    scales: {
      x: {
        range(_plot, low, high) {
          const end = high ?? Date.now() / 1000;
          return [Math.min(low ?? end, end - FIRST_SECONDS), end];
        },
      },
    },
    times: {
      values: (_plot, ticks, _axis, _space, step) => ticks.map((tick) => timeText(tick, step < 60 ? 19 : 16)),
    },
    series: {},
  });
  const say = (name, text) => {
    if (state === null || state.dataset.state === name) return;
    state.dataset.state = name;
    state.textContent = text;
  };
  const begin = () => {
    const source = new EventSource("/page/events");
    source.addEventListener("history", (event) => {
      points = JSON.parse(event.data);
      show(columns(points));
    });
    source.addEventListener("now", (event) => {
      clearTimeout(lost);
      lost = undefined;
      say("on", "Live");
      const now = JSON.parse(event.data);
      if (now.point !== null) {
        if (points.at(-1)?.[0] !== now.point[0]) points.push(now.point);
        while (points[0][0] < now.point[0] - LIVE_SECONDS) points.shift();
        show(columns(points));
        if (place !== null) {
          byId("rate-visitor").textContent = `${bytesText(now.point[1])}/s`;
          byId("rate-agent").textContent = `${bytesText(now.point[2])}/s`;
        }
      }
      if (version !== undefined && version !== now.version) refresh().catch(() => {});
      version = now.version;
    });
    source.addEventListener("error", () => {
      // The browser reconnects automatically, unless the server has refused.
      lost ??= setTimeout(() => say("lost", "Not live: the session master does not answer"), RECONNECT_MS);
      if (source.readyState !== EventSource.CLOSED) return;
      refresh().catch(() => {});
      setTimeout(begin, RECONNECT_MS);
    });
  };
  begin();
}
if (document.querySelector("[data-live]") !== null) watch();

// On a phone the menu scrolls sideways.
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

// Copy buttons.

for (const button of document.querySelectorAll("button[data-copy]")) {
  const field = byId(button.dataset.copy);
  const said = byId(`${field.id}-copied`);
  button.hidden = false;
  button.addEventListener("click", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      said.textContent = "Copied.";
    } catch {
      // Browsers allow clipboard access only on https and localhost.
      said.textContent = "The text is selected; copy it with the keyboard.";
    }
  });
}
