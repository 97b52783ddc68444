// One file on its way to storage: in parts, several at once, paused, resumed, tried again. No page in here.
import { ApiError, call, errorFrom } from "./api.js";

const PARALLEL = 4;
const ATTEMPTS = 8;
const RATE_WINDOW_MS = 5000;

/** Events: `progress` (on every change of `sent`), `waiting` (detail: the ApiError it waits out). */
export class Transfer extends EventTarget {
  /** target: {uploadUrl, multipart, uploaded} of the create answer, or of `GET /api/datasets/{id}/upload`. */
  constructor(file, target, { statusUrl, confirmUrl }) {
    super();
    this.file = file;
    this.plainUrl = target.uploadUrl ?? null;
    this.multipart = target.multipart ?? null;
    this.uploaded = target.uploaded || this.multipart?.complete || false; // only the confirmation is missing
    this.statusUrl = statusUrl;
    this.confirmUrl = confirmUrl;
    this.stored = 0; // bytes of parts that the storage has
    this.moving = new Map(); // part number → bytes of it that left this machine
    this.samples = [];
    this.abort = new AbortController();
    if (this.multipart?.stored) this.countStored(this.multipart);
  }

  countStored(status) {
    this.stored = status.stored.reduce((sum, part) => sum + part.size, 0);
  }

  get sent() {
    return Math.min(this.file.size, this.stored + [...this.moving.values()].reduce((sum, bytes) => sum + bytes, 0));
  }

  /** Bytes a second over the last seconds; null until there is something to measure. */
  get rate() {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    if (!first || last.at - first.at < 500) return null;
    return Math.max(0, (last.sent - first.sent) / ((last.at - first.at) / 1000));
  }

  get secondsLeft() {
    return this.rate ? (this.file.size - this.sent) / this.rate : null;
  }

  note() {
    const at = performance.now();
    this.samples.push({ at, sent: this.sent });
    while (this.samples.length > 2 && at - this.samples[0].at > RATE_WINDOW_MS) this.samples.shift();
    this.dispatchEvent(new Event("progress"));
  }

  /** Stop sending; what is stored stays stored. `run` of a new Transfer goes on from there. */
  pause() {
    this.abort.abort();
  }

  /** Send everything and confirm. Throws ApiError, or AbortError after `pause`. */
  async run() {
    const { signal } = this.abort;
    if (!this.uploaded && this.multipart) {
      await this.sendParts();
      await this.retrying(() => call("POST", this.multipart.complete_url, undefined, { signed: true, signal }));
    } else if (!this.uploaded) {
      await this.retrying(() => this.put(this.plainUrl, this.file, 0));
    }
    await this.retrying(() => call("POST", this.confirmUrl, {}, { signal }));
  }

  async sendParts() {
    const waiting = [...this.multipart.parts];
    const urls = new Map(waiting.map((part) => [part.number, part.url]));
    const stopped = new AbortController();
    const worker = async () => {
      for (let part = waiting.shift(); part && !stopped.signal.aborted; part = waiting.shift()) {
        const start = (part.number - 1) * this.multipart.part_size;
        const body = this.file.slice(start, Math.min(start + this.multipart.part_size, this.file.size));
        await this.retrying(
          () => this.put(urls.get(part.number), body, part.number),
          async (error) => {
            if (error.status !== 403) return;
            // The hour of the URLs is over: the server, who knows us, gives new ones.
            const fresh = await this.freshStatus();
            for (const { number, url } of fresh.parts) urls.set(number, url);
            this.multipart.complete_url = fresh.complete_url;
          },
        );
        this.moving.delete(part.number);
        this.stored += body.size;
        this.note();
      }
    };
    const workers = Array.from({ length: Math.min(PARALLEL, waiting.length) }, worker);
    try {
      await Promise.all(workers);
    } catch (error) {
      stopped.abort();
      this.abort.abort();
      await Promise.allSettled(workers);
      throw error;
    }
  }

  async freshStatus() {
    const { multipart } = await call("GET", this.statusUrl, undefined, { signal: this.abort.signal });
    if (multipart.upload_id === this.multipart.upload_id) return multipart;
    throw new ApiError("What had arrived is gone from the storage. Try again to send the file anew.", { status: 409, code: "upload_lost" });
  }

  /** One PUT with progress (which fetch cannot report). */
  put(url, body, number) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      const stop = () => request.abort();
      request.open("PUT", url);
      request.upload.onprogress = (event) => {
        this.moving.set(number, event.loaded);
        this.note();
      };
      request.onload = () =>
        request.status >= 200 && request.status < 300
          ? resolve()
          : reject(errorFrom(request.status, request.responseText, request.getResponseHeader("Retry-After")));
      request.onerror = () => reject(new ApiError("The connection was lost."));
      request.onabort = () => reject(new DOMException("paused", "AbortError"));
      request.onloadend = () => {
        this.abort.signal.removeEventListener("abort", stop);
        if (request.status < 200 || request.status >= 300) this.moving.delete(number);
      };
      if (this.abort.signal.aborted) {
        reject(new DOMException("paused", "AbortError"));
        return;
      }
      this.abort.signal.addEventListener("abort", stop);
      request.send(body);
    });
  }

  /** Try again what can succeed later; `repair` may make a refusal good (new URLs) and is tried once a failure. */
  async retrying(action, repair = null) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const result = await action();
        if (attempt > 1) this.note();
        return result;
      } catch (error) {
        const repairable = repair && error.status === 403 && attempt <= 2;
        if (error.name === "AbortError" || attempt >= ATTEMPTS || !(error.temporary || repairable)) throw error;
        if (repairable) {
          await repair(error);
          continue;
        }
        this.dispatchEvent(new CustomEvent("waiting", { detail: error }));
        await this.wait((error.retryAfter ?? Math.min(30, 0.5 * 2 ** (attempt - 1))) * 1000);
      }
    }
  }

  /** Wait, but no longer than the network needs to come back. */
  wait(milliseconds) {
    return new Promise((resolve, reject) => {
      const { signal } = this.abort;
      const finish = (settle) => () => {
        clearTimeout(timer);
        removeEventListener("online", onOnline);
        signal.removeEventListener("abort", onAbort);
        settle();
      };
      const onOnline = finish(resolve);
      const onAbort = finish(() => reject(new DOMException("paused", "AbortError")));
      const timer = setTimeout(onOnline, milliseconds);
      addEventListener("online", onOnline);
      signal.addEventListener("abort", onAbort);
      if (signal.aborted) onAbort();
    });
  }
}
