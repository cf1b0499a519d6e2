// A call tree as a flame graph: pan, zoom, keyboard, what is pointed at. Drawn by lib/flamepaint.js
// on a canvas that stays in sight while the box around it scrolls.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/dom.js";
import { beside, nodeAt, nodeOfKey, pathKey, widestChild } from "../lib/flamelayout.js";
import { ROW, levelAt, outline, paint, topOf } from "../lib/flamepaint.js";
import { useWidth } from "./pane.js";

const NARROW = 40; // px; the keys widen the view until the chosen frame has as much
const BELOW = 66; // px that stay free for the line below the graph
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// `at`: the key of the frame that fills the width, `onZoom(key, replace)`; without them it keeps its own.
// `room`: how much of the window's height it may take; 0: what is left below it.
// `card(node)`: what is said of a frame; `bar(node)`: below the graph, of the one that is chosen.
export function Flame({ layout, look, at = "", onZoom, upward = false, card, bar, label, room = 0, onKey }) {
  const [own, setOwn] = useState("");
  const [hint, setHint] = useState(null);
  const [chosen, choose] = useState(0);
  const box = useRef();
  const canvas = useRef();
  const strip = useRef();
  const width = useWidth(box);
  const tall = layout.levels.length * ROW;
  const [left, setLeft] = useState(0);
  const height = Math.min(tall, Math.max(14 * ROW, Math.round(room ? innerHeight * room : left)));
  const state = useRef({ x0: 0, x1: 1, past: [] });
  const key = onZoom ? at : own;
  const zoom = onZoom || setOwn;
  const self = { layout, look, upward, width, height, tall, key, zoom, chosen, choose, setHint, box, state: state.current, hint };

  const frame = useRef(0);
  const latest = useRef();
  latest.current = self;
  const draw = () => {
    if (frame.current) return;
    frame.current = requestAnimationFrame(() => {
      frame.current = 0;
      if (canvas.current) redraw(latest.current, canvas.current, strip);
    });
  };
  self.draw = draw;
  useEffect(() => () => cancelAnimationFrame(frame.current), []);
  useLayoutEffect(() => setLeft(innerHeight - box.current.getBoundingClientRect().top - scrollY - BELOW), [width]);
  useLayoutEffect(() => { show(self, nodeOfKey(layout, key), false); choose(0); setHint(null); }, [layout]);
  useEffect(() => { show(self, nodeOfKey(layout, key), true); }, [key]);
  useLayoutEffect(() => reveal(self, nodeOfKey(layout, key), 3), [height]);
  useLayoutEffect(() => { if (width && canvas.current) redraw(self, canvas.current, strip); }, [layout, look, width, height, upward]);
  useEffect(draw, [chosen, hint && hint.node]);
  useEffect(() => {
    const wheel = (event) => onWheel(latest.current, event);
    const target = box.current;
    target.addEventListener("wheel", wheel, { passive: false });
    return () => target.removeEventListener("wheel", wheel);
  }, []);

  const hand = useRef(new Map());
  return html`<div class="flame">
    <div class="flame-box" ref=${box} tabindex="0" role="application" aria-roledescription="flame graph" aria-label=${label} style=${{ height: `${height}px` }}
      onScroll=${draw} onKeyDown=${(event) => onKeyDown(self, event, onKey)} onPointerDown=${(event) => down(self, hand.current, event)}
      onPointerMove=${(event) => move(self, hand.current, event)} onPointerUp=${(event) => up(self, hand.current, event)}
      onPointerCancel=${() => hand.current.clear()} onPointerLeave=${() => setHint(null)}>
      <div style=${{ height: `${tall}px` }}><canvas ref=${canvas} style=${{ width: `${width}px`, height: `${height}px` }}></canvas></div>
    </div>
    ${hint && hint.node >= 0 && html`<div class="tip" style=${tipStyle(hint, width, height)}>${card(hint.node)}</div>`}
    ${bar && html`<div class="flame-bar" aria-live="polite">${bar(chosen)}</div>`}
  </div>`;
}

const tipStyle = ({ x, y }, width, height) => ({
  transform: `translate(${x > width / 2 ? `calc(${x - 12}px - 100%)` : `${x + 12}px`}, ${y > height / 2 ? `calc(${y - 8}px - 100%)` : `${y + 14}px`})`,
});

const viewOf = ({ state, box, width, height, upward }) => ({ x0: state.x0, x1: state.x1, top: box.current ? box.current.scrollTop : 0, width, height, upward });

function redraw(self, canvas, strip) {
  if (!self.width || !self.height) return;
  strip.current = strip.current || document.createElement("canvas");
  const view = viewOf(self);
  const { layout, look, chosen, hint } = self;
  paint(canvas, strip.current, layout, look, view);
  if (chosen) outline(canvas, layout, view, chosen, "--accent", 2);
  if (hint && hint.node > 0 && hint.node !== chosen) outline(canvas, layout, view, hint.node, "--text", 1);
}

// ---- the part that is in sight ----

// The whole view on one node, by and by unless the user's system asks for calm.
function show(self, node, slowly) {
  const { layout, state, box } = self;
  const target = { x0: layout.start[node], x1: layout.start[node] + (layout.value[node] || 1) };
  if (box.current) reveal(self, node, 3);
  glide(self, target, slowly && !calm.matches);
}

function glide(self, target, slowly) {
  const { state } = self;
  cancelAnimationFrame(state.gliding);
  if (!slowly || (target.x0 === state.x0 && target.x1 === state.x1)) { Object.assign(state, target); self.draw(); return; }
  const from = { x0: state.x0, x1: state.x1 };
  const began = performance.now();
  const step = (now) => {
    const part = Math.min(1, Math.max(0, now - began) / 160);
    const eased = 1 - (1 - part) ** 3;
    for (const side of ["x0", "x1"]) state[side] = from[side] + (target[side] - from[side]) * eased;
    self.draw();
    if (part < 1) state.gliding = requestAnimationFrame(step);
  };
  state.gliding = requestAnimationFrame(step);
}

// Scroll so that a node's row is in sight, `room` rows away from the root's side; 0: only if it is not.
function reveal({ layout, box, height, tall, upward }, node, room) {
  const y = topOf(layout, { top: 0, upward }, layout.depth[node]);
  const now = box.current.scrollTop;
  if (!room && y >= now && y + ROW <= now + height) return;
  const before = upward ? y + ROW + room * ROW - height : y - room * ROW;
  box.current.scrollTop = Math.min(Math.max(0, room ? before : y - height / 2), tall);
}

function clamp(layout, x0, span) {
  const wide = Math.min(Math.max(span, layout.total / 1e7), layout.total);
  const left = Math.min(Math.max(0, x0), layout.total - wide);
  return { x0: left, x1: left + wide };
}

function scaleBy(self, factor, x) {
  const { state, layout, width } = self;
  const span = state.x1 - state.x0;
  const fixed = state.x0 + (x / width) * span;
  glide(self, clamp(layout, fixed - (fixed - state.x0) * factor, span * factor), false);
}

function panBy(self, pixels) {
  const { state, layout, width } = self;
  const span = state.x1 - state.x0;
  glide(self, clamp(layout, state.x0 + (pixels / width) * span, span), false);
}

// ---- mouse, touch ----

function place(self, event) {
  const bounds = self.box.current.getBoundingClientRect();
  return { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
}

function hit(self, { x, y }) {
  const { layout, state, width } = self;
  return nodeAt(layout, levelAt(layout, viewOf(self), y), state.x0 + (x / width) * (state.x1 - state.x0));
}

// A plain wheel scrolls the stack, then the page; with ctrl (a pinch on a trackpad is that too) it zooms.
function onWheel(self, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) {
    event.preventDefault();
    scaleBy(self, Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 150), place(self, event).x);
  } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    event.preventDefault();
    panBy(self, event.deltaX || event.deltaY);
  }
}

function down(self, hand, event) {
  if (event.button) return;
  hand.set(event.pointerId, { ...place(self, event), moved: hand.size > 0 });
}

function move(self, hand, event) {
  const at = place(self, event);
  const before = hand.get(event.pointerId);
  if (!before) { if (event.pointerType === "mouse") self.setHint({ ...at, node: hit(self, at) }); return; }
  if (hand.size === 2) pinch(self, hand, event.pointerId, at);
  else if (before.moved || Math.hypot(at.x - before.x, at.y - before.y) > 4) {
    event.currentTarget.setPointerCapture(event.pointerId);
    self.setHint(null);
    panBy(self, before.x - at.x);
    if (event.pointerType === "mouse") self.box.current.scrollTop += before.y - at.y;
    hand.set(event.pointerId, { ...at, moved: true });
  }
}

function pinch(self, hand, id, at) {
  const [other] = [...hand].filter(([one]) => one !== id).map(([, one]) => one);
  const apart = (one) => Math.max(8, Math.abs(one.x - other.x));
  scaleBy(self, apart(hand.get(id)) / apart(at), (at.x + other.x) / 2);
  hand.set(id, { ...at, moved: true });
  other.moved = true;
}

function up(self, hand, event) {
  const before = hand.get(event.pointerId);
  hand.delete(event.pointerId);
  const node = before && !before.moved ? hit(self, place(self, event)) : -1;
  if (node < 0) return;
  self.choose(node);
  if (event.pointerType === "mouse") self.setHint(null);
  enter(self, node);
}

function enter(self, node) {
  const key = pathKey(self.layout, node);
  if (key === self.key) { show(self, node, true); return; }
  self.state.past.push(self.key);
  self.zoom(key);
}

// Back to what was seen before the last zoom; false if there is nothing to go back to.
function leave(self) {
  const { layout, state } = self;
  if (self.key || state.past.length) { self.zoom(state.past.pop() || "", true); return true; }
  if (state.x0 <= 0 && state.x1 >= layout.total) return false;
  show(self, 0, true);
  return true;
}

// ---- keyboard ----

function walk(self, node) {
  if (node < 0) return;
  const { layout, state, width } = self;
  self.choose(node);
  self.setHint(null);
  reveal(self, node, 0);
  const span = state.x1 - state.x0;
  const start = layout.start[node];
  const wide = layout.value[node];
  if ((wide / span) * width < NARROW) glide(self, clamp(layout, start - wide * 3, wide * 7), !calm.matches);
  else if (start + wide <= state.x0 || start >= state.x1) glide(self, clamp(layout, start + wide / 2 - span / 2, span), !calm.matches);
}

function onKeyDown(self, event, onKey) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { layout, chosen, upward, width } = self;
  const out = () => walk(self, Math.max(0, layout.tree.parent[chosen]));
  const into = () => walk(self, widestChild(layout, chosen));
  const middle = () => ((layout.start[chosen] + layout.value[chosen] / 2 - self.state.x0) / (self.state.x1 - self.state.x0)) * width;
  const focus = () => Math.min(width, Math.max(0, middle()));
  const act = {
    ArrowUp: upward ? into : out, ArrowDown: upward ? out : into,
    ArrowLeft: () => (event.shiftKey ? panBy(self, -width / 4) : walk(self, beside(layout, chosen, -1))),
    ArrowRight: () => (event.shiftKey ? panBy(self, width / 4) : walk(self, beside(layout, chosen, 1))),
    Enter: () => enter(self, chosen), " ": () => enter(self, chosen),
    "+": () => scaleBy(self, 0.7, focus()), "=": () => scaleBy(self, 0.7, focus()), "-": () => scaleBy(self, 1 / 0.7, focus()),
    Home: () => enter(self, 0),
    Escape: () => leave(self),
  }[event.key] || (onKey && onKey(event.key, chosen));
  if (!act || act() === false) return;
  event.preventDefault();
  event.stopPropagation();
}
