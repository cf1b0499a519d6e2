// Profiles: of which samples, over time, as flame graph, from the leaves, as sandwich, as table; and
// compared with another time or with other samples.
import { html, useContext, useEffect, useMemo, useRef, useState } from "../lib/dom.js";
import { functionsOf, inverted, matching, shareOf, treeOf } from "../lib/calltree.js";
import { ofChange, ofFrame } from "../lib/colors.js";
import { layoutOf, widthsOf } from "../lib/flamelayout.js";
import { lookOf } from "../lib/flamepaint.js";
import { clock } from "../lib/format.js";
import { useData } from "../lib/load.js";
import { iso, period, seconds, useRange } from "../lib/time.js";
import { change, current, href } from "../lib/url.js";
import { share } from "../lib/worth.js";
import { Audit, Changes, Kinds } from "../parts/audit.js";
import { Compare, baseOf, factorOf } from "../parts/compare.js";
import { Flame } from "../parts/flame.js";
import { Card, Chosen } from "../parts/frame.js";
import { Functions, rowsOf } from "../parts/functions.js";
import { Labels } from "../parts/labels.js";
import { useDark } from "../parts/pane.js";
import { Probes } from "../parts/probes.js";
import { NoSamples, titleOf } from "../parts/nosamples.js";
import { Samples, stepsOf } from "../parts/samples.js";
import { Sandwich } from "../parts/sandwich.js";
import { Failed, Loading } from "../parts/states.js";
import { TakeAway } from "../parts/takeaway.js";

const VIEWS = [["flame", "Flame graph"], ["icicle", "Icicle"], ["inverted", "Inverted"], ["sandwich", "Sandwich"], ["table", "Table"]];
const HELP = {
  flame: "from the start of the thread upwards", icicle: "from the start of the thread downwards", sandwich: "one function between its callers and what it calls",
  inverted: "from the functions in which the time is spent to those that called them", table: "all functions, sorted",
};
const MAX_NODES = 100000;
const RENEW_SECONDS = 60;
const UNTIL_STORED = 10; // seconds

const nowOf = (range) => ({ ...range, start: Date.now() / 1000 - range.span, end: Date.now() / 1000 });

// A graph that changes under one's eyes is of no use: while following the present, the time stands
// still until somebody asks, or nobody has touched anything for a while.
function useHeld(range, untouched) {
  const [turn, setTurn] = useState(0);
  const held = useMemo(() => (turn && range.live ? nowOf(range) : range), [range.live ? `live ${range.span}` : `${range.start} ${range.end}`, turn]);
  const refresh = () => setTurn((old) => old + 1);
  useEffect(() => {
    const busy = document.querySelector(".flame-box:hover, .flame-box:focus, .samples:hover, details[open], tr:hover");
    if (range.live && range.end - held.end > RENEW_SECONDS && untouched && !busy) refresh();
  }, [range]);
  return [held, refresh];
}

// A time that is not over yet is read again until it is.
function useAgain(range) {
  const [turn, setTurn] = useState(0);
  const open = !range.live && range.end > Date.now() / 1000 - UNTIL_STORED;
  useEffect(() => {
    if (!open) return undefined;
    const timer = setInterval(() => setTurn((old) => old + 1), UNTIL_STORED * 1000);
    return () => clearInterval(timer);
  }, [open, range.end]);
  return turn;
}

// The time around the one that was brushed, which the heatmap goes on showing: FROM/TO, or 1h@TO if it
// was following the present.
function aroundOf(text = "", range) {
  const [left, right] = text.split(/[/@]/);
  const end = Date.parse(right) / 1000;
  const start = text.includes("@") ? end - seconds(left) : Date.parse(left) / 1000;
  if (range.live || !(start <= range.start + 0.002 && end >= range.end - 1)) return null;
  return { start, end, back: text.includes("@") ? { range: left } : { from: left, to: right } };
}

export function ProfilesPage({ params }) {
  const range = useRange();
  const [held, refresh] = useHeld(range, !params.at && !params.find);
  const again = useAgain(held);
  const { probes } = useContext(Probes);
  const types = useData("profiles", period(held), again);
  const known = types.data ? types.data.types : [];
  const type = params.type || ((known.find((one) => one.name === "cpu") || known[0] || { name: types.data ? "cpu" : "" }).name);
  const query = { type, ...period(held), q: params.q };
  const base = baseOf(params, held);
  const flame = { ...query, max_nodes: MAX_NODES, ...(base.known ? { base_start: base.start.toFixed(3), base_end: base.end.toFixed(3), base_q: base.way === "selector" ? base.q || "{}" : "" } : {}) };
  const { data: answer, error, stale } = useData(type ? "profiles/flame" : "", flame, again);
  const isGauge = (known.find((one) => one.name === type) || {}).is_gauge;
  const title = titleOf(type, known, answer);
  const empty = answer && !answer.total && !answer.base_total;
  return html`<div class="filters"><h1 class="quiet">Profiles</h1>
      <${Types} type=${type} known=${known} probes=${probes} />
      <${Labels} q=${params.q || ""} set=${(q) => change({ q, at: "" })} query=${{ type, ...period(held) }} />
      <span class="spread"></span>
      <${TakeAway} query=${query} flame=${flame} range=${held} />
    </div>
    <${Overview} params=${params} held=${held} again=${again} type=${type} title=${title} isGauge=${isGauge} base=${base} refresh=${refresh} quiet=${Boolean(error)} />
    ${error ? html`<${Failed} error=${error} />` : types.error ? html`<${Failed} error=${types.error} />` : !answer ? html`<${Loading} what="Merging the samples" />`
      : empty ? html`<${NoSamples} type=${type} title=${title} known=${known} q=${params.q} range=${held} />`
        : html`<div class=${stale ? "stale" : ""}><${Views} params=${params} answer=${answer} base=${base} held=${held} isGauge=${isGauge} /></div>`}`;
}

// The types with samples, and those whose profiler is known though it has measured nothing.
function Types({ type, known, probes }) {
  const rest = probes.filter((probe) => probe.name.startsWith("profile.")).map((probe) => probe.name.slice(8));
  const without = [...new Set([...rest, ...(type ? [type] : [])])].filter((name) => !known.some((one) => one.name === name));
  return html`<label><span class="hidden">Type of profile</span><select aria-label="Type of profile" value=${type} onChange=${(event) => change({ type: event.target.value, at: "" })}>
    ${known.map((one) => html`<option key=${one.name} value=${one.name}>${one.title}</option>`)}
    ${without.map((name) => html`<option key=${name} value=${name}>${name} (no samples)</option>`)}</select></label>`;
}

// When: all samples of the time around as a heatmap, with what is chosen of it.
// What is wrong is said once, below.
function Overview({ params, held, again, type, title, isGauge, base, refresh, quiet }) {
  const outer = aroundOf(params.around, held) || held;
  const steps = stepsOf(outer, isGauge);
  const { data, error } = useData(type ? "profiles/heatmap" : "", { type, start: steps.start.toFixed(3), end: steps.end.toFixed(3), q: params.q, step: steps.step }, again);
  const text = outer.back ? params.around : held.live ? `${params.range || "15m"}@${iso(held.end)}` : `${iso(held.start)}/${iso(held.end)}`;
  const brush = (start, end) => (params.base === "brush"
    ? change({ base: `${iso(start)}/${iso(end)}` })
    : change({ from: iso(start), to: iso(end), around: text }));
  const marks = [
    ...(outer.back ? [{ ...held, color: "--text" }] : []),
    ...(base.known && base.end > outer.start && base.start < outer.end && base.way !== "selector" ? [{ start: Math.max(base.start, outer.start), end: Math.min(base.end, outer.end), color: "--warn" }] : []),
  ];
  const { from, to, range, around, ...rest } = params;
  return html`<section class="when" aria-label="Samples over time">
    ${error && !quiet ? html`<${Failed} error=${error} />` : html`<${Samples} data=${data} steps=${steps} range=${outer} marks=${marks} unit=${data && title.unit} title=${title.text} onBrush=${brush} />`}
    <p class="dim small">${outer.back
      ? html`<b>${clock(held.start, 3)} – ${clock(held.end, 3)}</b> is chosen · <a href=${href("profiles", { ...rest, ...outer.back })}>back to ${clock(outer.start)} – ${clock(outer.end)}</a> · <a href=${href("profiles", { ...rest, from, to })}>enlarge</a>`
      : html`<span class="how">A column is ${steps.column >= 60 ? `${steps.column / 60} min` : `${steps.column} s`}${isGauge ? "" : ", read upwards"}. Drag from cell to cell to choose a time, click for one column.</span>`}
      ${held.live && html` <span class="as-of">as of ${clock(held.end)} · <button type="button" class="as-link" onClick=${refresh}>Refresh</button></span>`}</p>
  </section>`;
}

function Views({ params, answer, base, held, isGauge }) {
  const dark = useDark();
  const view = VIEWS.some(([name]) => name === params.view) ? params.view : "flame";
  const factor = base.known ? factorOf(answer, base, held, isGauge) : 0;
  const sample = answer.samples ? answer.total / answer.samples : 1;
  const whole = useMemo(() => treeOf(answer), [answer]);
  const tree = useMemo(() => (view === "inverted" ? inverted(whole) : whole), [whole, view === "inverted"]);
  const layout = useMemo(() => layoutOf(tree, widthsOf(tree, factor)), [tree, factor]);
  const search = useMemo(() => (params.find ? matching(whole.frames, params.find) : { marks: null, problem: "" }), [whole, params.find]);
  const look = useMemo(() => lookOf(layout, { marks: search.marks, factor, sample }), [layout, search, dark]);
  const rows = useMemo(() => rowsOf(functionsOf(whole), whole.frames, factor), [whole, factor]);
  const model = { tree, unit: answer.unit, factor, sample, fromLeaves: view === "inverted" };
  const to = (more) => href("profiles", { ...current().params, ...more });
  const sandwich = (frame) => to({ view: "sandwich", fn: frame.name, lib: frame.mapping, at: "" });
  const find = (frame) => to({ find: `^${frame.name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$` });
  const table = { rows, marks: search.marks, unit: answer.unit, total: answer.total, sort: params.sort, setSort: (sort) => change({ sort }), pick: sandwich };
  const zoom = (at, replace) => change({ at }, replace);
  return html`<${Audit} answer=${answer} base=${base.known && base.text} />
    <div class="filters">
      <span class="toggle" role="group" aria-label="Shown as">${VIEWS.map(([name, text]) => html`<a key=${name} class=${name === view ? "on" : ""} aria-current=${name === view ? "true" : undefined} title=${HELP[name]} href=${to({ view: name === "flame" ? "" : name, at: "" })}>${text}</a>`)}</span>
      <${Search} text=${params.find || ""} search=${search} tree=${tree} />
      <span class="spread"></span><${Compare} base=${base} q=${params.q} set=${change} />
    </div>
    ${view !== "table" && (factor > 0 ? html`<${Changes} colorOf=${ofChange} />` : html`<${Kinds} tree=${whole} colorOf=${ofFrame} />`)}
    ${view === "table" ? html`<${Functions} ...${table} compared=${factor > 0} />`
      : view === "sandwich" ? html`<${Sandwich} ...${table} model=${{ ...model, tree: whole }} fn=${params.fn} lib=${params.lib} find=${find} dark=${dark} />`
        : html`<${Flame} key=${view} layout=${layout} look=${look} at=${params.at || ""} onZoom=${zoom} upward=${view === "flame"}
          label=${`${answer.title} as ${view}: ${tree.size - 1} frames; as a table: view Table`} onKey=${(key, node) => key === "s" && node > 0 && (() => { location.hash = sandwich(tree.frames[tree.frame[node]]); })}
          card=${(node) => html`<${Card} model=${model} node=${node} />`}
          bar=${(node) => html`<${Chosen} model=${model} node=${node} sandwich=${sandwich} find=${find} whole=${params.at && (() => zoom(""))} />`} />`}`;
}

// The share of what matches stands beside the field.
function Search({ text, search, tree }) {
  const typed = useRef();
  const { found, share: part } = useMemo(() => (search.marks ? shareOf(tree, search.marks, tree.total) : { found: 0, share: 0 }), [search, tree]);
  const type = (event) => {
    clearTimeout(typed.current);
    typed.current = setTimeout(() => change({ find: event.target.value }, true), 150);
  };
  return html`<label class="search"><span class="hidden">Search functions, files, libraries</span>
      <input type="search" id="search" placeholder="Search, regular expression   /" value=${text} onInput=${type} autocomplete="off" spellcheck="false" /></label>
    ${text && html`<span class="found" role="status" title=${search.problem}><b>${share(part, 1)}</b> in ${found} frame${found === 1 ? "" : "s"}${search.problem && html` <span class="dim small">as plain text</span>`}</span>`}`;
}
