// htmx: the CSRF token goes along, and what fails says so instead of disappearing.
import { csrfToken, errorFrom } from "./api.js";
import { showToast } from "./toast.js";

document.addEventListener("htmx:config:request", (event) => {
  const { ctx } = event.detail;
  if (ctx.request.method !== "GET") ctx.request.headers["X-CSRF-Token"] = csrfToken();
  if (ctx.sourceElement.matches(".filter-bar")) {
    // An empty filter is no filter: it does not belong in the address.
    for (const [key, value] of [...ctx.request.body]) if (value === "") ctx.request.body.delete(key);
  }
});

document.addEventListener("htmx:response:error", (event) => {
  const { ctx } = event.detail;
  if (ctx.sourceElement.closest("[data-live-topic]") === ctx.sourceElement) return; // live.js marks it stale
  if (ctx.sourceElement.hasAttribute(`hx-status:${ctx.response.status}`)) return; // its form comes back and says it
  const page = /^\s*</.test(ctx.text) ? new DOMParser().parseFromString(ctx.text, "text/html") : null;
  const message = page?.querySelector("[data-error-message]")?.textContent ?? errorFrom(ctx.response.status, ctx.text).message;
  showToast({ title: "That did not work", description: message, category: "error" });
});

document.addEventListener("htmx:error", (event) => {
  const { error } = event.detail;
  if (error instanceof TypeError || event.detail.ctx?.request?.signal?.reason === "timeout") {
    showToast({ title: "The server cannot be reached", description: "Check the connection, then try again.", category: "error" });
  } else {
    console.error(error);
  }
});

document.addEventListener("brightrun:toast", (event) => showToast(event.detail));
