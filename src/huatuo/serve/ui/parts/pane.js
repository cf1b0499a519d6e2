// A drawing over time. All panes share the same left and right margin, so that times line up, and
// one cursor: pointing at a time in one pane marks it in all. Dragging zooms, clicking picks.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/dom.js";
import { css } from "../lib/colors.js";
import { clock, day } from "../lib/format.js";
import { zoom } from "../lib/time.js";

export const LEFT = 64;
export const RIGHT = 12;
const MARK = "huatuo-cursor";

export function useWidth(ref) {
  const [width, set] = useState(0);
  useLayoutEffect(() => {
    const measure = () => set(Math.floor(ref.current.clientWidth));
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return width;
}

// Redraw when the system switches between light and dark.
export function useDark() {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const [dark, set] = useState(query.matches);
  useEffect(() => {
    const changed = () => set(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);
  return dark;
}

// A canvas of sharp pixels, painted again when its inputs, its size or the theme change.
export function Canvas({ width, height, paint, inputs }) {
  const ref = useRef();
  const dark = useDark();
  useLayoutEffect(() => {
    const dots = devicePixelRatio || 1;
    ref.current.width = width * dots;
    ref.current.height = height * dots;
    const pen = ref.current.getContext("2d");
    pen.scale(dots, dots);
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    paint(pen);
  }, [...inputs, width, height, dark]);
  return html`<canvas ref=${ref} style=${{ width: `${width}px`, height: `${height}px` }}></canvas>`;
}

// A value of the vertical axis at a height, and the line that belongs to it.
export function gridLine(pen, text, at, width) {
  pen.fillStyle = css("--soft");
  pen.fillText(text, LEFT - 6, at);
  pen.strokeStyle = css("--line");
  pen.beginPath();
  pen.moveTo(LEFT, at);
  pen.lineTo(width - RIGHT, at);
  pen.stroke();
}

const announce = (time) => dispatchEvent(new CustomEvent(MARK, { detail: time }));

export function Pane({ range, height, label, tip, onPick, draw, axis = false }) {
  const root = useRef();
  const line = useRef();
  const band = useRef();
  const press = useRef(null);
  const [hint, setHint] = useState(null);
  const width = useWidth(root);
  const plot = Math.max(1, width - LEFT - RIGHT);
  const timeAt = (x) => range.start + (x / plot) * (range.end - range.start);
  const xOf = (time) => ((time - range.start) / (range.end - range.start)) * plot;

  useEffect(() => {
    const move = ({ detail: time }) => {
      const x = time == null ? -1 : xOf(time);
      line.current.style.display = x >= 0 && x <= plot ? "block" : "none";
      line.current.style.transform = `translateX(${x}px)`;
    };
    addEventListener(MARK, move);
    return () => removeEventListener(MARK, move);
  }, [range, plot]);

  const place = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    return { x: Math.min(Math.max(event.clientX - box.left, 0), plot), y: event.clientY - box.top };
  };
  const down = (event) => {
    if (event.button) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    press.current = place(event);
  };
  const move = (event) => {
    const at = place(event);
    announce(timeAt(at.x));
    if (press.current) {
      const from = Math.min(press.current.x, at.x);
      const wide = Math.abs(press.current.x - at.x);
      band.current.style.display = wide > 3 ? "block" : "none";
      band.current.style.left = `${from}px`;
      band.current.style.width = `${wide}px`;
    }
    setHint({ ...at, text: tip && tip(timeAt(at.x), at.y / height) });
  };
  const leave = () => { announce(null); setHint(null); };
  const up = (event) => {
    const from = press.current;
    press.current = null;
    band.current.style.display = "none";
    if (!from) return;
    const at = place(event);
    if (Math.abs(at.x - from.x) > 3) zoom(...[timeAt(from.x), timeAt(at.x)].sort((a, b) => a - b));
    else if (onPick) onPick(timeAt(at.x), at.y / height);
  };
  const cancel = () => { press.current = null; band.current.style.display = "none"; leave(); };

  return html`<div class="pane" ref=${root} role="img" aria-label=${label}>
    <div class="drawing" style=${{ height: `${height}px` }}>${width > 0 && draw(width, plot)}</div>
    <div class="over ${onPick ? "pick" : ""}" style=${{ left: `${LEFT}px`, right: `${RIGHT}px`, height: `${height}px` }}
      onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerLeave=${leave} onPointerCancel=${cancel}>
      <div class="cursor" ref=${line}></div><div class="band" ref=${band}></div>
      ${hint && hint.text && html`<div class="tip ${hint.x > plot / 2 ? "to-left" : ""}"
        style=${{ transform: `translate(${hint.x > plot / 2 ? `calc(${hint.x - 10}px - 100%)` : `${hint.x + 10}px`}, ${Math.min(hint.y + 8, height)}px)` }}>${hint.text}</div>`}
    </div>
    ${axis && width > 0 && html`<${TimeAxis} range=${range} plot=${plot} />`}
  </div>`;
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

export function TimeAxis({ range, plot }) {
  const span = range.end - range.start;
  const step = STEPS.find((one) => (one / span) * plot >= 76) || 604800;
  const zone = new Date(range.start * 1000).getTimezoneOffset() * 60;
  const first = Math.ceil((range.start - zone) / step) * step + zone;
  const ticks = [];
  for (let at = first; at <= range.end; at += step) ticks.push(at);
  const text = (at) => (step >= 86400 ? day(at).slice(5) : clock(at).slice(0, step < 60 ? 8 : 5));
  return html`<div class="axis" style=${{ marginLeft: `${LEFT}px`, width: `${plot}px` }} aria-hidden="true">
    ${ticks.map((at) => html`<span key=${at} style=${{ left: `${((at - range.start) / span) * plot}px` }}>${text(at)}</span>`)}
  </div>`;
}
