// Which samples: a selector as chips, more of them from the labels that are there, or as text.
import { html, useState } from "../lib/dom.js";
import { shortName } from "../lib/format.js";
import { useData } from "../lib/load.js";
import { equal, parse, write } from "../lib/selector.js";
import { Pop } from "./pop.js";
import { Failed } from "./states.js";

const MOST = 200;
const FIRST = ["container", "comm", "pid"];
const rank = (name) => (FIRST.indexOf(name) + FIRST.length + 1) % (FIRST.length + 1);

// `q`: the selector; `set(q)`; `query`: what /profiles/labels is asked, without q.
export function Labels({ q, set, query }) {
  const matchers = parse(q);
  const shown = (matchers || []).map((one, i) => html`<button type="button" class="chip" key=${write([one])} title="Remove this filter"
    onClick=${() => set(write(matchers.filter((_, at) => at !== i)))}>${one.name} ${one.op === "=" ? "" : one.op} <b title=${one.value}>${(one.name === "container" ? shortName(one.value) : one.value) || "none"}</b> ✕</button>`);
  return html`${shown}${!matchers && html`<button type="button" class="chip" title="Remove this filter" onClick=${() => set("")}><b>${q}</b> ✕</button>`}
    <${Pop} title="+ Filter" label="Filter by label">${(close) => html`<${Choice} q=${q} matchers=${matchers || []} query=${query} set=${(next) => { close(); set(next); }} />`}<//>`;
}

function Choice({ q, matchers, query, set }) {
  const { data, error } = useData("profiles/labels", { ...query, q: parse(q) ? q : "" });
  const [name, choose] = useState("");
  const [find, setFind] = useState("");
  const taken = new Set(matchers.map((one) => one.name));
  const names = Object.keys((data || {}).labels || {}).filter((one) => !taken.has(one)).sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  const here = names.includes(name) ? name : names[0];
  const values = here ? data.labels[here].filter((value) => value.toLowerCase().includes(find.toLowerCase())) : [];
  return html`<${Text} q=${q} set=${set} />
    ${error ? html`<${Failed} error=${error} />` : !names.length ? html`<p class="state">${data ? "These samples have no other labels." : "Loading…"}</p>` : html`
    <div class="toggle" role="group" aria-label="Label">${names.map((one) => html`<button type="button" key=${one} aria-pressed=${one === here} class=${one === here ? "on" : ""} onClick=${() => { choose(one); setFind(""); }}>${one}</button>`)}</div>
    ${data.labels[here].length > 8 && html`<input type="search" aria-label="Find a value of ${here}" placeholder="Find" value=${find} onInput=${(event) => setFind(event.target.value)} />`}
    <ul class="values">${values.slice(0, MOST).map((value) => html`<li key=${value}><button type="button" title=${value} onClick=${() => set(write([...matchers, { name: here, op: "=", value }]))}>${(here === "container" ? shortName(value) : value) || html`<span class="dim">none</span>`}</button></li>`)}</ul>
    ${values.length > MOST && html`<p class="dim small">${values.length - MOST} more: find them by typing.</p>`}`}`;
}

// The selector as text, with a word on what is wrong with it.
export function Text({ q, set, label = "Selector" }) {
  const [problem, setProblem] = useState("");
  const submit = (event) => {
    event.preventDefault();
    const text = new FormData(event.target).get("q").trim();
    const matchers = parse(text);
    setProblem(matchers ? "" : `Not a selector; for example ${equal("container", "web")} or {comm=~"py.*"}`);
    if (matchers) set(write(matchers));
  };
  return html`<form class="selector" onSubmit=${submit}>
    <input name="q" aria-label=${label} class="code" autocomplete="off" spellcheck="false" placeholder=${'{container="web",comm=~"py.*"}'} defaultValue=${q} key=${q} aria-invalid=${problem ? "true" : undefined} />
    <button type="submit">Apply</button>${problem && html`<p class="wrong small" role="alert">${problem}</p>`}</form>`;
}
