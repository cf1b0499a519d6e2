// Tiny lines beside numbers: one request for all rows of a table.
import { html, useContext, useMemo } from "../lib/dom.js";
import { useData } from "../lib/load.js";
import { period } from "../lib/time.js";
import { Probes } from "./probes.js";

const WIDTH = 64;
const HEIGHT = 16;

export function useSparks(metric, range) {
  const { metrics } = useContext(Probes);
  const { data } = useData(metrics && metrics.has(metric) ? "metrics/query" : "", { name: metric, by: "container", points: 40, ...period(range) });
  return useMemo(() => data && new Map(data.series.map((series) => [series.labels.container, { times: data.times, values: series.values }])), [data]);
}

export function Spark({ line, range }) {
  if (!line) return html`<svg class="spark" width=${WIDTH} height=${HEIGHT}></svg>`;
  const most = Math.max(...line.values.map((value) => value || 0)) || 1;
  const points = line.values.map((value, i) => (value == null ? null
    : `${(((line.times[i] - range.start) / (range.end - range.start)) * WIDTH).toFixed(1)},${(HEIGHT - 1 - (value / most) * (HEIGHT - 2)).toFixed(1)}`)).filter(Boolean);
  return html`<svg class="spark" width=${WIDTH} height=${HEIGHT} aria-hidden="true"><polyline points=${points.join(" ")} /></svg>`;
}
