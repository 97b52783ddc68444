// The form that starts training. Its promise follows every change; nothing is started on a promise that is not on
// screen yet; and what happens elsewhere (a probe ends, tokens are counted) asks for it anew.
import { showToast } from "./toast.js";

const CHANGED = "stale"; // data-stale: something changed, and the promise for it has not come yet
let attached = false;

export function attachLaunch() {
  if (attached) return;
  attached = true;
  document.addEventListener("input", (event) => {
    const form = event.target.closest?.("#new-job");
    if (form) form.dataset[CHANGED] = "true";
  });
  document.addEventListener("htmx:after:swap", (event) => {
    if (event.detail.ctx?.sourceElement?.id === "new-job") settled();
  });
  // The server has the last word on a form whose promise could not be fetched.
  document.addEventListener("htmx:response:error", settled);
  document.addEventListener("htmx:error", settled);
  document.addEventListener("submit", hold, { capture: true });
  document.addEventListener("brightrun:live", (event) => {
    const part = document.querySelector("#estimate[data-live-topic]");
    if (part?.dataset.liveTopic.split(/[\s,]+/).includes(event.detail.topic)) again();
  });
  document.addEventListener("brightrun:resync", again);
}

const form = () => document.getElementById("new-job");

function again() {
  form()?.dispatchEvent(new Event("input", { bubbles: true }));
}

function settled() {
  const found = form();
  if (!found) return;
  delete found.dataset[CHANGED];
  if (found.dataset.wanted) {
    delete found.dataset.wanted;
    showToast({ title: "Look at the promise once more", description: "It has just changed with your last edit. Start again if it is right.", category: "info" });
  }
}

function hold(event) {
  const found = event.target;
  if (found.id !== "new-job" || event.submitter?.formAction.includes("/new/template")) return;
  if (!found.dataset[CHANGED]) return;
  event.preventDefault();
  event.stopPropagation();
  found.dataset.wanted = "true";
}
