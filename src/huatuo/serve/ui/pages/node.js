// Start page: is this node well, if not who suffers and who causes it, what happened.
import { html } from "../lib/dom.js";
import { useEvents } from "../lib/events.js";
import { useData } from "../lib/load.js";
import { period, useRange } from "../lib/time.js";
import { href } from "../lib/url.js";
import { Chart } from "../parts/chart.js";
import { EventTable } from "../parts/events.js";
import { Empty, Failed, Loading } from "../parts/states.js";
import { Strip } from "../parts/strip.js";
import { rowsOf } from "../parts/subsystems.js";
import { Badge, Signals, Verdict, Worst } from "../parts/verdict.js";

export function NodePage() {
  const range = useRange();
  const minute = range.live ? { start: (range.end - 60).toFixed(3), end: range.end.toFixed(3) } : period(range);
  const overview = useData("overview", minute);
  const about = Object.fromEntries(((overview.data || {}).rows || []).map((row) => [row.subsystem, row]));
  return html`
    ${overview.data ? html`<${Verdict} overview=${overview.data} range=${range} />`
      : overview.error ? html`<${Failed} error=${overview.error} />` : html`<${Loading} what="Reading the last minute" />`}
    <${EventStrip} />
    ${rowsOf().map((row) => html`<${Row} key=${row.name} row=${row} about=${about[row.name]} />`)}
    <${Newest} />`;
}

export function Row({ row, about }) {
  return html`<section class="row" id="row-${row.name}" aria-labelledby="title-${row.name}">
    <header><h2 id="title-${row.name}">${row.title}</h2>
      ${about && about.status !== "ok" && html`<${Badge} status=${about.status} />`}
      ${about && html`<${Signals} row=${about} />`}</header>
    <div class="charts">${row.charts.map((chart, i) => html`<${Chart} key=${chart.metric + (chart.by || "")} chart=${chart} axis=${i === row.charts.length - 1} />`)}</div>
    ${about && about.status !== "unavailable" && row.name !== "interrupts" && html`<aside><h3>Worst</h3><${Worst} row=${about} what="Worst containers: ${row.title}" />
      ${about.missing.map((text) => html`<p class="missing" key=${text}>${text}</p>`)}</aside>`}
  </section>`;
}

export function EventStrip({ container }) {
  const range = useRange();
  const { data, error } = useData("events/histogram", { ...period(range), buckets: 300, container });
  const any = data && Object.keys(data.counts).length > 0;
  return html`<section class="strip" aria-labelledby="title-strip">
    <h2 id="title-strip">Events <a class="more" href=${href("events", { container })}>all</a></h2>
    ${error ? html`<${Failed} error=${error} />` : !data ? html`<${Loading} />`
      : any ? html`<${Strip} data=${data} range=${range} axis=${true} />` : html`<${Empty}>No events in this time range.<//>`}
  </section>`;
}

export function Newest({ container, most = 12 }) {
  const range = useRange();
  const { events, error, fresh } = useEvents(container ? { container } : {}, range, most);
  return html`<section aria-labelledby="title-newest"><h2 id="title-newest">Newest events${container && html` <a class="more" href=${href("events", { container })}>all</a>`}</h2>
    ${error ? html`<${Failed} error=${error} />` : !events ? html`<${Loading} />`
      : events.length ? html`<${EventTable} events=${events} fresh=${fresh} of=${container} open=${(event) => href("events", { id: event.id, container })} />`
        : html`<${Empty}>Nothing happened in this time range that a probe reports as an event.<//>`}
  </section>`;
}

