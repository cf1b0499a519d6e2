// What a profile is compared with: the time before, yesterday, a time brushed over, other samples.
import { html } from "../lib/dom.js";
import { clock, moment } from "../lib/format.js";
import { Text } from "./labels.js";

const DAY = 86400;
const WAYS = [["", "nothing"], ["previous", "the time before"], ["day", "yesterday"], ["brush", "a time brushed"], ["selector", "other samples"]];

const ends = (text) => {
  const [start, end] = text.split("/").map((one) => Date.parse(one) / 1000);
  return start < end ? { start, end } : null;
};

// From the URL: `way`, and where there is something to compare with `start`, `end`, `q` and in words
// what it is. By value per second, or by share where the samples are others.
export function baseOf({ base = "", base_q: q = "", by }, range) {
  const span = range.end - range.start;
  const brushed = base.includes("/") && ends(base);
  const found = {
    previous: { start: range.start - span, end: range.start, text: "the time before" },
    day: { start: range.start - DAY, end: range.end - DAY, text: "the same time yesterday" },
    selector: { start: range.start, end: range.end, q, text: q || "all samples" },
  }[base] || (brushed && { ...brushed, text: `${clock(brushed.start)} – ${clock(brushed.end)}` });
  return { way: brushed ? "brush" : base, byShare: (by || (base === "selector" ? "share" : "value")) === "share", ...found, known: Boolean(found) };
}

// What the other profile's values are multiplied with.
export function factorOf(answer, base, range, isGauge) {
  if (!answer || answer.base_total === null) return 0;
  if (base.byShare) return answer.base_total ? answer.total / answer.base_total : 1;
  return isGauge ? 1 : (range.end - range.start) / (base.end - base.start);
}

export function Compare({ base, q, set }) {
  return html`<label>compare with <select aria-label="Compare with" value=${base.way} onChange=${(event) => set({ base: event.target.value, base_q: event.target.value === "selector" ? q : "", by: "", at: "" })}>
      ${WAYS.map(([way, title]) => html`<option key=${way} value=${way}>${title}</option>`)}</select></label>
    ${base.way === "brush" && !base.known && html`<span class="caution" role="status">Drag over the picture above: that time is compared with.</span>`}
    ${base.way === "brush" && base.known && html`<button type="button" class="chip" title="Choose another time" onClick=${() => set({ base: "brush" })}><b title=${moment(base.start)}>${base.text}</b> ✕</button>`}
    ${base.way === "selector" && html`<${Text} q=${base.q} label="Selector to compare with" set=${(text) => set({ base_q: text })} />`}
    ${base.known && html`<span class="toggle" role="group" aria-label="Compared by">
      <button type="button" aria-pressed=${!base.byShare} class=${base.byShare ? "" : "on"} title="as much per second as then" onClick=${() => set({ by: "value" })}>by value</button>
      <button type="button" aria-pressed=${base.byShare} class=${base.byShare ? "on" : ""} title="the same share of the whole as then" onClick=${() => set({ by: "share" })}>by share</button></span>`}`;
}
