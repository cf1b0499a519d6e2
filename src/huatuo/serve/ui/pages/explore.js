// Any stored metric: pick, split by label, heatmap or lines, take it elsewhere.
import { html, useState } from "../lib/dom.js";
import { url } from "../lib/api.js";
import { short, show } from "../lib/format.js";
import { useData } from "../lib/load.js";
import { period, useRange } from "../lib/time.js";
import { change, current, href } from "../lib/url.js";
import { Chart, queryOf } from "../parts/chart.js";
import { Empty, Failed, Loading } from "../parts/states.js";

const FORMS = { histogram: ["heatmap", "quantiles", "rate"], counter: ["rate", "raw"], gauge: ["raw"] };
const NAMES = { heatmap: "heatmap", quantiles: "p50 · p99 · max", rate: "per second", raw: "as stored" };

export function ExplorePage({ params }) {
  const { data, error } = useData("metrics");
  const family = data && data.find((one) => one.name === params.name);
  return html`<h1 class="quiet">Explore</h1>
    ${error ? html`<${Failed} error=${error} />` : !data ? html`<${Loading} />` : html`<div class="explore">
      <${Picker} families=${data} chosen=${params.name} find=${params.find || ""} />
      <div>${family ? html`<${Family} family=${family} params=${params} />`
        : html`<${Empty}>${params.name ? html`<b>${params.name}</b> is not stored on this node.` : data.length ? "Pick a metric from the list." : "No metric has been stored yet."}<//>`}</div>
    </div>`}`;
}

function Picker({ families, chosen, find }) {
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  const found = families.filter((one) => words.every((word) => `${one.name} ${one.help}`.toLowerCase().includes(word)));
  return html`<nav class="picker" aria-label="Metrics">
    <label class="search"><span class="hidden">Find a metric</span><input type="search" id="search" placeholder="Find a metric   /" value=${find} onInput=${(event) => change({ find: event.target.value }, true)} /></label>
    <ul>${found.map((one) => html`<li key=${one.name}><a class=${one.name === chosen ? "on" : ""} aria-current=${one.name === chosen ? "true" : undefined} href=${href("explore", { name: one.name, find })} title=${one.help}>${short(one.name)}</a></li>`)}</ul>
    ${!found.length && html`<${Empty}>No metric matches.<//>`}
  </nav>`;
}

function Family({ family, params }) {
  const range = useRange();
  const forms = FORMS[family.kind] || ["raw"];
  const form = forms.includes(params.as) ? params.as : forms[0];
  const by = (params.by || "").split(",").filter((name) => family.labels.includes(name));
  const labels = Object.fromEntries(Object.entries(params).filter(([name]) => name.startsWith("label.")).map(([name, value]) => [name.slice(6), value]));
  const split = form === "heatmap" ? [] : by;
  const chart = { title: family.name, note: family.help, metric: family.name, as: form, labels, by: split.length ? split.join(",") : "none", top: 12, height: form === "heatmap" ? 260 : 260 };
  const set = (more) => href("explore", { ...current().params, ...more });
  return html`
    <div class="filters">
      <span class="toggle" role="group" aria-label="Shown as">${forms.map((one) => html`<a key=${one} class=${one === form ? "on" : ""} href=${set({ as: one })}>${NAMES[one]}</a>`)}</span>
      ${form !== "heatmap" && family.labels.length > 0 && html`<span class="toggle" role="group" aria-label="Split by">
        <a class=${split.length ? "" : "on"} href=${set({ by: "" })}>all together</a>
        ${family.labels.map((name) => html`<a key=${name} class=${by.includes(name) ? "on" : ""} href=${set({ by: (by.includes(name) ? by.filter((one) => one !== name) : [...by, name]).join(",") })}>by ${name}</a>`)}</span>`}
      ${Object.entries(labels).map(([name, value]) => html`<a class="chip" key=${name} href=${set({ [`label.${name}`]: "" })} title="Remove this filter">${name}: <b>${value}</b> ✕</a>`)}
    </div>
    <${Chart} chart=${chart} axis=${true} />
    <${Values} family=${family} labels=${labels} set=${set} />
    <${Take} family=${family} form=${form} by=${split} labels=${labels} query=${{ ...queryOf(chart), ...period(range) }} />`;
}

// The newest value per label set, as a table; a value narrows down.
function Values({ family, labels, set }) {
  const range = useRange();
  const filter = Object.fromEntries(Object.entries(labels).map(([name, value]) => [`label.${name}`, value]));
  const { data } = useData("metrics/query", { name: family.name, by: "*", top: 30, points: 20, ...filter, ...period(range) });
  if (!data || !family.labels.length || !data.series.length) return null;
  const last = (values) => (values || []).findLast((value) => value != null);
  const columns = data.as === "quantiles" ? ["p50", "p99", "max"] : ["values"];
  return html`<div class="scroll"><table><caption class="dim">Largest series${data.dropped > 0 && `, ${data.dropped} more`}. Choose a value to narrow down.</caption>
    <thead><tr>${family.labels.map((name) => html`<th key=${name}>${name}</th>`)}${columns.map((name) => html`<th class="num" key=${name}>${name === "values" ? "now" : name}</th>`)}</tr></thead>
    <tbody>${data.series.map((series) => html`<tr key=${JSON.stringify(series.labels)}>
      ${family.labels.map((name) => html`<td key=${name}><a href=${set({ [`label.${name}`]: series.labels[name] })}>${series.labels[name] || html`<span class="dim">(none)</span>`}</a></td>`)}
      ${columns.map((name) => html`<td class="num" key=${name}>${show(last(series[name]), data.unit)}</td>`)}</tr>`)}</tbody></table></div>`;
}

function promql({ family, form, by, labels }) {
  const inside = Object.entries(labels).map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(",");
  const of = (suffix) => `${family.name}${suffix}${inside && `{${inside}}`}`;
  const sum = (more, text) => (more.length ? `sum by (${more.join(", ")}) (${text})` : `sum(${text})`);
  if (form === "heatmap") return sum(["le"], `rate(${of("_bucket")}[5m])`);
  if (form === "quantiles") return `histogram_quantile(0.99, ${sum(["le", ...by], `rate(${of("_bucket")}[5m])`)})`;
  if (form === "rate") return sum(by, `rate(${of(family.kind === "histogram" ? "_count" : "")}[5m])`);
  return sum(by, of(family.kind === "histogram" ? "_count" : ""));
}

function Take(props) {
  const [copied, set] = useState("");
  const text = promql(props);
  const copy = (what, value) => navigator.clipboard.writeText(value).then(() => { set(what); setTimeout(() => set(""), 1500); }, () => set(""));
  const json = new URL(url("metrics/query", props.query), location.href).href;
  return html`<p class="take"><code>${text}</code>${" "}
    <button type="button" onClick=${() => copy("promql", text)}>${copied === "promql" ? "copied" : "Copy PromQL"}</button>${" "}
    <button type="button" onClick=${() => copy("json", json)}>${copied === "json" ? "copied" : "Copy JSON address"}</button></p>`;
}
