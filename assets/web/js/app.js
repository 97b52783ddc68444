// What every page runs. Charts and uploads are loaded only where a page has one.
import "./theme.js";
import "./sidebar.js";
import "./dialogs.js";
import "./requests.js";
import "./times.js";
import "./live.js";

document.documentElement.classList.add("js");

async function loadParts() {
  if (document.querySelector("[data-chart]")) (await import("./charts.js")).attachCharts();
  if (document.getElementById("new-job")) (await import("./launch.js")).attachLaunch();
  if (document.querySelector("[data-upload]")) (await import("./upload.js")).attachUploads();
  if (document.querySelector("[data-chart=compare]")) (await import("./compare.js")).attachComparisons();
  if (document.querySelector("[data-selection]")) (await import("./selection.js")).attachSelection();
}

loadParts();
document.addEventListener("htmx:after:swap", loadParts);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const { showToast } = await import("./toast.js");
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    showToast({ title: "Copied", category: "success" });
  } catch {
    // Plain http on another host has no clipboard: select the text instead, so that Ctrl+C works.
    const source = button.parentElement.querySelector("[data-copy-source]");
    if (source) getSelection().selectAllChildren(source);
    showToast({ title: "Press Ctrl+C to copy", description: "This browser does not let the page copy.", category: "info" });
  }
});
