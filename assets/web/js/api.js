// Calls to our own JSON API, with its one error shape: {error, code, details}.

export class ApiError extends Error {
  /** status 0: no answer at all (network). */
  constructor(message, { status = 0, code = "network", details = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.details = details;
    this.retryAfter = retryAfter;
  }

  /** Could the same request succeed later, unchanged? */
  get temporary() {
    return this.status === 0 || this.status === 408 || this.status === 429 || (this.status >= 500 && this.status !== 507);
  }
}

export const csrfToken = () => document.querySelector('meta[name="csrf-token"]')?.content ?? "";

/** The `data` of an answer. Throws ApiError. `signed`: the URL proves itself, no cookie or token goes along. */
export async function call(method, url, body = undefined, { signed = false, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (!signed && method !== "GET") headers["X-CSRF-Token"] = csrfToken();
  let response;
  try {
    response = await fetch(url, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: signed ? "omit" : "same-origin",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.");
  }
  const text = await response.text();
  if (response.ok) return text ? JSON.parse(text).data : null;
  throw errorFrom(response.status, text, response.headers.get("Retry-After"));
}

/** An ApiError from an answer's status and text, whoever wrote it (our API, a proxy, S3's XML). */
export function errorFrom(status, text, retryAfter = null) {
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // not JSON: the status has to do
  }
  const xml = /<Code>([^<]+)<\/Code>[\s\S]*?<Message>([^<]+)</.exec(text ?? "");
  const message = body?.error ?? (xml ? `The storage refused: ${xml[2]}` : `The server answered with status ${status}.`);
  return new ApiError(message, {
    status,
    code: body?.code ?? xml?.[1] ?? "http_error",
    details: body?.details ?? null,
    retryAfter: retryAfter ? Number(retryAfter) : null,
  });
}
