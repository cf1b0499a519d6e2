// The events of the range and, while following the present, whatever happens after it.
import { useEffect, useRef, useState } from "./dom.js";
import { get, stream } from "./api.js";
import { period } from "./time.js";

const MOST = 500;

function added(old, event, most) {
  if (old.events.some((one) => one.id === event.id)) return old;
  const events = [event, ...old.events].slice(0, most);
  return { ...old, events, before: events.length === most ? events.at(-1).id : old.before };
}

export function useEvents(filters, range, limit = 100) {
  const [state, set] = useState({ events: null, error: null, before: 0, connected: false, fresh: 0 });
  const bounds = range.live ? `live ${range.span}` : `${range.start} ${range.end}`;
  const time = useRef();
  time.current = range.live ? { start: range.start.toFixed(3) } : period(range);
  useEffect(() => {
    const stop = new AbortController();
    let end = () => {};
    const follow = () => stream(
      filters,
      (event) => set((old) => added(old, event, limit < 50 ? limit : MOST)),
      (connected) => set((old) => ({ ...old, connected })),
    );
    get("events", { ...filters, ...time.current, limit }, stop.signal).then(
      (page) => {
        const newest = page.events.length ? page.events[0].id : 0;
        set({ events: page.events, error: null, before: page.next_before, connected: false, fresh: newest + 1 });
        if (range.live && !stop.signal.aborted) end = follow();
      },
      (error) => error.name === "AbortError" || set((old) => ({ ...old, error })),
    );
    return () => { stop.abort(); end(); };
  }, [JSON.stringify(filters), bounds, limit]);
  const older = () => get("events", { ...filters, ...time.current, limit, before: state.before }).then(
    (page) => set((old) => ({ ...old, events: [...old.events, ...page.events], before: page.next_before })),
    (error) => set((old) => ({ ...old, error })),
  );
  return { ...state, more: state.before ? older : null };
}
