// Live pages: one event stream a page. An event says *what* changed; the page asks for the part that shows it, so a
// live page, a reloaded page and a page after a server restart all show the same.
//
//   <div id="job" data-live-topic="job:018f… jobs" data-live-url="/training/018f…/status">…</div>
//
// An element with data-live-url is fetched again and morphed in place when one of its topics has an event (without
// an id it could not be found again, so it needs one). `<body data-topics>` adds topics that only scripts listen to:
// every event is dispatched on the document as `brightrun:live`, its detail {id, topic, kind, at, payload}.

import { readEvents } from "./sse.js";

const QUIET_MS = 400; // at most one fetch of a part in this time; the last event always leads to one
const POLL_MS = 15_000; // while the stream is down, parts are asked for this often
const LONGEST_WAIT_MS = 30_000;

const parts = new Map(); // element id → {timer, again, busy}
let stream = null; // AbortController of the open stream
let openTopics = "";
let lastEventId = document.body.dataset.lastEventId ?? ""; // where the stream stood when the server made the page
let failures = 0;
let retryTimer = null;
let pollTimer = null;

const split = (text) => (text ?? "").split(/[\s,]+/).filter(Boolean);
const regions = () => [...document.querySelectorAll("[data-live-topic]")];

function wantedTopics() {
  const topics = new Set(split(document.body.dataset.topics));
  for (const region of regions()) for (const topic of split(region.dataset.liveTopic)) topics.add(topic);
  for (const chart of document.querySelectorAll("[data-chart-topic]")) topics.add(chart.dataset.chartTopic);
  return [...topics].sort().join(",");
}

function disconnect() {
  clearTimeout(retryTimer);
  stream?.abort();
  stream = null;
}

async function connect() {
  disconnect();
  openTopics = wantedTopics();
  // Six connections an origin are all that HTTP/1.1 has: a hidden tab gives its own back.
  if (!openTopics || document.hidden) return;
  const mine = new AbortController();
  stream = mine;
  let status = 0;
  try {
    status = await readEvents(`/api/events?${new URLSearchParams({ topics: openTopics })}`, {
      lastEventId,
      signal: mine.signal,
      onOpen: opened,
      onId: (id) => (lastEventId = id),
      onEvent: receive,
    });
  } catch (error) {
    if (!["AbortError", "TypeError"].includes(error.name)) console.warn("event stream:", error);
  }
  if (stream !== mine) return; // closed by us, or another one took over
  stream = null;
  if (status === 401) {
    location.reload(); // signed out meanwhile: the server leads to the sign-in page, and back here
    return;
  }
  lost();
}

function opened() {
  document.documentElement.dataset.live = "on";
  clearInterval(pollTimer);
  // Between the server's making of the page and this moment something may have happened that no event will repeat.
  if (failures || !lastEventId) refreshAll();
  failures = 0;
}

function lost() {
  document.documentElement.dataset.live = "off";
  failures += 1;
  clearInterval(pollTimer);
  pollTimer = setInterval(refreshAll, POLL_MS);
  // Not all at once after a restart of the server: each page adds its own part of a second.
  retryTimer = setTimeout(connect, Math.min(LONGEST_WAIT_MS, 1000 * 2 ** (failures - 1)) + Math.random() * 1000);
}

function receive({ name, data }) {
  const event = JSON.parse(data);
  if (name === "resync") {
    refreshAll();
    return;
  }
  document.dispatchEvent(new CustomEvent("brightrun:live", { detail: event }));
  for (const region of regions()) if (split(region.dataset.liveTopic).includes(event.topic)) refresh(region);
}

function refreshAll() {
  if (document.hidden) return;
  regions().forEach(refresh);
  document.dispatchEvent(new CustomEvent("brightrun:resync"));
}

/** Fetch a part again, soon, and never twice at once. */
function refresh(region) {
  if (!region.dataset.liveUrl) return;
  if (!region.id) throw new Error(`a live part needs an id: ${region.outerHTML.slice(0, 120)}`);
  const state = parts.get(region.id) ?? { timer: null, again: false, busy: false };
  parts.set(region.id, state);
  if (state.busy) {
    state.again = true;
    return;
  }
  state.timer ??= setTimeout(async () => {
    state.timer = null;
    state.busy = true;
    try {
      await fetchPart(region.id);
    } finally {
      state.busy = false;
      const current = document.getElementById(region.id);
      if (state.again && current) refresh(current);
      state.again = false;
    }
  }, QUIET_MS);
}

async function fetchPart(id) {
  const region = document.getElementById(id);
  if (!region || document.hidden) return;
  // Whoever types or chooses inside it is not disturbed; the next event, or leaving it, brings it up to date.
  if (region.querySelector("dialog[open], [aria-expanded=true]") || region.contains(document.activeElement?.closest?.("input, select, textarea"))) {
    region.addEventListener("focusout", () => refresh(region), { once: true });
    return;
  }
  await window.htmx.ajax("GET", region.dataset.liveUrl, { source: region, target: region, swap: "outerMorph" });
  document.dispatchEvent(new CustomEvent("brightrun:refreshed", { detail: { id } }));
}

document.addEventListener("htmx:response:error", (event) => {
  const region = event.detail.ctx.sourceElement;
  if (region.matches?.("[data-live-topic]")) region.dataset.stale = "true";
});
document.addEventListener("htmx:after:swap", () => {
  if (wantedTopics() !== openTopics) connect();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) disconnect();
  else {
    connect();
    refreshAll();
  }
});
addEventListener("pagehide", disconnect);
addEventListener("pageshow", (event) => event.persisted && connect());

connect();
