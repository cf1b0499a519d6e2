// What is watched, at which cost; what is not, and why; what the governor did.
import { html } from "../lib/dom.js";
import { url } from "../lib/api.js";
import { ago, bytes, count, percent } from "../lib/format.js";
import { useData } from "../lib/load.js";
import { useRange } from "../lib/time.js";
import { href } from "../lib/url.js";
import { Empty, Failed, Loading } from "../parts/states.js";
import { Strip } from "../parts/strip.js";

const ORDER = ["failed", "shed", "running", "unavailable", "off"];
const WORDS = { running: "running", unavailable: "not available", off: "off", shed: "paused", failed: "failed" };
const ACTS = { shed: "paused", restore: "resumed", slower: "slowed", faster: "sped up" };
const MOST = 200; // decisions in full
const BUCKETS = 240;
const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
const reasons = (counts) => Object.entries(counts).filter(([, n]) => n).map(([why, n]) => `${n} ${why}`).join(", ");

export function ProbesPage({ params }) {
  const range = useRange();
  const again = Math.floor(range.end / 10);
  const { data, error } = useData("probes", {}, again);
  const health = useData("health", {}, again);
  const decisions = useData("decisions", {}, again);
  const rows = data && [...data].sort((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status) || a.name.localeCompare(b.name));
  return html`<h1 class="quiet">Probes</h1>
    ${health.data && html`<${Budget} health=${health.data} probes=${data || []} />`}
    ${error ? html`<${Failed} error=${error} />` : !rows ? html`<${Loading} />` : html`<${Table} rows=${rows} chosen=${params.probe} budget=${(health.data || {}).cpu_budget_ratio} />`}
    <p class="links"><a href=${url("probes")} target="_blank">JSON</a> <a href=${url("probes", { format: "csv" })}>CSV</a></p>
    <section><h2>What the governor did</h2>
      ${decisions.error ? html`<${Failed} error=${decisions.error} />` : !decisions.data ? html`<${Loading} />` : decisions.data.length
        ? html`<${Decisions} all=${decisions.data} range=${range} />`
        : html`<${Empty}>Nothing: all probes together stay within the budget.<//>`}</section>`;
}

const timeOf = (decision) => Date.parse(decision.time) / 1000;

function Decisions({ all, range }) {
  const step = (range.end - range.start) / BUCKETS;
  const counts = {};
  for (const one of all) {
    const at = Math.floor((timeOf(one) - range.start) / step);
    if (at < 0 || at >= BUCKETS) continue;
    const act = ACTS[one.action] || one.action;
    counts[act] = counts[act] || new Array(BUCKETS).fill(0);
    counts[act][at] += 1;
  }
  const data = { start: range.start, end: range.end, times: Array.from({ length: BUCKETS }, (_, i) => range.start + i * step), counts };
  return html`${Object.keys(counts).length > 0 && html`<${Strip} data=${data} range=${range} axis=${true} what="decisions" onPick=${null} />`}
    <ol class="decisions">${all.slice(0, MOST).map((one) => html`<li key=${one.time + one.probe + one.action}><time datetime=${one.time} title=${one.time}>${ago(timeOf(one))}</time>
      <span><b>${ACTS[one.action] || one.action}</b> <a href=${href("probes", { probe: one.probe })}>${one.probe}</a>: ${one.reason}</span></li>`)}</ol>
    ${all.length > MOST && html`<p class="dim small">${all.length - MOST} more: <a href=${url("decisions")} target="_blank">JSON</a></p>`}`;
}

// Where the records of a probe are to be seen.
function recordsOf(probe) {
  if (!probe.produced) return "–";
  const to = probe.kind.includes("profiles") ? href("profiles", { type: probe.name.replace("profile.", "") }) : href("events", { probe: probe.name });
  return html`<a href=${to}>${count(probe.delivered)}</a>`;
}

function Budget({ health, probes }) {
  const kernel = probes.reduce((all, probe) => all + probe.cpu_ratio, 0);
  const meter = (title, value, limit, text) => html`<div class="meter"><span>${title}</span>
    <div class="track" role="meter" aria-label=${title} aria-valuenow=${value} aria-valuemin="0" aria-valuemax=${limit}><i class=${value > limit ? "bad" : ""} style=${{ width: `${Math.min(100, (value / limit) * 100)}%` }}></i></div>
    <span>${text}</span></div>`;
  return html`<section class="budget" aria-label="What the agent costs">
    ${meter("Agent CPU", health.cpu_ratio, health.cpu_budget_ratio, `${percent(health.cpu_ratio)} of the machine, allowed ${percent(health.cpu_budget_ratio)}`)}
    ${meter("In the kernel", kernel, health.cpu_budget_ratio, `${percent(kernel)} of the machine for all probes`)}
    ${meter("Memory", health.memory_bytes, health.memory_budget_bytes, `${bytes(health.memory_bytes)}, allowed ${bytes(health.memory_budget_bytes)}`)}
    ${health.problems.map((text) => html`<p class="wrong" key=${text}>${text}</p>`)}
    <p class="dim small">huatuo ${health.version} · kernel ${health.kernel} · started ${ago(Date.parse(health.started) / 1000)}</p>
  </section>`;
}

function Table({ rows, chosen, budget }) {
  return html`<div class="scroll"><table class="probes"><thead><tr><th>Probe</th><th>State</th><th class="num">Runs</th><th class="num">Per run</th><th class="num">CPU</th><th class="num">Of budget</th><th class="num" title="events or samples that arrived">Records</th><th class="num">Suppressed</th><th class="num">Lost</th></tr></thead>
    <tbody>${rows.map((probe) => html`<tr key=${probe.name} class=${probe.name === chosen ? "selected" : ""}>
      <td><b>${probe.name}</b><div class="small">${probe.summary}</div>
        ${probe.hooks.length > 0 && html`<div class="small dim">${probe.hooks.join(", ")}</div>`}
        ${probe.notes.map((note) => html`<div class="small dim" key=${note}>note: ${note}</div>`)}</td>
      <td><span class="badge ${probe.status}">${WORDS[probe.status] || probe.status}</span>
        ${probe.pace_ratio < 1 && html`<div class="small warn">slowed down to ${percent(probe.pace_ratio)} of its rate</div>`}${probe.reason && html`<div class="small reason">${probe.reason}</div>`}</td>
      <td class="num">${probe.hits_per_second ? `${count(probe.hits_per_second)}/s` : "–"}</td>
      <td class="num">${probe.ns_per_hit ? `${Math.round(probe.ns_per_hit)} ns` : "–"}</td>
      <td class="num">${probe.cpu_ratio ? percent(probe.cpu_ratio) : "–"}</td>
      <td class="num">${probe.cpu_ratio && budget ? percent(probe.cpu_ratio / budget) : "–"}</td>
      <td class="num">${recordsOf(probe)}</td>
      <td class="num" title=${reasons(probe.suppressed)}>${count(sum(probe.suppressed)) || "–"}</td>
      <td class="num ${sum(probe.lost) ? "wrong" : ""}" title=${reasons(probe.lost)}>${count(sum(probe.lost))}${sum(probe.lost) > 0 && html`<div class="small">${reasons(probe.lost)}</div>`}</td>
    </tr>`)}</tbody></table></div>`;
}
