// What a profile says about itself: how much of it is whole, whether it adds up, what was lost.
import { html, useState } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { share, worth } from "../lib/worth.js";

const whole = (ratio) => (ratio >= 0.9995 && ratio < 1 ? ">99.9 %" : `${(ratio * 100).toFixed(1)} %`);

// Whether the kernel counted something else: by a tenth, and by more than the error of sampling.
const deviates = (ratio, samples) => Math.abs(ratio - 1) > Math.max(0.1, ratio ? 3 / Math.sqrt(samples / ratio) : 0);

// Each part: [text, what it means, is something wrong].
function partsOf({ audit, title, unit, total, samples }) {
  const reasons = Object.entries(audit.statuses).map(([name, value]) => `${share(value, total)} ${name}: ${audit.reasons[name] || "another reason"}`);
  const parts = [
    [`${worth(total, unit)} ${title}`, "The sum of all samples that match, in this time range.", false],
    [`${count(samples)} samples`, `One sample stands for ${samples ? worth(total / samples, unit) : "–"} on average.`, false],
  ];
  if (audit.complete_ratio != null) parts.push([`${whole(audit.complete_ratio)} complete stacks`, `The share that reaches the start of its thread. ${reasons.length ? `The rest: ${reasons.join("; ")}.` : "None is cut."}`, audit.complete_ratio < 0.95]);
  if (audit.accounted_ratio != null) parts.push([`adds up to ${whole(audit.accounted_ratio)} of ${title}`, "The samples together, compared with what the kernel itself has counted for the same time.", deviates(audit.accounted_ratio, samples)]);
  if (audit.lost != null) parts.push([`${count(audit.lost)} lost`, "Samples that the profiler took and that did not arrive, whomever they were about.", audit.lost > 0]);
  return parts;
}

// What a part means is said on hover and, for fingers and keys, below the line while it is chosen.
export function Audit({ answer, base }) {
  const { audit, dropped } = answer;
  const [meaning, say] = useState("");
  const part = (text, why, wrong) => html`<span class=${wrong ? "wrong" : ""} title=${why} tabindex="0" onFocus=${() => say(why)} onBlur=${() => say("")}>${text}</span>`;
  return html`<div class="audit">
    <p>${partsOf(answer).map(([text, why, wrong], i) => html`${i > 0 && " · "}${part(text, why, wrong)}`)}
      ${dropped > 0 && html` · ${part(`${count(dropped)} smallest frames left out`, "They are too small to be seen; they stand together as (other) above what called them.")}`}</p>
    ${meaning && html`<p class="dim small" role="status">${meaning}</p>`}
    ${audit.notes.map((note) => html`<p class="caution" role="note" key=${note}>${note}</p>`)}
    ${base && !answer.base_total && html`<p class="caution" role="note">There is nothing to compare with: no samples match in ${base}.</p>`}
  </div>`;
}

// What the colours mean, with how much of each there is.
const NAMES = { kernel: "kernel", native: "native", runtime: "runtime (Python, …)", jit: "just-in-time compiled", "": "other" };

export function Kinds({ tree, colorOf }) {
  const sums = new Map();
  for (let i = 1; i < tree.size; i += 1) {
    const { kind } = tree.frames[tree.frame[i]];
    sums.set(kind, (sums.get(kind) || 0) + tree.self[i]);
  }
  return html`<ul class="legend kinds">${Object.keys(NAMES).filter((kind) => sums.has(kind)).map((kind) => html`<li key=${kind}>
    <i style=${{ background: `rgb(${colorOf({ kind, hash: 0 })})` }}></i>${NAMES[kind]} <span title="self, in this kind of code">${share(sums.get(kind), tree.total[0])}</span></li>`)}</ul>`;
}

export function Changes({ colorOf }) {
  return html`<ul class="legend kinds"><li>less</li><li>${[-1, -0.5, -0.2, 0, 0.2, 0.5, 1].map((one) => html`<i key=${one} class="step" style=${{ background: `rgb(${colorOf(one)})` }}></i>`)}</li><li>more</li>
    <li class="dim">pale: no change, or too few samples to be sure · the width is the mean of both</li></ul>`;
}
