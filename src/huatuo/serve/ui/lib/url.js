// The view is its URL: #/page?params. The time range travels along to every link.
import { useEffect, useState } from "./dom.js";

const TIME = ["range", "from", "to"];

export function current() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { page: path || "node", params: Object.fromEntries(new URLSearchParams(search)) };
}

export function href(page, params = {}) {
  const now = current().params;
  const all = {};
  const ownTime = TIME.some((name) => name in params);
  if (!ownTime) for (const name of TIME) if (now[name]) all[name] = now[name];
  for (const [name, value] of Object.entries(params)) if (value !== "" && value != null) all[name] = value;
  const search = new URLSearchParams(all).toString();
  return `#/${page === "node" ? "" : page}${search ? `?${search}` : ""}`;
}

export function go(page, params, replace = false) {
  const target = href(page, params);
  if (replace) {
    history.replaceState(history.state, "", target);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = target;
  }
}

// Change some parameters of this view and keep the others.
export function change(params, replace = false) {
  const now = current();
  const next = { ...now.params, ...params };
  if ("from" in params) delete next.range;
  if ("range" in params) { delete next.from; delete next.to; }
  go(now.page, next, replace);
}

export function useRoute() {
  const [route, set] = useState(current);
  useEffect(() => {
    const changed = () => set(current());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
