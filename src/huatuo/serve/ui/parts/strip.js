// What happened under the time axis: one lane per probe, or whatever it is told apart by, darker where
// more happened.
import { html } from "../lib/dom.js";
import { css, lines } from "../lib/colors.js";
import { clock } from "../lib/format.js";
import { go } from "../lib/url.js";
import { iso } from "../lib/time.js";
import { Canvas, LEFT, Pane } from "./pane.js";

const LANE = 18;

function paint(pen, data, names, range, plot) {
  const step = stepOf(data);
  const palette = lines();
  names.forEach((name, lane) => {
    const y = lane * LANE;
    pen.fillStyle = css("--soft");
    pen.fillText(name.split(".").pop(), LEFT - 6, y + LANE / 2);
    pen.fillStyle = css("--panel2");
    pen.fillRect(LEFT, y + 2, plot, LANE - 4);
    const most = Math.max(...data.counts[name]);
    pen.fillStyle = palette[lane % palette.length];
    data.counts[name].forEach((value, i) => {
      if (!value) return;
      const left = LEFT + ((data.times[i] - range.start) / (range.end - range.start)) * plot;
      const right = LEFT + ((data.times[i] + step - range.start) / (range.end - range.start)) * plot;
      const from = Math.max(left, LEFT);
      pen.globalAlpha = 0.45 + 0.55 * (value / most);
      pen.fillRect(from, y + 2, Math.max(3, Math.min(right, LEFT + plot) - from), LANE - 4);
    });
    pen.globalAlpha = 1;
  });
}

const stepOf = (data) => (data.end - data.start) / Math.max(1, data.times.length);

const toEvents = (probe, from, to) => go("events", { probe, from: iso(from), to: iso(to) });

// `data`: as of events/histogram; `what`: what is counted; `onPick(name, from, to)`.
export function Strip({ data, range, axis, what = "events", onPick = toEvents }) {
  const names = Object.keys(data.counts);
  const height = names.length * LANE;
  const step = stepOf(data);
  const find = (time, share) => ({ name: names[Math.min(names.length - 1, Math.floor(share * names.length))], i: Math.floor((time - data.start) / step) });
  const tip = (time, share) => {
    const { name, i } = find(time, share);
    return html`<b>${clock(data.times[i] || time)}</b> ${name}<br />${data.counts[name][i] || 0} ${what} in ${Math.max(1, Math.round(step))} s`;
  };
  const pick = (time, share) => {
    const { name, i } = find(time, share);
    const near = [i, i - 1, i + 1].find((at) => data.counts[name][at]);
    const at = data.times[near ?? i];
    const room = Math.max(5, step);
    onPick(name, at - room * 0.5, at + step + room * 0.5);
  };
  return html`<${Pane} range=${range} height=${height} axis=${axis} tip=${tip} onPick=${onPick && pick}
    label=${`${what} over time: ${names.map((name) => `${data.counts[name].reduce((a, b) => a + b, 0)} ${name}`).join(", ")}`}
    draw=${(width, plot) => html`<${Canvas} width=${width} height=${height} inputs=${[data, range]}
      paint=${(pen) => paint(pen, data, names, range, plot)} />`} />`;
}
