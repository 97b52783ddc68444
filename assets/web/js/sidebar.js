// The sidebar's button, Escape on a phone, and the right state when the window crosses the breakpoint.
const sidebar = document.getElementById("sidebar");
const toggle = document.querySelector("[data-sidebar-toggle]");
const wide = matchMedia("(min-width: 768px)");

function reflect() {
  const open = sidebar.getAttribute("aria-hidden") !== "true";
  toggle.setAttribute("aria-expanded", String(open));
  // On a phone the open sidebar covers the page: what is behind it takes no focus.
  document.querySelector(".app")?.toggleAttribute("inert", open && !wide.matches);
}

if (sidebar && toggle) {
  new MutationObserver(reflect).observe(sidebar, { attributeFilter: ["aria-hidden"] });
  toggle.addEventListener("click", () => {
    sidebar.toggle();
    if (!wide.matches && sidebar.getAttribute("aria-hidden") === "false") sidebar.querySelector("a[href]")?.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || wide.matches || sidebar.getAttribute("aria-hidden") === "true") return;
    if (document.querySelector("#sidebar [aria-expanded=true]")) return; // a menu inside closes first
    sidebar.close();
    reflect();
    toggle.focus();
  });
  wide.addEventListener("change", () => {
    if (wide.matches) sidebar.open();
    else sidebar.close();
    reflect();
  });
  reflect();
}
