// The node in one sentence, and what a row has to say.
import { html } from "../lib/dom.js";
import { Name } from "./name.js";
import { ToProfile } from "./toprofile.js";

// `name` in backquotes becomes a link to the container.
export function Sentence({ text }) {
  return text.split("`").map((part, i) => (i % 2
    ? html`<${Name} of=${part} />`
    : part));
}

const WORDS = { ok: "well", warn: "strained", bad: "in trouble", unknown: "unknown", unavailable: "not available" };

export const Badge = ({ status }) => html`<span class="badge ${status}">${WORDS[status] || status}</span>`;

export function Verdict({ overview, range }) {
  const when = range.live ? "in the last minute" : "in the selected time";
  return html`<section class="verdict ${overview.status}" aria-label="Verdict">
    <h1><${Sentence} text=${overview.verdict} /></h1>
    <p class="dim">${when}
      ${[...new Set(overview.findings.map((finding) => finding.subsystem))].map((name) => html` · <a href=${`#row-${name}`} onClick=${(event) => jump(event, name)}>${name}</a>`)}</p>
  </section>`;
}

// The # of the URL is taken by the router.
function jump(event, name) {
  event.preventDefault();
  document.getElementById(`row-${name}`).scrollIntoView({ block: "start" });
}

export function Signals({ row }) {
  return html`<ul class="signals">${row.signals.map((signal) => html`<li key=${signal.name} class=${signal.status}>${signal.text}</li>`)}</ul>`;
}

export function Worst({ row, what = "worst" }) {
  if (!row.worst.length) return html`<p class="state">No container stands out.</p>`;
  return html`<ol class="worst" aria-label=${what}>${row.worst.map((one) => html`<li key=${one.container}>
    <div><${Name} of=${one.container} /> <${ToProfile} container=${one.container} /></div>
    <span>${one.text}</span>${one.cause && html`<em><${Sentence} text=${one.cause} /></em>`}</li>`)}</ol>`;
}
