// Incidents: what triggers fired for; one of them in full; a capture by hand.
import { html, useState } from "../lib/dom.js";
import { post, save, url } from "../lib/api.js";
import { ago, moment, percent, shortName } from "../lib/format.js";
import { useData } from "../lib/load.js";
import { iso, period, useRange } from "../lib/time.js";
import { current, href } from "../lib/url.js";
import { Empty, Failed, Loading } from "../parts/states.js";
import { Strip } from "../parts/strip.js";

const BUCKETS = 240;
const PLANS = ["cpu", "io", "memory", "network", "tasks"];
const BADGES = { running: "running", queued: "running", failed: "failed", refused: "warn" };
const timeOf = (one) => one.time_ns / 1e9;
const whom = (one) => (one.target ? shortName(one.target) : "host");
// What is about a container can be asked for by name.
const isContainer = (one) => one.target && ["container", "victim"].includes(one.per);

export function IncidentsPage({ params }) {
  const range = useRange();
  const [asked, ask] = useState(0);
  const again = Math.floor(range.end / 5) + asked;
  const { data, error } = useData("incidents", { ...period(range), limit: 200 }, again);
  const chosen = useData(params.id ? `incidents/${params.id}` : "", {}, again);
  return html`<div class="filters"><h1 class="quiet">Incidents</h1><span class="spread"></span><${CaptureForm} done=${() => ask(asked + 1)} /></div>
    ${data && data.length > 0 && html`<${Times} all=${data} range=${range} />`}
    <div class="incidents ${params.id ? "with-record" : ""}">
      <div class="list">${error ? html`<${Failed} error=${error} />` : !data ? html`<${Loading} />` : data.length
        ? html`<${Table} all=${data} selected=${Number(params.id)} />`
        : html`<${Empty}>No trigger fired in this time. <code>huatuo triggers list</code> shows what is looked for.<//>`}</div>
      ${params.id && html`<div class="side">${chosen.error ? html`<${Failed} error=${chosen.error} />` : chosen.data
        ? html`<${Incident} one=${chosen.data} />` : html`<${Loading} />`}</div>`}
    </div>
    <p class="links"><a href=${url("incidents", period(range))} target="_blank">JSON</a> <a href=${url("incidents", { ...period(range), format: "csv" })}>CSV</a></p>`;
}

function CaptureForm({ done }) {
  const [state, set] = useState("");
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    post("captures/start", { plan: form.get("plan"), container: form.get("container") }).then(
      (job) => { set(job.status === "refused" ? `refused: ${job.reason}` : `capture ${job.id} ${job.status}`); done(); },
      (error) => set(`${error.message} ${error.hint}`),
    );
  };
  return html`<form class="capture" onSubmit=${submit} aria-label="Capture now">
    <label><span class="hidden">Plan</span><select name="plan">${PLANS.map((plan) => html`<option key=${plan}>${plan}</option>`)}</select></label>
    <label><span class="hidden">Container</span><input name="container" placeholder="whole host, or a container" /></label>
    <button type="submit">Capture now</button> <span role="status" class="dim small">${state}</span></form>`;
}

function Times({ all, range }) {
  const step = (range.end - range.start) / BUCKETS;
  const counts = {};
  for (const one of all) {
    const at = Math.floor((timeOf(one) - range.start) / step);
    if (at < 0 || at >= BUCKETS) continue;
    counts[one.trigger] = counts[one.trigger] || new Array(BUCKETS).fill(0);
    counts[one.trigger][at] += 1;
  }
  const data = { start: range.start, end: range.end, times: Array.from({ length: BUCKETS }, (_, i) => range.start + i * step), counts };
  return html`<section class="strip" aria-label="Incidents over time"><${Strip} data=${data} range=${range} axis=${true} what="incidents" onPick=${null} /></section>`;
}

function Table({ all, selected }) {
  return html`<div class="scroll"><table class="incident-list"><thead><tr><th>Time</th><th>Trigger</th><th>Target</th><th>Capture</th><th>Why</th></tr></thead>
    <tbody>${all.map((one) => html`<tr key=${one.id} class=${one.id === selected ? "selected" : ""}>
      <td class="num" title=${one.time}>${ago(timeOf(one))}</td>
      <td><a href=${href("incidents", { ...current().params, id: one.id })}>${one.trigger}</a></td>
      <td title=${one.target}>${isContainer(one) ? html`<a href=${href("container", { name: one.target, ...around(one) })}>${whom(one)}</a>` : whom(one)}</td>
      <td>${one.capture && html`<${State} job=${one.capture} />`}</td>
      <td class="title">${one.facts[0] || one.when}</td></tr>`)}</tbody></table></div>`;
}

const State = ({ job }) => html`<span class="badge ${BADGES[job.status] || ""}" title=${job.reason}>${job.plan}: ${job.status}</span>`;

const around = (one) => ({ from: iso(one.start_ns / 1e9), to: iso(Math.max(one.end_ns, one.start_ns + 6e10) / 1e9) });

function Incident({ one }) {
  const place = isContainer(one) ? { q: `{container="${one.target}"}` } : {};
  const jobs = one.capture ? Object.entries(one.capture.profiles) : [];
  return html`<article class="record" aria-label="Incident ${one.id}">
    <header><h2>${one.trigger}: ${whom(one)}</h2><a class="close" href=${href("incidents", { ...current().params, id: "" })} aria-label="Close">✕</a></header>
    <p>${one.summary || "Evidence is being gathered."}</p>
    <p class="links"><a href=${url(`incidents/${one.id}/report`)} onClick=${save}>as one HTML file</a>
      <a href=${href("profiles", { ...place, ...around(one), base: "previous" })}>the profile of these minutes</a>
      <a href=${href("node", around(one))}>the node</a>
      ${one.files.map((name) => html`<a key=${name} href=${url(`incidents/${one.id}/files/${name}`)} onClick=${save}>${name}</a>`)}
      <a href=${url(`incidents/${one.id}`)} target="_blank">JSON</a></p>
    <dl><dt>time</dt><dd>${moment(timeOf(one))}</dd>
      ${one.facts.map((fact) => html`<dt key=${fact}>because</dt><dd class="code">${fact}</dd>`)}
      ${one.suspects.length > 0 && html`<dt>suspected</dt><dd>${one.suspects.map((s) => shortName(s.name)).join(", ")}</dd>`}
      ${one.capture && html`<dt>capture</dt><dd><${State} job=${one.capture} /> ${one.capture.reason}</dd>`}</dl>
    <${Functions} title=${one.before_note ? "CPU time" : "CPU time that grew against the hour before"} found=${one.before} note=${one.before_note} />
    ${jobs.map(([type, found]) => html`<${Functions} key=${type} title=${`Captured: ${type}`} found=${found} />`)}
    ${one.capture && one.capture.tasks.length > 0 && html`<h3>In uninterruptible sleep</h3><ul>${one.capture.tasks.map((task) => html`<li key=${task.tid}>${task.comm} <span class="dim">${task.tid} ${task.stack.slice(0, 4).join(" < ")}</span></li>`)}</ul>`}
    ${one.events.length > 0 && html`<h3>Events</h3><ul class="plain-list">${one.events.slice(0, 10).map((event) => html`<li key=${event.id}><a href=${href("events", { id: event.id, ...around(one) })}>${event.title}</a></li>`)}</ul>
      ${one.events_total > 10 && html`<p class="dim small">${one.events_total} in all</p>`}`}
  </article>`;
}

function Functions({ title, found, note }) {
  if (!found.length) return null;
  return html`<h3>${title}</h3>${note && html`<p class="dim small">${note}</p>`}
    <div class="scroll"><table class="plain"><thead><tr><th class="num">self</th><th class="num">before</th><th>function</th></tr></thead>
    <tbody>${found.slice(0, 10).map((f) => html`<tr key=${f.mapping + f.function}><td class="num">${percent(f.own_ratio)}</td><td class="num">${percent(f.base_ratio)}</td>
      <td class="fn" title=${f.mapping}>${f.function}</td></tr>`)}</tbody></table></div>`;
}
