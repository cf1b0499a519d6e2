// A titled panel of one metric: fetches it, shows it as heatmap or lines, links to its data.
import { html, useContext, useEffect, useRef, useState } from "../lib/dom.js";
import { url } from "../lib/api.js";
import { useSeries } from "../lib/series.js";
import { iso, period, useRange } from "../lib/time.js";
import { go, href } from "../lib/url.js";
import { Heatmap } from "./heatmap.js";
import { Lines } from "./lines.js";
import { Empty, Failed, Loading, Unavailable } from "./states.js";
import { Probes } from "./probes.js";
import { ToProfile } from "./toprofile.js";

export function queryOf(chart) {
  const labels = Object.fromEntries(Object.entries(chart.labels || {}).map(([name, value]) => [`label.${name}`, value]));
  return {
    name: chart.metric, as: chart.as || "auto", by: chart.by, top: chart.top,
    points: chart.as === "heatmap" ? 240 : 300, ...labels,
  };
}

// Only what is in sight, or nearly, is read again and again.
function useShown(place) {
  const [shown, set] = useState(false);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => set(entries.at(-1).isIntersecting), { rootMargin: "300px" });
    observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  return shown;
}

const empty = (data) => !data.times.length || !data.series.length
  || (data.as === "heatmap" && !data.series.some((series) => series.slots.some((row) => row && row.some(Boolean))));

export function Chart({ chart, axis }) {
  const range = useRange();
  const { probes, metrics } = useContext(Probes);
  const place = useRef();
  const shown = useShown(place);
  const last = useRef(null);
  if (shown) last.current = range;
  const there = metrics && metrics.has(chart.metric);
  const { answer: data, error } = useSeries(there && last.current ? queryOf(chart) : null, last.current || range);
  const query = { ...queryOf(chart), ...period(range) };
  const pick = (from, to = from) => {
    const room = Math.max(5, (to - from) / 2);
    go("events", { from: iso(from - room), to: iso(to + room), probe: chart.events, container: chart.container });
  };
  let body = html`<${Loading} />`;
  if (metrics && !there) body = html`<${Unavailable} metric=${chart.metric} probes=${probes} />`;
  else if (error) body = html`<${Failed} error=${error} />`;
  else if (data && empty(data)) body = html`<${Empty}>${chart.empty || "Nothing recorded in this time range."}<//>`;
  else if (data && data.as === "heatmap") {
    body = html`<${Heatmap} answer=${data} range=${range} title=${chart.title} axis=${axis} onPick=${pick} height=${chart.height} />`;
  } else if (data) {
    body = html`<${Lines} answer=${data} range=${range} title=${chart.title} unit=${chart.unit} axis=${axis} onPick=${pick} height=${chart.height} link=${chart.link} />`;
  }
  return html`<figure class="chart" ref=${place}>
    <figcaption><b>${chart.title}</b>${chart.note && html` <span>${chart.note}</span>`}
      ${there && html`<${Links} chart=${chart} query=${query} />`}</figcaption>
    ${body}
  </figure>`;
}

function Links({ chart, query }) {
  const explore = href("explore", { name: chart.metric, as: chart.as, by: chart.by, top: chart.top,
    ...Object.fromEntries(Object.entries(query).filter(([name]) => name.startsWith("label."))) });
  return html`<span class="links">
    ${chart.profile && html`<${ToProfile} type=${chart.profile} container=${chart.container} /> `}<a href=${explore}>explore</a> <a href=${url("metrics/query", query)} target="_blank">JSON</a>${" "}
    <a href=${url("metrics/query", { ...query, format: "csv" })}>CSV</a></span>`;
}

