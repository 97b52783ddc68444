// Native dialogs, opened and closed by attributes.
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog-open]");
  if (opener) {
    event.preventDefault(); // A link there leads to the same question on a page of its own, for whoever has no script.
    document.getElementById(opener.dataset.dialogOpen).showModal();
    return;
  }
  const closer = event.target.closest("[data-dialog-close]");
  if (closer) {
    closer.closest("dialog").close();
    return;
  }
  // A click on the backdrop is a click on the dialog itself: its content is its child.
  if (event.target instanceof HTMLDialogElement) event.target.close();
});

// A form is sent once: the second half of a double click finds it sent. It opens again after a while, and when the
// browser brings the page back from its cache.
const UNLOCK_MS = 5000;

document.addEventListener("submit", (event) => {
  const form = event.target;
  // htmx has taken its own forms by now, and queues them itself.
  if (event.defaultPrevented || form.getAttribute("method")?.toLowerCase() !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "true";
  setTimeout(() => delete form.dataset.sent, UNLOCK_MS);
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});
