// Ticked rows of a list: how many, all of them at once, and still ticked after the list was brought up to date.
//
//   <div id="jobs" data-selection> … <span data-selection-count> <input type=checkbox data-selection-all>
//   <input type=checkbox name=ids value=…> <button data-selection-compare></div>

const ticked = new Set();
let attached = false;

const host = () => document.querySelector("[data-selection]");
const boxes = () => [...(host()?.querySelectorAll("input[name=ids]") ?? [])];

function show() {
  const all = boxes();
  const here = all.filter((box) => box.checked).length;
  const count = host()?.querySelector("[data-selection-count]");
  if (count) count.textContent = here ? `${here} ticked` : "Tick jobs to act on several at once";
  host()?.querySelector(".bulk-bar")?.toggleAttribute("data-some", here > 0);
  const every = host()?.querySelector("[data-selection-all]");
  if (every) {
    every.checked = here > 0 && here === all.length;
    every.indeterminate = here > 0 && here < all.length;
  }
  const compare = host()?.querySelector("[data-selection-compare]");
  if (compare) compare.disabled = here < 2 || here > 4;
}

/** What is drawn anew comes unticked from the server. */
function restore() {
  for (const box of boxes()) box.checked = ticked.has(box.value);
  show();
}

function remember(box) {
  if (box.checked) ticked.add(box.value);
  else ticked.delete(box.value);
}

export function attachSelection() {
  // A page that the browser kept comes back with its ticks.
  if (!attached) for (const box of boxes()) remember(box);
  restore();
  if (attached) return;
  attached = true;
  document.addEventListener("change", ({ target }) => {
    if (!host()?.contains(target)) return;
    if (target.matches("[data-selection-all]")) {
      for (const box of boxes()) {
        box.checked = target.checked;
        remember(box);
      }
    } else if (target.matches("input[name=ids]")) {
      remember(target);
    } else {
      return;
    }
    show();
  });
  document.addEventListener("brightrun:refreshed", restore);
}
