// Who waited while whom ran: victims down, culprits across.
import { html } from "../lib/dom.js";
import { duration } from "../lib/format.js";
import { Name } from "./name.js";

const MOST = 10;

function largest(pairs, side) {
  const sums = new Map();
  for (const pair of pairs) sums.set(pair[side], (sums.get(pair[side]) || 0) + pair.seconds);
  return [...sums].sort((a, b) => b[1] - a[1]).slice(0, MOST).map(([name]) => name);
}

export function Matrix({ pairs }) {
  const victims = largest(pairs, "victim");
  const culprits = largest(pairs, "culprit");
  const at = new Map(pairs.map((pair) => [`${pair.victim}\n${pair.culprit}`, pair.seconds]));
  const most = Math.max(...pairs.map((pair) => pair.seconds));
  return html`<p class="dim">Time that containers waited for a CPU while another one ran. Rows wait, columns run meanwhile.</p>
    <div class="scroll"><table class="matrix" aria-label="Who waits for whom">
    <thead><tr><td></td>${culprits.map((name) => html`<th scope="col" key=${name}><span><${Name} of=${name} brief=${true} /></span></th>`)}</tr></thead>
    <tbody>${victims.map((victim) => html`<tr key=${victim}><th scope="row"><${Name} of=${victim} brief=${true} /></th>
      ${culprits.map((culprit) => {
        const value = at.get(`${victim}\n${culprit}`);
        const share = value ? 0.08 + 0.42 * Math.sqrt(value / most) : 0;
        return html`<td class="num" key=${culprit} style=${{ background: value ? `color-mix(in srgb, var(--accent) ${Math.round(share * 100)}%, transparent)` : "none" }}>${value ? duration(value) : html`<span class="dim">·</span>`}</td>`;
      })}</tr>`)}</tbody></table></div>`;
}
