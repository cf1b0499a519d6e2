// The probes' states and the names of all stored metrics, read once for all panels: a panel whose
// metric is not there says why, and does not ask for it.
import { createContext, html, useMemo } from "../lib/dom.js";
import { useData } from "../lib/load.js";
import { useRange } from "../lib/time.js";

export const Probes = createContext({ probes: [], metrics: null });

export function WithProbes({ children }) {
  const range = useRange();
  const minute = range.live ? Math.floor(range.end / 15) : 0;
  const { data } = useData("probes", {}, minute);
  const stored = useData("metrics", {}, minute);
  const metrics = useMemo(() => stored.data && new Set(stored.data.map((family) => family.name)), [stored.data]);
  return html`<${Probes.Provider} value=${{ probes: data || [], metrics }}>${children}<//>`;
}
