// Samples over time in FlameScope's manner: a column is some seconds, the height is the place within
// them, from the bottom up. What repeats shows as a pattern; dragging from cell to cell picks a time.
import { html, useRef, useState } from "../lib/dom.js";
import { css, scale64 } from "../lib/colors.js";
import { clock } from "../lib/format.js";
import { worth } from "../lib/worth.js";
import { Canvas, LEFT, RIGHT, TimeAxis, useWidth } from "./pane.js";

// Seconds of a column → how many cells it has.
const CELLS = new Map([[1, 25], [2, 40], [5, 50], [10, 50], [30, 50], [60, 60], [120, 60], [300, 60], [600, 60], [1800, 60], [3600, 60], [10800, 60], [43200, 60], [86400, 60]]);
const HEIGHT = innerHeight < 820 || innerWidth < 760 ? 100 : 150;
const MOST_COLUMNS = 200;
const LOOKS = 30; // seconds in which a gauge is surely looked at

// What to ask for: columns begin at round times. A gauge is looked at now and then: a column is one cell.
export function stepsOf(range, isGauge) {
  const column = [...CELLS.keys()].find((one) => (range.end - range.start) / one <= MOST_COLUMNS && one >= (isGauge ? LOOKS : 0)) || 86400;
  const start = Math.floor(range.start / column) * column;
  const end = Math.ceil(range.end / column) * column;
  const cells = isGauge ? 1 : CELLS.get(column);
  return { column, cells, start, end, step: column / cells };
}

const cellOf = (steps, time) => Math.floor((time - steps.start) / steps.step + 1e-6);

// What was answered for other steps, while the next answer is on its way: how many cells it is off.
const shiftOf = (data, steps) => (Math.abs(data.step_ns / 1e9 - steps.step) < 1e-6 ? Math.round((data.start_ns / 1e9 - steps.start) / steps.step) : NaN);

function paint(pen, { values, shift, steps, range, plot, marks }) {
  const { column, cells } = steps;
  const colors = scale64();
  const most = values.reduce((a, b) => Math.max(a, b), 0) || 1;
  const tall = HEIGHT / cells;
  const x = (time) => LEFT + ((time - range.start) / (range.end - range.start)) * plot;
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, 0, plot, HEIGHT);
  pen.clip();
  pen.fillStyle = css("--panel2");
  pen.fillRect(LEFT, 0, plot, HEIGHT);
  values.forEach((value, at) => {
    const i = at + shift;
    if (!value || !(i >= 0)) return;
    const time = steps.start + Math.floor(i / cells) * column;
    const left = Math.floor(x(time));
    const top = Math.floor(HEIGHT - ((i % cells) + 1) * tall);
    pen.fillStyle = colors[Math.round(Math.sqrt(value / most) * 63)];
    pen.fillRect(left, top, Math.max(1, Math.floor(x(time + column)) - left), Math.ceil(HEIGHT - (i % cells) * tall) - top);
  });
  for (const mark of marks) frameOf(pen, mark, { steps, x, tall });
  pen.restore();
  pen.fillStyle = css("--soft");
  pen.fillText(column >= 60 ? `${column / 60} min` : `${column} s`, LEFT - 6, 7);
  if (cells > 1) pen.fillText("0", LEFT - 6, HEIGHT - 6);
}

// Around the cells of a time that may begin and end within columns: a box with a step at either end.
function frameOf(pen, { start, end, color, fill }, { steps, x, tall }) {
  const { cells, column } = steps;
  const first = cellOf(steps, start);
  const last = Math.max(first, cellOf(steps, end - 1e-6));
  const [a, b] = [Math.floor(first / cells), Math.floor(last / cells)];
  const [low, high] = [first % cells, (last % cells) + 1];
  const points = a === b
    ? [[a, low], [a, high], [a + 1, high], [a + 1, low]]
    : [[a, low], [a, cells], [b, cells], [b, high], [b + 1, high], [b + 1, 0], [a + 1, 0], [a + 1, low]];
  const path = new Path2D();
  for (const [at, row] of points) path.lineTo(x(steps.start + at * column), Math.min(HEIGHT - 1, Math.max(1, HEIGHT - row * tall)));
  path.closePath();
  pen.strokeStyle = css("--ground");
  pen.lineWidth = 5;
  pen.stroke(path);
  pen.strokeStyle = css(color);
  pen.lineWidth = 2;
  pen.stroke(path);
  if (fill) { pen.globalAlpha = 0.25; pen.fillStyle = css(color); pen.fill(path); pen.globalAlpha = 1; }
}

// `range`: what is shown; `marks`: [{start, end, color}]; `onBrush(start, end)`: seconds since 1970.
export function Samples({ data, steps, range, marks, unit, title, onBrush }) {
  const root = useRef();
  const width = useWidth(root);
  const plot = Math.max(1, width - LEFT - RIGHT);
  const press = useRef(null);
  const [hint, setHint] = useState(null);
  const [brush, setBrush] = useState(null);
  const { cells, column, step } = steps;
  const shift = data ? shiftOf(data, steps) : 0;
  const at = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const x = Math.min(Math.max(event.clientX - box.left, 0), plot - 1);
    const y = Math.min(Math.max(event.clientY - box.top, 0), HEIGHT - 1);
    const time = range.start + (x / plot) * (range.end - range.start);
    const cell = Math.floor((time - steps.start) / column) * cells + Math.floor((1 - (y + 0.5) / HEIGHT) * cells);
    return { x, y, cell, start: steps.start + cell * step };
  };
  const between = (a, b) => [Math.min(a.start, b.start), Math.max(a.start, b.start) + step];
  const down = (event) => {
    if (event.button) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    press.current = at(event);
  };
  const move = (event) => {
    const here = at(event);
    setHint(here);
    if (press.current && far(press.current, here)) setBrush(between(press.current, here));
  };
  const up = (event) => {
    const from = press.current;
    press.current = null;
    setBrush(null);
    if (!from) return;
    const here = at(event);
    const whole = steps.start + Math.floor(here.cell / cells) * column;
    onBrush(...(far(from, here) ? between(from, here) : [whole, whole + column]));
  };
  const stop = () => { press.current = null; setBrush(null); setHint(null); };
  const all = brush ? [...marks, { start: brush[0], end: brush[1], color: "--text", fill: true }] : marks;
  return html`<div class="samples pane" ref=${root} role="img" aria-label=${`${title} over time: a column is ${column} seconds`}>
    <div class="drawing" style=${{ height: `${HEIGHT}px` }}>${width > 0 && html`<${Canvas} width=${width} height=${HEIGHT} inputs=${[data, range.start, range.end, JSON.stringify(all)]}
      paint=${(pen) => paint(pen, { values: data ? data.values : [], shift, steps, range, plot, marks: all })} />`}</div>
    <div class="over" style=${{ left: `${LEFT}px`, right: `${RIGHT}px`, height: `${HEIGHT}px` }} onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerLeave=${() => setHint(null)} onPointerCancel=${stop}>
      ${hint && data && html`<div class="tip" style=${{ transform: `translate(${hint.x > plot / 2 ? `calc(${hint.x - 10}px - 100%)` : `${hint.x + 10}px`}, ${HEIGHT + 4}px)` }}>${brush
        ? html`<b>${clock(brush[0], 3)} – ${clock(brush[1], 3)}</b>`
        : html`<b>${clock(hint.start, step < 1 ? 3 : 0)}</b> ${worth(data.values[hint.cell - shift] || 0, unit)} in ${worth(step * 1e9, "nanoseconds")}`}</div>`}
    </div>
    ${width > 0 && html`<${TimeAxis} range=${range} plot=${plot} />`}
  </div>`;
}

const far = (a, b) => a.cell !== b.cell && Math.hypot(a.x - b.x, a.y - b.y) > 3;
