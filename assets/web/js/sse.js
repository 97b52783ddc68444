// Server-sent events over fetch. Not EventSource: it hides the status of a refusal, cannot send Last-Event-ID on a
// connection of ours, and gives only events whose names are known beforehand (ours are named by what happened).

/** The server pings more often than this; silence means that the connection is dead. */
const SILENCE_MS = 60_000;

/**
 * Reads until the stream ends, fails or is aborted; resolves with the status of the answer (200 when it ran).
 * onId(id) for every `id:`; onEvent({name, data}) for every event, `data` the raw text.
 */
export async function readEvents(url, { lastEventId, signal, onOpen, onId, onEvent }) {
  const headers = { Accept: "text/event-stream" };
  if (lastEventId) headers["Last-Event-ID"] = lastEventId;
  const silence = new AbortController();
  let watch = setTimeout(() => silence.abort(), SILENCE_MS);
  const response = await fetch(url, { headers, cache: "no-store", signal: AbortSignal.any([signal, silence.signal]) });
  if (!response.ok) {
    clearTimeout(watch);
    return response.status;
  }
  onOpen();
  const parser = new Parser(onId, onEvent);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return response.status;
      clearTimeout(watch);
      watch = setTimeout(() => silence.abort(), SILENCE_MS);
      parser.feed(value);
    }
  } finally {
    clearTimeout(watch);
  }
}

class Parser {
  constructor(onId, onEvent) {
    Object.assign(this, { onId, onEvent, rest: "", name: "", data: [] });
  }

  feed(text) {
    // A chunk may end inside a line, or between the two bytes of a CRLF.
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    lines.forEach((line) => this.line(line));
  }

  line(line) {
    if (line === "") {
      if (this.data.length) this.onEvent({ name: this.name || "message", data: this.data.join("\n") });
      this.name = "";
      this.data = [];
      return;
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (field === "id") this.onId(value);
    else if (field === "event") this.name = value;
    else if (field === "data") this.data.push(value);
  }
}
