// Incidents in which a container suffered, or was suspected.
import { html } from "../lib/dom.js";
import { ago } from "../lib/format.js";
import { useData } from "../lib/load.js";
import { period } from "../lib/time.js";
import { href } from "../lib/url.js";
import { Failed } from "./states.js";

const MOST = 5;

export function IncidentsOf({ container, range }) {
  const { data, error } = useData("incidents", { ...period(range), container, limit: MOST + 1 });
  if (error) return html`<${Failed} error=${error} />`;
  if (!data || !data.length) return null;
  return html`<section aria-labelledby="title-incidents"><h2 id="title-incidents">Incidents <a class="more" href=${href("incidents")}>all</a></h2>
    <ul class="incidents-of">${data.slice(0, MOST).map((one) => html`<li key=${one.id}>
      <time title=${one.time}>${ago(one.time_ns / 1e9)}</time>
      <a href=${href("incidents", { id: one.id })}>${one.trigger}</a>${one.target !== container && html` <span class="badge warn">suspected</span>`}
      <span>${one.summary || one.facts[0] || one.when}</span></li>`)}</ul></section>`;
}
