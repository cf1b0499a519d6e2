// One container, all of it: what it is and may use, what happened to it, who hurts it and whom it
// hurts, where its time goes, the same rows as the node, what runs in it.
import { html, useContext } from "../lib/dom.js";
import { duration, shortName, show } from "../lib/format.js";
import { useData } from "../lib/load.js";
import { period, useRange } from "../lib/time.js";
import { href } from "../lib/url.js";
import { Name } from "../parts/name.js";
import { Processes, Runs, useApplication } from "../parts/application.js";
import { Chart } from "../parts/chart.js";
import { IncidentsOf } from "../parts/incidents.js";
import { later } from "../parts/later.js";
import { Probes } from "../parts/probes.js";
import { Empty, Failed, Loading } from "../parts/states.js";
import { rowsOf } from "../parts/subsystems.js";
import { ToProfile } from "../parts/toprofile.js";
import { EventStrip, Newest } from "./node.js";

const SmallProfile = later(() => import("../parts/smallprofile.js"), "SmallProfile");

export function ContainerPage({ params }) {
  const range = useRange();
  const { probes } = useContext(Probes);
  const name = params.name || "";
  const { data, error } = useData("containers", { ...period(range), name });
  const blame = useData("contention", period(range));
  const row = data && data[0];
  const lives = Boolean(row && row.container.cgroup && row.container.kind !== "host" && !row.container.gone);
  const application = useApplication(name, range, lives);
  return html`<p class="crumbs"><a href=${href("containers")}>Containers</a> ›</p>
    <div class="filters"><h1 title=${name}>${shortName(name)}</h1> <${ToProfile} container=${name} /></div>
    ${error ? html`<${Failed} error=${error} />` : !data ? html`<${Loading} />`
      : row ? html`<${About} row=${row} application=${application.data} />` : html`<${Empty}>No container of this name is known; it may be gone. What was stored of it stands below.<//>`}
    <${IncidentsOf} container=${name} range=${range} />
    <${EventStrip} container=${name} />
    <${Newest} container=${name} most=${6} />
    <${Neighbours} name=${name} blame=${blame} />
    ${probes.some((probe) => probe.name.startsWith("profile.")) && html`<section class="row" aria-labelledby="title-profile"><div><${SmallProfile} key=${name} container=${name} range=${range} /></div></section>`}
    ${rowsOf(name).map((one) => html`<section class="row" key=${one.name} aria-labelledby="title-${one.name}">
      <header><h2 id="title-${one.name}">${one.title}</h2></header>
      <div class="charts">${one.charts.map((chart, i) => html`<${Chart} key=${chart.metric} chart=${chart} axis=${i === one.charts.length - 1} />`)}</div>
    </section>`)}
    ${lives && html`<${Processes} answer=${application} name=${name} />`}`;
}

const FACTS = [
  ["wait_p99_seconds", "Wait p99", "seconds"], ["suffered_ratio", "Suffers", "ratio"], ["caused_ratio", "Causes", "ratio"],
  ["throttled_ratio", "Throttled", "ratio"], ["block_p99_seconds", "Disk p99", "seconds"], ["events", "Events", "count"],
];

function About({ row, application }) {
  const { container } = row;
  const words = [container.kind, container.image, container.workload, container.qos, container.type !== "normal" && container.type, container.node, container.runtime,
    container.started && `since ${container.started.slice(0, 19)}Z`, ...Object.entries(container.labels || {}).map((pair) => pair.join("=")), container.cgroup].filter(Boolean);
  return html`<p class="dim about">${words.join(" · ")}${container.gone && html` · <b>gone since ${container.gone}</b>`}</p>
    <dl class="facts"><${Used} title="CPU" value=${row.cpu_cores} limit=${container.cpu_limit} unit="cores" />
      <${Used} title="Memory" value=${row.memory_bytes} limit=${container.memory_limit_bytes} unit="bytes" />
      ${FACTS.map(([field, title, unit]) => html`<div key=${field}><dt>${title}</dt><dd>${show(row[field], unit)}</dd></div>`)}
      ${application && html`<${Runs} application=${application} />`}</dl>`;
}

// What it uses of what it may.
function Used({ title, value, limit, unit }) {
  const share = limit ? Math.min((value || 0) / limit, 1) : 0;
  return html`<div><dt>${title}</dt><dd>${show(value, unit)} <span class="dim small">${limit ? `of ${show(limit, unit)}` : "no limit"}</span></dd>
    ${limit > 0 && html`<div class="track" role="img" aria-label="${Math.round(share * 100)} % of its limit"><i class=${share > 0.9 ? "bad" : ""} style=${{ width: `${share * 100}%` }}></i></div>`}</div>`;
}

function Neighbours({ name, blame }) {
  if (!blame.data) return blame.error ? html`<${Failed} error=${blame.error} />` : html`<${Loading} />`;
  const hurtBy = blame.data.pairs.filter((pair) => pair.victim === name);
  const hurts = blame.data.pairs.filter((pair) => pair.culprit === name && pair.victim !== name);
  return html`<section class="two"><${Side} title="Waits for a CPU because of" pairs=${hurtBy} other="culprit" name=${name} seconds=${blame.data.seconds} />
    <${Side} title="Makes wait for a CPU" pairs=${hurts} other="victim" name=${name} seconds=${blame.data.seconds} /></section>`;
}

function Side({ title, pairs, other, name, seconds }) {
  const all = pairs.reduce((sum, pair) => sum + pair.seconds, 0);
  return html`<div><h2>${title}</h2>
    ${pairs.length ? html`<table class="bars"><tbody>${pairs.slice(0, 6).map((pair) => html`<tr key=${pair[other]}>
      <th scope="row">${pair[other] === name ? "itself" : html`<${Name} of=${pair[other]} />`}</th>
      <td class="num">${Math.round((pair.seconds / all) * 100)} %</td><td class="num">${duration(pair.seconds)}</td>
      <td class="bar"><i style=${{ width: `${(pair.seconds / all) * 100}%` }}></i></td></tr>`)}</tbody></table>
      <p class="dim small">${duration(all)} in ${duration(seconds)}</p>` : html`<${Empty}>Nobody.<//>`}</div>`;
}
