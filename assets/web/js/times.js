// <time data-time>: relative ones stay true while the page is open, absolute ones are in the reader's own zone.

/** The same words as brightrun.web.filters.relative_text. */
export function relativeText(seconds) {
  const ahead = seconds < 0;
  const span = Math.abs(seconds);
  if (span < 45) return ahead ? "in a moment" : "just now";
  const steps = [[60, 60, "min"], [3600, 24, "h"], [86400, 30, "d"], [2629800, 12, "mo"], [31557600, Infinity, "y"]];
  for (const [size, limit, unit] of steps) {
    const amount = Math.max(1, Math.round(span / size));
    if (amount < limit) return ahead ? `in ${amount} ${unit}` : `${amount} ${unit} ago`;
  }
  return "";
}

const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function update() {
  for (const element of document.querySelectorAll("time[data-time]")) {
    const when = new Date(element.dateTime);
    const text = element.dataset.time === "relative" ? relativeText((Date.now() - when) / 1000) : format.format(when);
    if (element.textContent !== text) element.textContent = text;
    if (element.dataset.time === "relative") element.title = format.format(when);
  }
}

update();
setInterval(update, 30_000);
document.addEventListener("htmx:after:swap", update);
document.addEventListener("brightrun:refreshed", update);
