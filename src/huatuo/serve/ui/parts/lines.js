// Lines over time. Answers of metrics/query as raw, rate or quantiles.
import { html, useMemo } from "../lib/dom.js";
import { lines } from "../lib/colors.js";
import { clock, labelText, show } from "../lib/format.js";
import { Canvas, LEFT, Pane, gridLine } from "./pane.js";

// {times, lines: [{label, values}]}, with a null in every hole (the agent was down), so that no line
// is drawn across it.
export function linesOf(answer) {
  const found = allLines(answer);
  const steps = answer.times.map((time, i) => time - (i ? answer.times[i - 1] : answer.since));
  const usual = [...steps].sort((a, b) => a - b)[Math.floor(steps.length / 2)] || 1;
  const holes = steps.flatMap((step, i) => (i && step > usual * 2.5 ? [i] : []));
  const widened = (values, filler) => holes.reduceRight((all, i) => all.toSpliced(i, 0, filler(i)), values);
  const cut = answer.as === "raw" ? (values) => values : (values) => values.map((value, i) => (holes.includes(i) ? null : value));
  return {
    times: widened(answer.times, (i) => (answer.times[i - 1] + answer.times[i]) / 2),
    lines: found.map((one) => ({ ...one, values: widened(cut(one.values), () => null) })),
  };
}

function allLines(answer) {
  if (answer.as === "quantiles") {
    const many = answer.series.length > 1;
    return answer.series.flatMap((series) => (many ? ["p99"] : ["max", "p99", "p50"]).map((which) => ({
      label: many ? `${labelText(series.labels)} p99` : which, values: series[which] || [],
    })));
  }
  return answer.series.map((series) => ({ label: labelText(series.labels), values: series.values || [] }));
}

// Round numbers with enough room between them; powers of two for bytes.
function ticksOf(low, high, height, unit) {
  const least = ((high - low) / height) * 24;
  const ten = 10 ** Math.floor(Math.log10(least));
  const step = /^bytes/.test(unit) ? 2 ** Math.ceil(Math.log2(least)) : [1, 2, 5, 10].map((one) => one * ten).find((one) => one >= least * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

function paint(pen, { times, lines: found }, range, width, plot, height, unit) {
  const known = found.flatMap((one) => one.values.filter((value) => value != null));
  const low = known.reduce((a, b) => Math.min(a, b), 0);
  const high = known.reduce((a, b) => Math.max(a, b), 0) * 1.08 || 1;
  const y = (value) => height - 7 - ((value - low) / (high - low)) * (height - 13);
  const x = (time) => LEFT + ((time - range.start) / (range.end - range.start)) * plot;
  for (const tick of ticksOf(low, high, height - 13, unit)) {
    gridLine(pen, show(tick, unit).replace(" packets", ""), Math.round(y(tick)) + 0.5, width);
  }
  pen.beginPath();
  pen.rect(LEFT, 0, plot, height);
  pen.clip();
  pen.lineWidth = 1.5;
  pen.lineCap = pen.lineJoin = "round";
  const palette = lines();
  found.forEach(({ values }, i) => {
    pen.strokeStyle = palette[i % palette.length];
    pen.fillStyle = `${palette[i % palette.length]}33`;
    for (const run of runsOf(values)) {
      const path = new Path2D();
      path.moveTo(x(times[run[0]]), y(values[run[0]]));
      for (const at of run) path.lineTo(x(times[at]), y(values[at]));
      pen.stroke(path);
      if (found.length > 1) continue;
      path.lineTo(x(times[run.at(-1)]), y(0));
      path.lineTo(x(times[run[0]]), y(0));
      pen.fill(path);
    }
  });
}

// The places of values that follow each other without a hole.
function runsOf(values) {
  const runs = [];
  values.forEach((value, i) => {
    if (value == null) return;
    if (i && values[i - 1] != null) runs.at(-1).push(i); else runs.push([i]);
  });
  return runs;
}

function tipOf(times, found, unit, time) {
  const i = times.findIndex((end) => time <= end);
  if (i < 0) return html`<b>${clock(time)}</b><br />no data`;
  const palette = lines();
  return html`<b>${clock(times[i])}</b>
    ${found.slice(0, 12).map((one, n) => html`<div class="tip-line" key=${one.label}>
      <i style=${{ background: palette[n % palette.length] }}></i>${one.label}<span>${show(one.values[i], unit)}</span></div>`)}`;
}

export function Legend({ found, answer, unit, onPick }) {
  const palette = lines();
  const last = (one) => one.values.findLast((value) => value != null);
  return html`<ul class="legend">${found.map((one, i) => html`<li key=${one.label}>
    <i style=${{ background: palette[i % palette.length] }}></i>
    ${onPick ? html`<a href=${onPick(answer.series[i])}>${one.label}</a>` : one.label} <span>${show(last(one), unit)}</span></li>`)}</ul>`;
}

export function Lines({ answer, range, title, unit = answer.unit, height = 90, axis, onPick, legend = true, link }) {
  const all = useMemo(() => linesOf(answer), [answer]);
  const { times, lines: found } = all;
  if (!found.length) return null;
  return html`${legend && found.length <= 12 && html`<${Legend} found=${found} answer=${answer} unit=${unit} onPick=${link} />`}
    <${Pane} range=${range} height=${height} axis=${axis} label=${`${title}: ${found.length} lines over time`}
      tip=${(time) => tipOf(times, found, unit, time)} onPick=${onPick}
      draw=${(width, plot) => html`<${Canvas} width=${width} height=${height} inputs=${[answer, range]}
        paint=${(pen) => paint(pen, all, range, width, plot, height, unit)} />`} />`;
}
