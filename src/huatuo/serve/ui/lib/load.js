// Data of one URL: keeps showing the last answer while the next one is on its way.
import { useEffect, useState } from "./dom.js";
import { get, url } from "./api.js";

// `again`: read again when this changes although the URL does not. `stale`: the answer is still that to
// the question before.
export function useData(path, params = {}, again = 0) {
  const key = path ? url(path, params) : "";
  const [state, set] = useState({ data: null, error: null, path: "", key: "" });
  useEffect(() => {
    if (!key) return undefined;
    const stop = new AbortController();
    get(path, params, stop.signal).then(
      (data) => set({ data, error: null, path, key }),
      (error) => error.name === "AbortError" || set((old) => ({ data: error.status ? null : old.data, error, path, key })),
    );
    return () => stop.abort();
  }, [key, again]);
  const fresh = state.path === path;
  return { data: fresh ? state.data : null, error: fresh ? state.error : null, stale: state.key !== key };
}
