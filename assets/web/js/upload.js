// The upload panel: choose or drop a file, watch it go, pause, resume (also after a reload), cancel.
import { ApiError, call } from "./api.js";
import { Transfer } from "./transfer.js";

const REMEMBERED = "brightrun-upload:";

/** The same file chosen again has the same print; a changed one has another. */
const fingerprint = (file) => `${REMEMBERED}${file.name}|${file.size}|${file.lastModified}`;

const UNITS = ["bytes", "KB", "MB", "GB"];
export function fileSize(bytes) {
  let size = bytes;
  let unit = 0;
  while (size >= 999.95 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return unit ? `${size.toFixed(1)} ${UNITS[unit]}` : `${bytes} bytes`;
}

function timeLeft(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return "";
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s left`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s left`;
  return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min left`;
}

class UploadPanel {
  constructor(form) {
    this.form = form;
    this.input = form.querySelector("input[type=file]");
    this.row = form.querySelector("[data-upload-row]");
    this.zone = form.querySelector("[data-dropzone]");
    this.file = null;
    this.dataset = null;
    this.transfer = null;
    this.input.addEventListener("change", () => this.choose(this.input.files[0]));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    form.addEventListener("click", (event) => {
      const action = event.target.closest("[data-upload-action]")?.dataset.uploadAction;
      if (action === "pause") this.pause();
      if (action === "resume" || action === "retry") this.resume();
      if (action === "cancel") this.cancel();
    });
    this.acceptDrops();
    addEventListener("beforeunload", (event) => {
      if (this.state === "running") event.preventDefault();
    });
    // Chosen before this script had arrived.
    if (this.input.files.length) this.choose(this.input.files[0]);
    else this.mentionInterrupted();
  }

  acceptDrops() {
    let depth = 0; // dragenter and dragleave also fire for children
    const over = (change) => (event) => {
      event.preventDefault();
      depth = Math.max(0, depth + change);
      this.zone.toggleAttribute("data-over", depth > 0);
    };
    this.zone.addEventListener("dragenter", over(1));
    this.zone.addEventListener("dragleave", over(-1));
    this.zone.addEventListener("dragover", (event) => event.preventDefault());
    this.zone.addEventListener("drop", (event) => {
      event.preventDefault();
      depth = 0;
      this.zone.removeAttribute("data-over");
      if (event.dataTransfer.files.length > 1) this.show("error", "One file at a time: each becomes a dataset of its own.");
      else if (event.dataTransfer.files.length) this.choose(event.dataTransfer.files[0]);
    });
  }

  /** A reload forgot the file (a page may not keep it), but not how far it came. */
  mentionInterrupted() {
    const key = Object.keys(localStorage).find((name) => name.startsWith(REMEMBERED));
    if (!key) return;
    const name = key.slice(REMEMBERED.length).split("|")[0];
    this.name(name, "");
    this.show("idle", `The upload of ${name} was interrupted. Choose the same file again, and it goes on where it stopped.`);
  }

  name(name, size) {
    this.row.hidden = false;
    this.row.querySelector("[data-upload-name]").textContent = name;
    this.row.querySelector("[data-upload-size]").textContent = size;
  }

  async choose(file) {
    if (!file || this.state === "running" || this.state === "paused") return;
    this.file = file;
    this.dataset = null;
    this.name(file.name, fileSize(file.size));
    this.progress(0);
    const largest = Number(this.form.dataset.maxBytes);
    if (file.size === 0) return this.show("refused", "This file is empty.");
    if (file.size > largest) return this.show("refused", `This file has ${fileSize(file.size)}; the largest that is accepted is ${fileSize(largest)}.`);
    this.form.querySelector("[data-upload-fields]").hidden = false;
    const name = this.form.elements.name;
    if (!name.value || name.dataset.suggested === name.value) {
      name.value = file.name.replace(/\.(jsonl?|ndjson)$/i, "").slice(0, 255);
      name.dataset.suggested = name.value;
    }
    this.show("chosen", "");
    await this.findInterrupted(file);
  }

  async findInterrupted(file) {
    const remembered = localStorage.getItem(fingerprint(file));
    if (!remembered) return;
    try {
      const { multipart, uploaded } = await call("GET", `${this.form.dataset.createUrl}/${remembered}/upload`);
      if (this.file !== file || this.state !== "chosen") return;
      const bytes = uploaded ? file.size : multipart.stored.reduce((sum, part) => sum + part.size, 0);
      this.dataset = { id: remembered };
      this.form.querySelector("[data-upload-fields]").hidden = true;
      this.progress(bytes / file.size);
      this.show("paused", `${fileSize(bytes)} of ${fileSize(file.size)} are stored already.`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // Swept, deleted or finished elsewhere: nothing to resume, it starts anew.
      if (!error.temporary) localStorage.removeItem(fingerprint(file));
    }
  }

  async start() {
    if (!this.file || this.state !== "chosen" || !this.form.reportValidity()) return;
    const fields = this.form.elements;
    this.clearFieldErrors();
    this.show("running", "Preparing…");
    try {
      const created = await call("POST", this.form.dataset.createUrl, {
        name: fields.name.value.trim(),
        description: fields.description.value.trim() || null,
        ...(fields.format.value && { format: fields.format.value }),
        file_name: this.file.name,
        file_size: this.file.size,
      });
      this.dataset = created.dataset;
      this.remember();
      await this.send(created);
    } catch (error) {
      this.fail(error, this.dataset ? "error" : "chosen");
    }
  }

  remember() {
    try {
      localStorage.setItem(fingerprint(this.file), this.dataset.id);
    } catch {
      // Storage is off or full: only resuming after a reload is lost, and the page then says nothing of it.
      console.warn("This browser keeps no local storage: an upload cannot be resumed after a reload.");
    }
  }

  async send(target) {
    const base = `${this.form.dataset.createUrl}/${this.dataset.id}`;
    this.transfer = new Transfer(this.file, target, { statusUrl: `${base}/upload`, confirmUrl: `${base}/confirm` });
    this.transfer.addEventListener("progress", () => this.report());
    this.transfer.addEventListener("waiting", (event) => this.note(`${event.detail.message} Trying again…`));
    this.show("running", "");
    await this.transfer.run();
    localStorage.removeItem(fingerprint(this.file));
    this.progress(1);
    this.show("done", "Uploaded. Validation has started.");
    location.assign(`${this.form.dataset.pageUrl}/${this.dataset.id}`);
  }

  pause() {
    this.transfer?.pause();
    this.show("paused", `Paused at ${fileSize(this.transfer?.stored ?? 0)} of ${fileSize(this.file.size)}.`);
  }

  async resume() {
    this.show("running", "Asking what is stored…");
    try {
      await this.send(await call("GET", `${this.form.dataset.createUrl}/${this.dataset.id}/upload`));
    } catch (error) {
      this.fail(error, "error");
    }
  }

  async cancel() {
    this.transfer?.pause();
    const { dataset, file } = this;
    this.show("idle", "Cancelling…");
    try {
      if (dataset) await call("DELETE", `${this.form.dataset.createUrl}/${dataset.id}/upload`);
      if (file) localStorage.removeItem(fingerprint(file));
      Object.assign(this, { file: null, dataset: null, transfer: null });
      this.form.reset();
      this.form.querySelector("[data-upload-fields]").hidden = true;
      this.row.hidden = true;
      this.show("idle", "");
    } catch (error) {
      this.fail(error, "error");
    }
  }

  fail(error, state) {
    if (error.name === "AbortError") return; // paused or cancelled: the page says so already
    if (!(error instanceof ApiError)) {
      this.show("error", `Something went wrong in this page: ${error.message}. Reload it; what is stored stays stored.`);
      throw error;
    }
    this.show(state, error.message);
    this.row.dataset.state = "error";
    if (error.details && typeof error.details === "object") this.fieldErrors(error.details);
  }

  fieldErrors(details) {
    for (const [name, messages] of Object.entries(details)) {
      const control = this.form.elements[name];
      if (!control?.closest) continue;
      const line = document.createElement("p");
      line.className = "field-error";
      line.textContent = [messages].flat().join(" ");
      control.setAttribute("aria-invalid", "true");
      control.closest(".field").append(line);
    }
  }

  clearFieldErrors() {
    for (const line of this.form.querySelectorAll(".field-error")) line.remove();
    for (const control of this.form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  }

  report() {
    if (this.state !== "running") return;
    const { sent, rate, secondsLeft } = this.transfer;
    const size = this.file.size;
    this.progress(sent / size);
    const speed = rate == null ? "" : ` · ${fileSize(Math.round(rate))}/s`;
    const left = timeLeft(secondsLeft);
    this.note(sent >= size ? "Storing the last bytes…" : `${fileSize(sent)} of ${fileSize(size)}${speed}${left && ` · ${left}`}`);
  }

  progress(share) {
    this.row.querySelector("[data-upload-progress]").value = share;
  }

  note(text) {
    this.row.querySelector("[data-upload-note]").textContent = text;
  }

  /** state: idle, chosen, refused, running, paused, error, done. */
  show(state, text) {
    this.state = state;
    this.row.dataset.state = state === "refused" ? "error" : state;
    if (text) this.row.hidden = false;
    this.note(text);
    this.row.querySelector("[data-upload-status]").textContent = text;
    const shown = { running: ["pause", "cancel"], paused: ["resume", "cancel"], error: this.dataset ? ["retry", "cancel"] : [] };
    for (const button of this.row.querySelectorAll("[data-upload-action]")) {
      button.hidden = !(shown[state] ?? []).includes(button.dataset.uploadAction);
    }
    this.zone.hidden = ["running", "paused", "done"].includes(state) || (state === "error" && Boolean(this.dataset));
    this.form.querySelector("[data-upload-fields]").disabled = state !== "chosen" && state !== "idle";
    const start = this.form.querySelector('[data-upload-action="start"]');
    start.disabled = state !== "chosen";
    start.hidden = this.zone.hidden;
  }
}

const attached = new WeakSet();

export function attachUploads() {
  for (const form of document.querySelectorAll("form[data-upload]")) {
    if (attached.has(form)) continue;
    attached.add(form);
    new UploadPanel(form);
  }
}
