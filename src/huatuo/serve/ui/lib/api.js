// The UI's only way to data: the public API. The token, if one is needed, is kept for this tab only.
const BASE = "api/v1";
const KEY = "huatuo-token";

export const setToken = (token) => sessionStorage.setItem(KEY, token);

function headers(more = {}) {
  const token = sessionStorage.getItem(KEY);
  return token ? { ...more, authorization: `Bearer ${token}` } : more;
}

export function url(path, params = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== "" && value != null) search.set(name, value);
  const text = search.toString();
  return `${BASE}/${path}${text ? `?${text}` : ""}`;
}

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.what || "the agent does not answer");
    this.status = status;
    this.code = problem.error || "";
    this.hint = problem.hint || "";
  }
}

async function failure(response) {
  let problem = { what: `the agent answered ${response.status}` };
  try { problem = await response.json(); } catch { /* not JSON: keep the status */ }
  return new ApiError(response.status, problem);
}

export async function get(path, params, signal) {
  let response;
  try {
    response = await fetch(url(path, params), { signal, headers: headers() });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { error: "offline", what: "The agent does not answer.", hint: "Is it still running? This page tries again by itself." });
  }
  if (!response.ok) throw await failure(response);
  return response.json();
}

// Have something done.
export async function post(path, params) {
  const response = await fetch(url(path, params), { method: "POST", headers: headers() });
  if (!response.ok) throw await failure(response);
  return response.json();
}

// A link to a file cannot carry a token: where one is needed, the file is fetched and then handed over.
export async function save(event) {
  if (!sessionStorage.getItem(KEY)) return;
  event.preventDefault();
  const link = event.currentTarget;
  const response = await fetch(link.href, { headers: headers() });
  if (!response.ok) throw await failure(response);
  const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition") || "");
  const file = document.createElement("a");
  file.href = URL.createObjectURL(await response.blob());
  file.download = name ? name[1] : "profile";
  file.click();
  setTimeout(() => URL.revokeObjectURL(file.href), 60000);
}

// Server-sent events over fetch, because EventSource cannot carry a token. Comes back by itself. A
// hidden tab lets go: browsers allow six connections to one host, in all tabs together.
export function stream(params, onEvent, onState) {
  const all = new AbortController();
  let one = null;
  let last = 0;
  const take = (block) => {
    const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
    if (!data) return;
    const event = JSON.parse(data);
    if (event.id) last = event.id;
    onEvent(event);
  };
  const read = async () => {
    one = new AbortController();
    const more = last ? { "last-event-id": String(last) } : {};
    const response = await fetch(url("events/stream", params), { signal: one.signal, headers: headers(more) });
    if (!response.ok) throw await failure(response);
    onState(true);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      blocks.forEach(take);
    }
  };
  const wait = () => new Promise((resume) => {
    if (!document.hidden) { setTimeout(resume, 2000); return; }
    document.addEventListener("visibilitychange", resume, { once: true });
    all.signal.addEventListener("abort", resume, { once: true });
  });
  const hide = () => document.hidden && one && one.abort();
  document.addEventListener("visibilitychange", hide);
  (async () => {
    while (!all.signal.aborted) {
      try { if (!document.hidden) await read(); } catch { /* shown as not connected */ }
      if (all.signal.aborted) return;
      onState(false);
      await wait();
    }
  })();
  return () => {
    document.removeEventListener("visibilitychange", hide);
    all.abort();
    if (one) one.abort();
  };
}
