// Containers and services: what they use, who suffers, who causes it.
import { html, useMemo } from "../lib/dom.js";
import { url } from "../lib/api.js";
import { show } from "../lib/format.js";
import { useData } from "../lib/load.js";
import { period, useRange } from "../lib/time.js";
import { change, href } from "../lib/url.js";
import { Name, nameOf } from "../parts/name.js";
import { Matrix } from "../parts/matrix.js";
import { Empty, Failed, Loading } from "../parts/states.js";
import { Spark, useSparks } from "../parts/spark.js";

const COLUMNS = [
  ["name", "Name", (row) => nameOf(row.container)],
  ["kind", "Kind", (row) => row.container.kind],
  ["cpu", "CPU", (row) => row.cpu_cores, "cores"],
  ["memory", "Memory", (row) => row.memory_bytes, "bytes"],
  ["wait", "Wait p99", (row) => row.wait_p99_seconds, "seconds", "how long its tasks wait for a CPU"],
  ["suffered", "Suffers", (row) => row.suffered_ratio, "ratio", "time waiting that is blamed on somebody, tasks together"],
  ["caused", "Causes", (row) => row.caused_ratio, "ratio", "time others waited while it ran"],
  ["throttled", "Throttled", (row) => row.throttled_ratio, "ratio", "time stopped by its own CPU limit"],
  ["disk", "Disk p99", (row) => row.block_p99_seconds, "seconds", "device latency of its requests"],
  ["events", "Events", (row) => row.events || null, "count"],
];

const hay = (row) => Object.values(row.container).flatMap((value) => (typeof value === "object" ? Object.values(value) : value)).join(" ").toLowerCase();

// Inner nodes of the cgroup tree have no numbers of their own.
const measured = (row) => COLUMNS.slice(2).some(([, , value]) => value(row));

function sorted(rows, name) {
  const value = (COLUMNS.find(([one]) => one === name) || COLUMNS[2])[2];
  const text = name === "name" || name === "kind";
  return [...rows].sort((a, b) => (text ? value(a).localeCompare(value(b)) : (value(b) ?? -1) - (value(a) ?? -1)) || nameOf(a.container).localeCompare(nameOf(b.container)));
}

// Below each parent in the cgroup tree; parents that have no row of their own are headings.
function treeOf(rows) {
  const known = new Map(rows.map((row) => [row.container.cgroup || nameOf(row.container), row]));
  const lines = new Map();
  for (const row of rows) {
    const path = (row.container.cgroup || nameOf(row.container)).split("/").filter(Boolean);
    path.forEach((part, depth) => {
      const here = `/${path.slice(0, depth + 1).join("/")}`;
      if (!lines.has(here)) lines.set(here, { path: here, depth, row: known.get(here), part });
    });
    if (!path.length) lines.set("/", { path: "/", depth: 0, row, part: "host" });
    else lines.get(`/${path.join("/")}`).row = row;
  }
  return [...lines.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

export function ContainersPage({ params }) {
  const range = useRange();
  const { data, error } = useData("containers", period(range));
  const blame = useData("contention", period(range));
  const sparks = useSparks("huatuo_cpu_sched_run_seconds_total", range);
  const find = (params.find || "").toLowerCase();
  const rows = useMemo(() => (data || []).filter((row) => (find ? hay(row).includes(find) : measured(row))), [data, find]);
  const tree = params.view === "tree";
  return html`<h1 class="quiet">Containers</h1>
    <div class="filters">
      <label class="search"><span class="hidden">Find a container</span><input type="search" id="search" placeholder="Find by name, image, namespace   /" value=${params.find || ""} onInput=${(event) => change({ find: event.target.value }, true)} /></label>
      <span class="toggle" role="group" aria-label="Order">
        <a href=${href("containers", { ...params, view: "" })} class=${tree ? "" : "on"}>by suffering</a>
        <a href=${href("containers", { ...params, view: "tree" })} class=${tree ? "on" : ""}>as tree</a></span>
      <span class="spread"></span>
      <span class="links"><a href=${url("containers", period(range))} target="_blank">JSON</a> <a href=${url("containers", { ...period(range), format: "csv" })}>CSV</a></span>
    </div>
    ${error ? html`<${Failed} error=${error} />` : !data ? html`<${Loading} />`
      : rows.length ? html`<${Table} rows=${rows} params=${params} tree=${tree} sparks=${sparks} range=${range} />`
        : html`<${Empty}>${find ? "No container matches." : "No containers or services are known on this node."}<//>`}
    <section><h2>Who waits for whom</h2>
      ${blame.error ? html`<${Failed} error=${blame.error} />` : !blame.data ? html`<${Loading} />`
        : blame.data.pairs.length ? html`<${Matrix} pairs=${blame.data.pairs} />` : html`<${Empty}>Nobody waited noticeably for anybody in this time range.<//>`}
    </section>`;
}

function Table({ rows, params, tree, sparks, range }) {
  const by = params.sort || "suffered";
  const head = ([name, title, , , help]) => html`<th key=${name} class=${name === "name" || name === "kind" ? "" : "num"} aria-sort=${!tree && by === name ? "descending" : undefined}>
    <a href=${href("containers", { ...params, sort: name, view: "" })} title=${help}>${title}${!tree && by === name ? " ↓" : ""}</a></th>`;
  const lines = tree ? treeOf(rows) : sorted(rows, by).map((row) => ({ row, depth: 0, path: row.container.cgroup + nameOf(row.container) }));
  return html`<div class="scroll"><table class="containers"><thead><tr>${COLUMNS.map(head)}</tr></thead>
    <tbody>${lines.map((line) => html`<${Line} key=${line.path} line=${line} sparks=${sparks} range=${range} />`)}</tbody></table></div>`;
}

function Line({ line, sparks, range }) {
  const { row, depth, part } = line;
  const indent = { paddingLeft: `${8 + depth * 16}px` };
  if (!row) return html`<tr class="heading"><td colspan=${COLUMNS.length} style=${indent}>${part}</td></tr>`;
  const { container } = row;
  const more = [container.image, container.namespace, container.workload, container.type !== "normal" && container.type].filter(Boolean).join(" · ");
  return html`<tr>
    <td style=${indent}><${Name} of=${nameOf(container)} brief=${depth > 0} />${container.gone && html` <span class="dim">gone</span>`}
      ${more && html`<div class="dim small">${more}</div>`}</td>
    <td class="dim">${container.kind}</td>
    ${COLUMNS.slice(2).map(([name, , value, unit]) => html`<td class="num" key=${name}>
      ${name === "cpu" && sparks && html`<${Spark} line=${sparks.get(nameOf(container))} range=${range} />`}
      ${name === "events" && value(row) ? html`<a href=${href("events", { container: nameOf(container) })}>${value(row)}</a>` : show(value(row), unit)}</td>`)}
  </tr>`;
}
