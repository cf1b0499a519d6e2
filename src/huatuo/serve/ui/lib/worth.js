// Values of profiles with their units, and what a change is worth.
import { bytes, count, duration, percent } from "./format.js";

export function worth(value, unit) {
  if (unit === "nanoseconds") return duration(value / 1e9);
  return unit === "bytes" ? bytes(value) : count(value);
}

export const signed = (value, unit) => `${value > 0 ? "+" : value < 0 ? "−" : "±"}${worth(Math.abs(value), unit)}`;

// One decimal throughout, so that shares line up and are easily compared.
export const share = (part, whole) => (whole ? (part > 0 && part / whole < 0.0005 ? "<0.1 %" : `${((part / whole) * 100).toFixed(1)} %`) : "–");

// Relative change in words.
export function change(now, before) {
  if (!before) return now ? "new" : "same";
  if (!now) return "gone";
  const by = now / before - 1;
  if (Math.abs(by) < 0.0005) return "same";
  return by >= 9 ? `×${(by + 1).toPrecision(2)}` : `${by > 0 ? "+" : "−"}${percent(Math.abs(by))}`;
}

// From −1 (all of it is gone) over 0 to 1 (all of it is new); nearer to 0 the less certain it is, from
// so few samples, that anything has changed at all. `sample`: what one sample is worth.
export function tendency(now, before, sample) {
  if (now === before) return 0;
  const errors = Math.abs(now - before) / Math.sqrt((now + before) * sample);
  return ((now - before) / Math.max(now, before)) * Math.min(1, errors / 3);
}
