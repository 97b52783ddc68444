// Toasts from scripts: clones of the server's own markup, filled with text (never with HTML).

/** fields: {title, description, category, undo_url, link_url, link_label, duration} as brightrun.web.toasts.Toast. */
export function showToast(fields) {
  const { title, description = "", category = "success", undo_url, link_url, link_label = "Open" } = fields;
  const templates = document.getElementById("toast-templates").content;
  const toast = templates.querySelector(`[data-category="${category}"]`).cloneNode(true);
  toast.dataset.duration = fields.duration ?? (category === "error" ? -1 : undo_url ? 12000 : 6000);
  toast.querySelector("h2").textContent = title;
  const text = toast.querySelector("p");
  if (description) text.textContent = description;
  else text.remove();
  const footer = toast.querySelector("footer");
  if (link_url) {
    const link = Object.assign(document.createElement("a"), { href: link_url, textContent: link_label, className: "btn" });
    link.dataset.variant = "outline";
    link.dataset.toastAction = "";
    footer.prepend(link);
  }
  if (undo_url) {
    const form = templates.querySelector("[data-toast-undo]").cloneNode(true);
    form.action = undo_url;
    footer.prepend(form);
  }
  // Basecoat sees the new element and starts its clock.
  document.getElementById("toaster").append(toast);
  return toast;
}
