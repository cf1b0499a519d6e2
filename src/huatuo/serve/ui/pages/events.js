// Events: live stream and history, facets, histogram over time, one record in full.
import { html, useMemo, useRef } from "../lib/dom.js";
import { url } from "../lib/api.js";
import { shortName } from "../lib/format.js";
import { useEvents } from "../lib/events.js";
import { useData } from "../lib/load.js";
import { period, useRange } from "../lib/time.js";
import { change, current, href } from "../lib/url.js";
import { EventTable, Record } from "../parts/events.js";
import { Empty, Failed, Loading } from "../parts/states.js";
import { Strip } from "../parts/strip.js";

const FACETS = { probe: "Probe", kind: "Kind", container: "Container", "process.comm": "Process", device: "Device", reason: "Reason" };
const DIRECT = ["probe", "kind", "container"];
const nameOf = (facet) => (DIRECT.includes(facet) ? facet : `field.${facet}`);

function filtersOf(params) {
  return Object.fromEntries(Object.entries(params).filter(([name]) => [...DIRECT, "text"].includes(name) || name.startsWith("field.")));
}

export function EventsPage({ params }) {
  const range = useRange();
  const filters = filtersOf(params);
  const time = period(range);
  const { events, error, more, connected, fresh } = useEvents(filters, range);
  const chosen = useData(params.id ? `events/${params.id}` : "");
  const here = (event) => `${href("events", { ...current().params, id: event.id })}`;
  return html`<h1 class="quiet">Events</h1>
    <${Filters} filters=${filters} range=${range} connected=${connected} time=${time} />
    <${Histogram} filters=${filters} range=${range} />
    <div class="split ${params.id ? "with-record" : ""}">
      <${Facets} filters=${filters} time=${time} />
      <div class="list">
        ${error ? html`<${Failed} error=${error} />` : !events ? html`<${Loading} />` : events.length
          ? html`<${EventTable} events=${events} selected=${Number(params.id)} open=${here} fresh=${fresh} />
            ${more && html`<p><button type="button" onClick=${more}>Older events</button></p>`}`
          : html`<${Empty}>No event matches in this time range. ${Object.keys(filters).length > 0 && html`<a href="#/events">Remove all filters</a>`}<//>`}
      </div>
      ${params.id && html`<div class="side">${chosen.error ? html`<${Failed} error=${chosen.error} />` : chosen.data
        ? html`<${Record} event=${chosen.data} close=${href("events", { ...current().params, id: "" })} />` : html`<${Loading} />`}</div>`}
    </div>`;
}

function Filters({ filters, range, connected, time }) {
  const typed = useRef();
  const search = (event) => {
    clearTimeout(typed.current);
    typed.current = setTimeout(() => change({ text: event.target.value.trim(), id: "" }, true), 250);
  };
  const chips = Object.entries(filters).filter(([name]) => name !== "text");
  return html`<div class="filters">
    <label class="search"><span class="hidden">Search in events</span>
      <input type="search" id="search" placeholder="Search in all fields   /" value=${filters.text || ""} onInput=${search} /></label>
    ${chips.map(([name, value]) => html`<a class="chip" key=${name} href=${without(name)} title="Remove this filter">${name.replace("field.", "")}: <b title=${value}>${name === "container" ? shortName(value) : value}</b> ✕</a>`)}
    <span class="spread"></span>
    <span class="live-state ${connected ? "on" : ""}" role="status">${range.live ? (connected ? "live" : "connecting…") : "history"}</span>
    <span class="links"><a href=${url("events", { ...filters, ...time, limit: 1000 })} target="_blank">JSON</a>${" "}
      <a href=${url("events", { ...filters, ...time, limit: 10000, format: "csv" })}>CSV</a></span>
  </div>`;
}

const without = (name) => href("events", { ...current().params, [name]: "", id: "" });

function Histogram({ filters, range }) {
  const { data } = useData("events/histogram", { ...filters, ...period(range), buckets: 240 });
  if (!data || !Object.keys(data.counts).length) return null;
  return html`<section class="strip" aria-label="Events over time"><${Strip} data=${data} range=${range} axis=${true} /></section>`;
}

function Facets({ filters, time }) {
  const fields = Object.keys(FACETS).join(",");
  const { data } = useData("events/facets", { ...filters, ...time, fields });
  const found = useMemo(() => Object.entries((data || {}).facets || {}).filter(([, values]) => values.length), [data]);
  return html`<nav class="facets" aria-label="Narrow down">${found.map(([name, values]) => html`<section key=${name}>
    <h3>${FACETS[name]}</h3>
    <ul>${values.slice(0, 8).map((one) => {
      const on = filters[nameOf(name)] === one.value;
      return html`<li key=${one.value}><a class=${on ? "on" : ""} aria-current=${on ? "true" : undefined} href=${on ? without(nameOf(name)) : href("events", { ...current().params, [nameOf(name)]: one.value, id: "" })}>
        <span title=${one.value}>${name === "container" ? shortName(one.value) : one.value}</span> <b>${one.count}</b></a></li>`;
    })}</ul></section>`)}</nav>`;
}
