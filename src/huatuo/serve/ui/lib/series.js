// A metric over the range. While following the present only what is new is asked for and put at the
// end; now and then, and whenever anything else changes, all of it is read again.
import { useEffect, useRef, useState } from "./dom.js";
import { get, url } from "./api.js";
import { period } from "./time.js";

const RENEW_SECONDS = 300;
const COLUMNS = ["values", "p50", "p99", "max", "count", "slots"];
const keyOf = (series) => JSON.stringify(series.labels);

// `params`: the query without its times; null: nothing to ask.
export function useSeries(params, range) {
  const key = params ? url("metrics/query", { ...params, span: range.live ? range.span : `${range.start} ${range.end}` }) : "";
  const [state, set] = useState({ key: "", answer: null, error: null });
  const known = useRef(state);
  known.current = state;
  useEffect(() => {
    if (!key) return undefined;
    const stop = new AbortController();
    const old = known.current.key === key ? known.current : null;
    const last = old && old.answer && old.answer.times.at(-1);
    const more = range.live && last && last > range.start && range.end - old.read < RENEW_SECONDS;
    const time = more ? { start: (last - 0.002).toFixed(3), end: range.end.toFixed(3) } : period(range);
    get("metrics/query", { ...params, ...time }, stop.signal).then(
      (answer) => set(more
        ? { ...old, answer: joined(old.answer, answer, range.start), error: null }
        : { key, answer, error: null, read: range.end }),
      (error) => error.name === "AbortError" || set({ key, answer: old && old.answer, error, read: old ? old.read : 0 }),
    );
    return () => stop.abort();
  }, [key, range]);
  return state.key === key ? state : { answer: null, error: null };
}

// The old answer without what has left the range, followed by the new one.
export function joined(old, fresh, start) {
  const last = old.times.at(-1);
  const skip = fresh.times.filter((time) => time <= last + 0.001).length;
  const drop = Math.max(0, old.times.filter((time) => time < start).length - 1);
  if (!fresh.times.length && !drop) return old;
  const times = [...old.times.slice(drop), ...fresh.times.slice(skip)];
  const both = new Map(old.series.map((series) => [keyOf(series), [series, null]]));
  for (const series of fresh.series) both.set(keyOf(series), [(both.get(keyOf(series)) || [null])[0], series]);
  const shape = { old: old.times.length, fresh: fresh.times.length, skip, drop };
  return {
    ...old, times, end: fresh.end, since: drop ? old.times[drop - 1] : old.since,
    series: [...both.values()].map(([left, right]) => oneSeries(left, right, shape)),
  };
}

function oneSeries(left, right, { old, fresh, skip, drop }) {
  const first = Math.min(...[left, right].filter(Boolean).map((one) => one.first_slot || 0));
  const result = { labels: (left || right).labels, first_slot: first };
  for (const column of COLUMNS) {
    if (!(left && left[column]) && !(right && right[column])) continue;
    const before = (left && left[column]) || new Array(old).fill(null);
    const after = (right && right[column]) || new Array(fresh).fill(null);
    const pad = (side) => (rows) => (column === "slots" ? rows.map((row) => shifted(row, ((side && side.first_slot) || 0) - first)) : rows);
    result[column] = [...pad(left)(before.slice(drop)), ...pad(right)(after.slice(skip))];
  }
  return result;
}

const shifted = (row, by) => (row && by > 0 ? [...new Array(by).fill(0), ...row] : row);
