// Lines over time with uPlot. Answers of metrics/query as raw, rate or quantiles.
import { html, useEffect, useMemo, useRef } from "../lib/dom.js";
import uPlot from "../vendor/uplot.js";
import { css, lines } from "../lib/colors.js";
import { clock, labelText, show } from "../lib/format.js";
import { LEFT, Pane, RIGHT, useDark } from "./pane.js";

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

function optionsOf(found, range, width, height, unit, stacked) {
  const soft = css("--soft");
  const grid = { stroke: css("--line"), width: 1 };
  const palette = lines();
  return {
    width, height,
    padding: [6, RIGHT, 7, 0],
    cursor: { show: false },
    legend: { show: false },
    scales: { x: { range: () => [range.start, range.end] }, y: { range: (u, low, high) => [Math.min(0, low || 0), high > 0 ? high * 1.08 : 1] } },
    axes: [
      { show: false },
      { size: LEFT, stroke: soft, grid, ticks: { show: false }, font: "11px system-ui, sans-serif", space: 24, gap: 6, values: (u, ticks) => ticks.map((tick) => show(tick, unit).replace(" packets", "")) },
    ],
    series: [{}, ...found.map((one, i) => ({
      label: one.label, stroke: palette[i % palette.length], width: 1.5, points: { show: false },
      fill: stacked || found.length === 1 ? `${palette[i % palette.length]}33` : undefined, spanGaps: false,
    }))],
  };
}

function Plot({ answer, times, found, range, width, height, unit }) {
  const place = useRef();
  const dark = useDark();
  useEffect(() => {
    const data = [times, ...found.map((one) => one.values)];
    const plot = new uPlot(optionsOf(found, range, width, height, unit), data, place.current);
    return () => plot.destroy();
  }, [answer, range, width, dark]);
  return html`<div ref=${place} class="plot"></div>`;
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
  const { times, lines: found } = useMemo(() => linesOf(answer), [answer]);
  if (!found.length) return null;
  return html`${legend && found.length <= 12 && html`<${Legend} found=${found} answer=${answer} unit=${unit} onPick=${link} />`}
    <${Pane} range=${range} height=${height} axis=${axis} label=${`${title}: ${found.length} lines over time`}
      tip=${(time) => tipOf(times, found, unit, time)} onPick=${onPick}
      draw=${(width) => html`<${Plot} answer=${answer} times=${times} found=${found} range=${range} width=${width} height=${height} unit=${unit} />`} />`;
}
