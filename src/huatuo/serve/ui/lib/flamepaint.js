// Painting a layout. Every level is one line of pixels, written as numbers and stretched to the height
// of a row: a hundred thousand frames cost about as much as a hundred. Names are drawn over it.
import { firstAfter } from "./flamelayout.js";
import { css, ofChange, ofFrame } from "./colors.js";
import { tendency } from "./worth.js";

export const ROW = 19;
const GAP = 1;
const SMALLEST_TEXT = 34; // px of a frame that gets a name
const LONGEST = 200; // letters of a name that are looked at
const FONT = "12px system-ui, -apple-system, \"Segoe UI\", Roboto, sans-serif";

const pixel = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

// What tells functions apart when there is little room: no arguments, no templates, no path.
function brief(name) {
  if (!name.includes("::")) return name.split("/").pop() || name;
  const bare = name.replace(/\((?!\*|anonymous)[^()]*\)(?: const)?$/, "");
  let depth = 0;
  let text = "";
  for (const letter of bare) {
    if (letter === "<" && text) depth += 1;
    if (!depth) text += letter;
    if (letter === ">" && depth) depth -= 1;
  }
  const parts = text.split("::");
  return parts.slice(-2).join("::") || name;
}

// Names in three lengths with their widths, measured once.
class Names {
  constructor(frames) {
    this.frames = frames;
    this.full = new Map();
  }

  of(pen, number) {
    let known = this.full.get(number);
    if (!known) {
      const name = this.frames[number].name.slice(0, LONGEST);
      const short = brief(name);
      known = [name, short, short.split("::").pop()].map((text) => [text, pen.measureText(text).width]);
      this.full.set(number, known);
    }
    return known;
  }

  fitting(pen, number, room) {
    const forms = this.of(pen, number);
    const found = forms.find(([, width]) => width <= room);
    if (found) return found[0];
    const [last, width] = forms[2];
    const letters = Math.floor((room / width) * last.length) - 2;
    return letters > 2 ? `${last.slice(0, letters)}…` : "";
  }
}

export const topOf = (layout, view, level) => (view.upward ? layout.levels.length - 1 - level : level) * ROW - view.top;
export const levelAt = (layout, view, y) => {
  const row = Math.floor((y + view.top) / ROW);
  return view.upward ? layout.levels.length - 1 - row : row;
};

// Pixels of one level, cell by cell; `cells` gets [node, left, right] of those with room for a name.
function line(layout, view, level, scale, inks, small, out, at, wide, named) {
  const { start, value } = layout;
  const nodes = layout.levels[level];
  for (let i = firstAfter(layout, level, view.x0); i < nodes.length; i += 1) {
    const node = nodes[i];
    if (start[node] >= view.x1) break;
    const from = (start[node] - view.x0) * scale;
    const to = from + value[node] * scale;
    let left = Math.max(0, Math.round(from));
    const right = Math.min(wide, Math.round(to));
    if (right - left < 1) { // half a pixel and more is rounded up; what is less leaves a trace
      const place = Math.min(wide - 1, Math.max(0, Math.floor(from)));
      if (!out[at + place]) out[at + place] = small;
      continue;
    }
    const end = right - left > 3 ? right - 1 : right;
    const ink = inks[node];
    for (; left < end; left += 1) out[at + left] = ink;
    if (right - Math.max(0, from) >= named.least) named.cells.push(node, level, Math.max(0, from), right);
  }
}

// `look`: {inks, names, small, text}; `view`: {x0, x1, top, width, height, upward}; `strip`: a spare canvas.
export function paint(canvas, strip, layout, look, view) {
  const dots = devicePixelRatio || 1;
  const wide = Math.round(view.width * dots);
  const tall = Math.round(view.height * dots);
  if (canvas.width !== wide || canvas.height !== tall) { canvas.width = wide; canvas.height = tall; }
  const rows = layout.levels.map((_, level) => level).filter((level) => {
    const y = topOf(layout, view, level);
    return y > -ROW && y < view.height;
  });
  const out = new Uint32Array(wide * Math.max(1, rows.length));
  const named = { cells: [], least: SMALLEST_TEXT * dots };
  const scale = wide / (view.x1 - view.x0);
  rows.forEach((level, i) => line(layout, view, level, scale, look.inks, look.small, out, i * wide, wide, named));
  if (strip.width !== wide || strip.height < rows.length) { strip.width = wide; strip.height = Math.max(1, rows.length); }
  strip.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(out.buffer), wide, Math.max(1, rows.length)), 0, 0);
  const pen = canvas.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, wide, tall);
  pen.imageSmoothingEnabled = false;
  rows.forEach((level, i) => pen.drawImage(strip, 0, i, wide, 1, 0, Math.round(topOf(layout, view, level) * dots), wide, Math.round((ROW - GAP) * dots)));
  pen.scale(dots, dots);
  write(pen, layout, look, view, named.cells, dots);
  return named.cells.length / 4;
}

function write(pen, layout, look, view, cells, dots) {
  pen.font = FONT;
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  pen.fillStyle = look.text;
  for (let i = 0; i < cells.length; i += 4) {
    const left = cells[i + 2] / dots;
    const text = look.names.fitting(pen, layout.tree.frame[cells[i]], cells[i + 3] / dots - left - 8);
    if (text) pen.fillText(text, left + 4, topOf(layout, view, cells[i + 1]) + (ROW - GAP) / 2 + 0.5);
  }
}

// A frame around one node: what is pointed at, what is chosen.
export function outline(canvas, layout, view, node, color, width) {
  if (node < 0 || (node && !layout.value[node])) return;
  const scale = view.width / (view.x1 - view.x0);
  const left = Math.max(-4, (layout.start[node] - view.x0) * scale);
  const right = Math.min(view.width + 4, (layout.start[node] + layout.value[node] - view.x0) * scale);
  if (right < 0 || left > view.width) return;
  const pen = canvas.getContext("2d");
  pen.strokeStyle = css(color);
  pen.lineWidth = width;
  pen.strokeRect(left + width / 2, topOf(layout, view, layout.depth[node]) + width / 2 - 0.5, Math.max(1, right - left - width), ROW - GAP - width + 1);
}

const known = new WeakMap(); // names are measured once per answer

// How a layout is coloured: by kind, or by change where `factor` scales the other profile and `sample`
// is what one sample is worth; what is not marked by a search is faint.
export function lookOf(layout, { marks, factor, sample }) {
  const { tree } = layout;
  if (!known.has(tree.frames)) known.set(tree.frames, new Names(tree.frames));
  const quiet = hex(css("--line"));
  const faint = (color) => color.map((part, i) => Math.round(part + (quiet[i] - part) * 0.86));
  const ink = (color, frame) => pixel(marks && !marks[frame] ? faint(color) : color);
  const root = hex(css("--panel2"));
  const ofKind = factor ? null : tree.frames.map((frame, i) => ink(i ? ofFrame(frame) : root, i));
  const inks = new Uint32Array(tree.size);
  for (let i = 0; i < tree.size; i += 1) {
    inks[i] = factor ? ink(ofChange(tendency(tree.total[i], tree.baseTotal[i] * factor, sample)), tree.frame[i]) : ofKind[tree.frame[i]];
  }
  return { inks, names: known.get(tree.frames), small: pixel(hex(css("--line"))), text: css("--text") };
}

const hex = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
