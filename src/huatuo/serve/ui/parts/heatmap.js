// A distribution over time: colour is how many (log scale), height how long (log scale); p50 and
// p99 as lines. Answers of metrics/query?as=heatmap.
import { html } from "../lib/dom.js";
import { css, scale64 } from "../lib/colors.js";
import { clock, count, duration } from "../lib/format.js";
import { Canvas, LEFT, Pane, gridLine } from "./pane.js";

// Cells as one grid: intervals × slots, all series added up.
export function gridOf(answer) {
  const slots = answer.edges.length + 1;
  let low = slots;
  let high = 0;
  const rows = answer.times.map(() => null);
  for (const series of answer.series) {
    const first = series.first_slot || 0;
    (series.slots || []).forEach((counts, i) => {
      if (!counts) return;
      rows[i] = rows[i] || new Array(slots).fill(0);
      counts.forEach((value, offset) => {
        if (!value) return;
        rows[i][first + offset] += value;
        low = Math.min(low, first + offset);
        high = Math.max(high, first + offset);
      });
    });
  }
  if (low > high) return null;
  while (high - low < 7) { if (high < slots - 1) high += 1; if (low > 0) low -= 1; }
  const most = Math.max(...rows.map((row) => (row ? Math.max(...row) : 0)));
  return { rows, low, high, most, edges: answer.edges, times: answer.times, since: answer.since, gap: gapOf(answer) };
}

// An interval much longer than usual is a hole, not data.
function gapOf({ times, since }) {
  const steps = times.map((time, i) => time - (i ? times[i - 1] : since)).sort((a, b) => a - b);
  return (steps[Math.floor(steps.length / 2)] || 1) * 2.5;
}

const upper = (grid, slot) => grid.edges[Math.min(slot, grid.edges.length - 1)] * (slot >= grid.edges.length ? 2 : 1);
const lower = (grid, slot) => (slot ? grid.edges[slot - 1] : 0);

// The place of a quantile within slots, as a fraction: 7.5 is the middle of slot 7.
function rank(row, share) {
  const total = row.reduce((sum, value) => sum + value, 0);
  if (!total) return null;
  let left = total * share;
  for (let slot = 0; slot < row.length; slot += 1) {
    if (row[slot] && left <= row[slot]) return slot + left / row[slot];
    left -= row[slot];
  }
  return row.length;
}

const valueAt = (place) => (place == null ? null : 2 ** (place - 21));

function paint(pen, grid, range, width, plot, height) {
  const colors = scale64();
  const tall = height / (grid.high - grid.low + 1);
  const x = (time) => LEFT + ((time - range.start) / (range.end - range.start)) * plot;
  const y = (place) => height - (place - grid.low) * tall;
  const logMost = Math.log(grid.most + 1);
  labels(pen, grid, y, tall, width);
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, 0, plot, height);
  pen.clip();
  grid.rows.forEach((row, i) => {
    const from = i ? grid.times[i - 1] : grid.since;
    if (!row || grid.times[i] - from > grid.gap) return;
    const left = Math.floor(x(from));
    const wide = Math.max(1, Math.ceil(x(grid.times[i])) - left);
    for (let slot = grid.low; slot <= grid.high; slot += 1) {
      if (!row[slot]) continue;
      pen.fillStyle = colors[Math.round((Math.log(row[slot] + 1) / logMost) * 63)];
      pen.fillRect(left, y(slot + 1), wide, Math.ceil(tall));
    }
  });
  for (const [share, dash] of [[0.5, [2, 3]], [0.99, []]]) stroke(pen, grid, x, y, share, dash);
  pen.restore();
}

function labels(pen, grid, y, tall, width) {
  const every = Math.max(1, Math.ceil(22 / tall));
  for (let slot = grid.low; slot <= grid.high; slot += 1) {
    if ((slot - grid.low) % every !== every - 1 && tall * (grid.high - grid.low) > 22) continue;
    const at = Math.round(y(slot + 1)) + 0.5;
    if (at >= 6) gridLine(pen, rough(upper(grid, slot)), at, width);
  }
}

// Axis labels need not be exact; the tip is.
function rough(value) {
  for (const [unit, name] of [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]]) {
    if (value >= unit * 0.9) return `${Number((value / unit).toPrecision(2))} ${name}`;
  }
  return duration(value);
}

function stroke(pen, grid, x, y, share, dash) {
  pen.beginPath();
  let drawing = false;
  grid.rows.forEach((row, i) => {
    const from = i ? grid.times[i - 1] : grid.since;
    const place = row && grid.times[i] - from <= grid.gap ? rank(row, share) : null;
    if (place == null) { drawing = false; return; }
    const at = [(x(from) + x(grid.times[i])) / 2, y(place)];
    if (drawing) pen.lineTo(...at); else pen.moveTo(...at);
    drawing = true;
  });
  pen.setLineDash(dash);
  pen.lineWidth = 3.5;
  pen.strokeStyle = css("--ground");
  pen.stroke();
  pen.lineWidth = 1.5;
  pen.strokeStyle = css("--text");
  pen.stroke();
  pen.setLineDash([]);
  pen.lineWidth = 1;
}

function cellAt(grid, time, share) {
  const i = grid.times.findIndex((end) => time <= end);
  const from = i > 0 ? grid.times[i - 1] : grid.since;
  if (i < 0 || time < from) return null;
  const slot = grid.low + Math.floor((1 - share) * (grid.high - grid.low + 1));
  return { from, to: grid.times[i], row: grid.rows[i], slot: Math.min(Math.max(slot, grid.low), grid.high) };
}

function tipOf(grid, time, share) {
  const cell = cellAt(grid, time, share);
  if (!cell) return html`<b>${clock(time)}</b><br />no data`;
  if (!cell.row) return html`<b>${clock(cell.to)}</b><br />nothing measured`;
  const total = cell.row.reduce((sum, value) => sum + value, 0);
  const last = cell.slot >= grid.edges.length;
  const between = last ? `over ${duration(lower(grid, cell.slot))}` : `${duration(lower(grid, cell.slot))} – ${duration(upper(grid, cell.slot))}`;
  return html`<b>${clock(cell.from)} – ${clock(cell.to)}</b><br />
    <b>${count(cell.row[cell.slot])}</b> took ${between}<br />
    ${total > 0 && html`p50 ${duration(valueAt(rank(cell.row, 0.5)))} · p99 ${duration(valueAt(rank(cell.row, 0.99)))} · ${count(total)} in all`}`;
}

export function Heatmap({ answer, range, title, height = 120, axis, onPick }) {
  const grid = gridOf(answer);
  if (!grid) return null;
  const pick = onPick && ((time, share) => {
    const cell = cellAt(grid, time, share);
    if (cell) onPick(cell.from, cell.to);
  });
  return html`<${Pane} range=${range} height=${height} axis=${axis} onPick=${pick}
    label=${`${title}: heatmap over time, most frequent count ${count(grid.most)}`}
    tip=${(time, share) => tipOf(grid, time, share)}
    draw=${(width, plot) => html`<${Canvas} width=${width} height=${height} inputs=${[answer, range]}
      paint=${(pen) => paint(pen, grid, range, width, plot, height)} />`} />`;
}
