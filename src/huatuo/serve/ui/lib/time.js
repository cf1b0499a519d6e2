// One time range for all panels: live (the last N minutes) or fixed (from, to). Seconds since 1970.
import { createContext, useContext, useEffect, useState } from "./dom.js";
import { change } from "./url.js";

export const PRESETS = ["5m", "15m", "1h", "6h", "24h", "7d"];
const UNITS = { s: 1, m: 60, h: 3600, d: 86400 };

export function seconds(text) {
  const found = /^(\d+)([smhd])$/.exec(text || "");
  return found ? Number(found[1]) * UNITS[found[2]] : 900;
}

export const iso = (time) => new Date(time * 1000).toISOString();

export const Range = createContext(null);
export const useRange = () => useContext(Range);

function fixed(params) {
  const start = Date.parse(params.from) / 1000;
  const end = Date.parse(params.to) / 1000;
  return start < end ? { live: false, start, end } : null;
}

// A new object (and so a new reading of all panels) whenever time has moved on.
export function useMovingRange(params) {
  const [now, setNow] = useState(Date.now() / 1000);
  const span = seconds(params.range);
  const still = fixed(params);
  const every = Math.min(60, Math.max(10, span / 180));
  useEffect(() => {
    if (still) return undefined;
    const move = () => document.hidden || setNow(Date.now() / 1000);
    move();
    const timer = setInterval(move, every * 1000);
    document.addEventListener("visibilitychange", move);
    return () => { clearInterval(timer); document.removeEventListener("visibilitychange", move); };
  }, [Boolean(still), every]);
  return still || { live: true, span, start: now - span, end: now };
}

export function zoom(start, end) {
  if (end - start < 2) { const mid = (start + end) / 2; start = mid - 1; end = mid + 1; }
  change({ from: iso(start), to: iso(end) });
}

// Move by a share of the span, or widen and narrow it around its middle.
export function shift(range, share) {
  const by = (range.end - range.start) * share;
  if (range.end + by > Date.now() / 1000 + 1) return goLive(range.end - range.start);
  return zoom(range.start + by, range.end + by);
}

export function scale(range, factor) {
  const middle = (range.start + range.end) / 2;
  const half = ((range.end - range.start) / 2) * factor;
  zoom(middle - half, Math.min(middle + half, Date.now() / 1000));
}

export function goLive(span) {
  const near = PRESETS.find((preset) => seconds(preset) >= (span || 900) * 0.99) || "15m";
  change({ range: near });
}

// What the API wants.
export const period = (range) => ({ start: range.start.toFixed(3), end: range.end.toFixed(3) });
