// What runs in a container now: runtimes and ports in a line, its processes as a tree.
import { html, useState } from "../lib/dom.js";
import { url } from "../lib/api.js";
import { ago, duration, show } from "../lib/format.js";
import { useData } from "../lib/load.js";
import { Empty, Failed, Loading } from "./states.js";

const RENEW_SECONDS = 10;
const FIRST = 12; // processes, unless one asks for all

export const useApplication = (name, range, lives) => useData(lives ? "containers/application" : "", { name }, Math.floor(range.end / RENEW_SECONDS));

const distinct = (values) => [...new Set(values.filter(Boolean))];
const portText = ({ protocol, address, port }) => `${address.includes(":") ? `[${address}]` : address}:${port}/${protocol}`;

// What an operator asks first: what is it, and where does it listen.
export function Runs({ application }) {
  const { processes, ports } = application;
  if (!processes.length) return null;
  const runtimes = distinct(processes.map((one) => one.runtime));
  const everywhere = ({ address }) => address === "0.0.0.0" || address === "::";
  const short = distinct(ports.map((one) => (everywhere(one) ? `:${one.port}/${one.protocol}` : portText(one))));
  return html`<div><dt>Runs</dt><dd>${runtimes.join(", ") || "native"} <button type="button" class="as-link" onClick=${() => document.getElementById("title-processes").scrollIntoView()}>${processes.length === 1 ? "1 process" : `${processes.length} processes`}</button></dd></div>
    <div><dt>Listens on</dt><dd>${short.length ? short.slice(0, 6).join(", ") : html`<span class="dim">nothing</span>`}${short.length > 6 && html` <span class="dim small">and ${short.length - 6} more</span>`}</dd></div>`;
}

export function Processes({ answer, name }) {
  const { data, error } = answer;
  const [all, showAll] = useState(false);
  return html`<section aria-labelledby="title-processes"><h2 id="title-processes">Processes <a class="more" href=${url("containers/application", { name })} target="_blank">JSON</a> <a class="more" href=${url("containers/application", { name, format: "csv" })}>CSV</a></h2>
    ${error ? (error.status === 404 ? html`<${Empty}>It does not run any more.<//>` : html`<${Failed} error=${error} />`) : !data ? html`<${Loading} />`
      : data.processes.length ? html`<${Tree} processes=${all ? data.processes : data.processes.slice(0, FIRST)} ports=${data.ports} />
        ${data.processes.length > FIRST && html`<button type="button" class="as-link" onClick=${() => showAll(!all)}>${all ? "fewer" : `all ${data.processes.length}`}</button>`}`
        : html`<${Empty}>No process is in it.<//>`}
    ${data && data.notes.map((note) => html`<p class="dim small" key=${note}>${note}</p>`)}</section>`;
}

function Tree({ processes, ports }) {
  const depths = new Map();
  for (const one of processes) depths.set(one.pid, one.parent && depths.has(one.parent) ? depths.get(one.parent) + 1 : 0);
  return html`<div class="scroll"><table class="processes">
    <thead><tr><th>Process</th><th class="num">PID</th><th>Runtime</th><th>Listens on</th><th class="num">CPU time</th><th class="num">Memory</th><th class="num">Threads</th><th>Started</th><th>Command</th></tr></thead>
    <tbody>${processes.map((one) => html`<tr key=${one.pid}>
      <td style=${{ paddingLeft: `${10 + Math.min(depths.get(one.pid), 12) * 14}px` }}>${one.comm}</td>
      <td class="num dim" title=${one.local_pid ? `${one.local_pid} in the container` : ""}>${one.pid}</td>
      <td class="kind">${one.runtime}</td>
      <td class="kind">${ports.filter((port) => port.pid === one.pid).map(portText).join(" ")}</td>
      <td class="num">${show(one.cpu_seconds || 0, "seconds")}</td><td class="num">${show(one.memory_bytes || 0, "bytes")}</td><td class="num kind">${one.threads || 1}</td>
      <td class="dim kind" title=${one.started}>${one.started && ago(Date.parse(one.started) / 1000)}</td>
      <td class="command">${one.command || html`<span class="dim">thread of the kernel</span>`}<${Variables} of=${one.environment} /></td></tr>`)}</tbody></table></div>`;
}

const Variables = ({ of }) => of && Object.entries(of).map(([name, value]) => html`<div class="dim" key=${name}>${name}=${value}</div>`);

// The same of an event's process, as it was then.
export function ApplicationFacts({ of, time }) {
  const { command, runtime, unit, started, ancestors = [], environment } = of;
  return html`${command && html`<dt>command</dt><dd class="code">${command}</dd>`}
    ${(runtime || unit) && html`<dt>runs</dt><dd>${[runtime, unit].filter(Boolean).join(" · ")}</dd>`}
    ${started && html`<dt>started</dt><dd title=${started}>${duration(Math.max(time - Date.parse(started) / 1000, 0))} before</dd>`}
    ${ancestors.length > 0 && html`<dt>started by</dt><dd><ol class="ancestors">${ancestors.map((one) => html`<li key=${one.pid} title=${one.command}>${one.comm} <span class="dim">${one.pid} ${one.command}</span></li>`)}</ol></dd>`}
    ${environment && html`<dt>variables</dt><dd class="code"><${Variables} of=${environment} /></dd>`}`;
}
