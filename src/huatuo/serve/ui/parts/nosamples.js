// Why there is no profile to be seen: nothing matched, or nobody measures.
import { html, useContext } from "../lib/dom.js";
import { PRESETS, seconds } from "../lib/time.js";
import { current, href } from "../lib/url.js";
import { Probes } from "./probes.js";

// A type's title and unit, from wherever they are known.
export function titleOf(type, known, answer) {
  const found = known.find((one) => one.name === type) || (answer && answer.type === type ? answer : null);
  return { text: found ? found.title : type, unit: found ? found.unit : "" };
}

const WORDS = { shed: "paused by the governor", off: "switched off", unavailable: "not available", failed: "failed" };

export function NoSamples({ type, title, known, q, range }) {
  const { probes } = useContext(Probes);
  const profilers = probes.filter((probe) => probe.name.startsWith("profile."));
  const own = profilers.find((probe) => probe.name === `profile.${type}`);
  const others = known.filter((one) => one.name !== type);
  const to = (more) => href("profiles", { ...current().params, at: "", ...more });
  const span = range.end - range.start;
  const wider = PRESETS.find((preset) => seconds(preset) > span * 1.5);
  return html`<div class="state nothing">
    <p><b>No samples of ${title.text || "any type"} ${q ? "match in" : "in"} this time range.</b></p>
    ${!profilers.length && probes.length > 0 && html`<p>This agent has no profiler.</p>`}
    ${own && own.status !== "running" && html`<p><a href=${href("probes", { probe: own.name })}>${own.name}</a> is ${WORDS[own.status] || own.status}${own.reason && `: ${own.reason}`}.</p>`}
    <ul>
      ${others.length > 0 && html`<li>Types with samples: ${others.map((one, i) => html`${i > 0 && ", "}<a key=${one.name} href=${to({ type: one.name })}>${one.title}</a>`)}</li>`}
      ${q && html`<li><a href=${to({ q: "" })}>Remove the filter</a> <code>${q}</code></li>`}
      ${wider && html`<li><a href=${to({ range: wider, from: "", to: "", around: "" })}>Look at the last ${wider}</a></li>`}
    </ul></div>`;
}
