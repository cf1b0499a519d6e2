// Numbers with their units, for people.
const SIZES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function digits(value, count = 3) {
  if (value === 0) return "0";
  const text = Number(value).toPrecision(count);
  return text.includes("e") ? String(Number(text)) : text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

export function duration(value) {
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-6) return `${digits(value * 1e9)} ns`;
  if (size < 1e-3) return `${digits(value * 1e6)} µs`;
  if (size < 1) return `${digits(value * 1e3)} ms`;
  if (size < 120) return `${digits(value)} s`;
  if (size < 7200) return `${digits(value / 60)} min`;
  return `${digits(value / 3600)} h`;
}

export function bytes(value) {
  let step = 0;
  while (Math.abs(value) >= 1024 && step < SIZES.length - 1) { value /= 1024; step += 1; }
  return `${digits(value)} ${SIZES[step]}`;
}

export function count(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${digits(value / 1e9)} G`;
  if (size >= 1e6) return `${digits(value / 1e6)} M`;
  if (size >= 1e4) return `${digits(value / 1e3)} k`;
  return size > 0 && size < 0.001 ? value.toExponential(1) : digits(value, size >= 1000 ? 4 : 3);
}

export const percent = (value) => (value > 0 && value < 0.00005 ? "<0.01 %" : `${digits(value * 100, value >= 1 ? 3 : 2)} %`);

const KINDS = {
  seconds: duration,
  bytes,
  ratio: percent,
  cores: (value) => (value > 0 && value < 0.005 ? "<0.01 CPU" : `${value.toFixed(value < 10 ? 2 : 1)} CPU`),
  "seconds/second": (value) => `${digits(value)} s/s`,
  "bytes/second": (value) => `${bytes(value)}/s`,
  "per second": (value) => `${count(value)}/s`,
  "packets/second": (value) => `${count(value)} packets/s`,
  hertz: (value) => `${count(value)}Hz`,
  celsius: (value) => `${digits(value)} °C`,
};

export function show(value, unit) {
  if (value == null || Number.isNaN(value)) return "–";
  return (KINDS[unit] || count)(value);
}

// A field of an event by the unit in its name: wait_ns, size_bytes.
export function field(name, value) {
  if (typeof value === "number") {
    if (name.endsWith("_ns")) return duration(value / 1e9);
    if (name.endsWith("_bytes")) return bytes(value);
    if (name.endsWith("_ratio")) return percent(value);
    return String(value);
  }
  return typeof value === "object" ? null : String(value);
}

const pad = (number, width = 2) => String(number).padStart(width, "0");

export function clock(time, fraction = 0) {
  const at = new Date(time * 1000);
  const text = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  return fraction ? `${text}.${pad(at.getMilliseconds(), 3)}` : text;
}

export function day(time) {
  const at = new Date(time * 1000);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
}

export const moment = (time) => `${day(time)} ${clock(time)}`;

export function ago(time) {
  const past = Date.now() / 1000 - time;
  if (past < 5) return "now";
  if (past < 120) return `${Math.round(past)} s ago`;
  if (past < 7200) return `${Math.round(past / 60)} min ago`;
  return past < 172800 ? `${Math.round(past / 3600)} h ago` : `${Math.round(past / 86400)} d ago`;
}

export const eventTime = (event) => Date.parse(event.time) / 1000;

// A cgroup's path is long and mostly hexadecimal: the end tells it apart.
export function shortName(name) {
  if (!name || name === "/") return "host";
  const parts = name.split("/").filter(Boolean).slice(-2);
  return parts.map((part) => part.replace(/[0-9a-f]{12,}/g, (id) => `${id.slice(0, 8)}…`)).join("/");
}

// A metric's name without what all of them share.
export const short = (name) => name.replace(/^huatuo_/, "");
export const labelText = (labels) => Object.values(labels).map(shortName).join(" · ") || "all";
