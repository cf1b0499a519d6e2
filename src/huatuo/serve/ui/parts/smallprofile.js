// The profile of one container beside its other signals: a flame graph, the functions that stand out,
// and the way to the whole page.
import { html, useMemo, useState } from "../lib/dom.js";
import { functionsOf, treeOf } from "../lib/calltree.js";
import { layoutOf } from "../lib/flamelayout.js";
import { lookOf } from "../lib/flamepaint.js";
import { useData } from "../lib/load.js";
import { equal } from "../lib/selector.js";
import { period } from "../lib/time.js";
import { href } from "../lib/url.js";
import { share, worth } from "../lib/worth.js";
import { Audit } from "./audit.js";
import { Flame } from "./flame.js";
import { Card, Chosen } from "./frame.js";
import { useDark } from "./pane.js";
import { Empty, Failed, Loading } from "./states.js";

const MAX_NODES = 3000;
const RENEW_SECONDS = 60; // while following the present
const MOST = 10; // functions

export function SmallProfile({ container, range }) {
  const held = useMemo(() => range, [range.live ? Math.floor(range.end / RENEW_SECONDS) : `${range.start} ${range.end}`, range.span]);
  const [wanted, choose] = useState("");
  const q = equal("container", container);
  const types = useData("profiles", period(held));
  const known = types.data ? types.data.types : [];
  const type = (known.find((one) => one.name === wanted) || known.find((one) => one.name === "cpu") || known[0] || { name: "" }).name;
  const { data: answer, error } = useData(type ? "profiles/flame" : "", { type, q, ...period(held), max_nodes: MAX_NODES });
  const to = (more) => href("profiles", { type, q, ...more });
  return html`<div class="filters"><h2 id="title-profile">Profile</h2>
      ${known.length > 1 && html`<select aria-label="Type of profile" value=${type} onChange=${(event) => choose(event.target.value)}>${known.map((one) => html`<option key=${one.name} value=${one.name}>${one.title}</option>`)}</select>`}
      ${type && html`<a href=${to({})}>whole page</a>`}</div>
    ${error || types.error ? html`<${Failed} error=${error || types.error} />` : !types.data || (type && !answer) ? html`<${Loading} what="Merging the samples" />`
      : answer && answer.total ? html`<${Graph} answer=${answer} to=${to} />` : html`<${Empty}>No samples of it in this time range.<//>`}`;
}

function Graph({ answer, to }) {
  const dark = useDark();
  const tree = useMemo(() => treeOf(answer), [answer]);
  const layout = useMemo(() => layoutOf(tree, tree.total), [tree]);
  const look = useMemo(() => lookOf(layout, { marks: null, factor: 0 }), [layout, dark]);
  const sandwich = (frame) => to({ view: "sandwich", fn: frame.name, lib: frame.mapping });
  const model = { tree, unit: answer.unit, factor: 0 };
  return html`<${Audit} answer=${{ ...answer, dropped: 0 }} /><div class="small-profile">
    <${Flame} layout=${layout} look=${look} upward=${true} room=${0.3} label=${`${answer.title}: ${tree.size - 1} frames`}
      card=${(node) => html`<${Card} model=${model} node=${node} />`} bar=${(node) => node > 0 && html`<${Chosen} model=${model} node=${node} sandwich=${sandwich} />`} />
    <${Largest} tree=${tree} answer=${answer} pick=${sandwich} /></div>`;
}

function Largest({ tree, answer, pick }) {
  const rows = useMemo(() => functionsOf(tree).filter((row) => row.self && tree.frames[row.frame].kind).sort((a, b) => b.self - a.self).slice(0, MOST), [tree]);
  return html`<table class="bars"><caption>Spent in itself</caption><tbody>${rows.map((row) => {
    const frame = tree.frames[row.frame];
    return html`<tr key=${row.frame}><th scope="row"><a href=${pick(frame)} title=${`${frame.name} ${frame.mapping}`}>${frame.name}</a></th>
      <td class="num" title=${worth(row.self, answer.unit)}>${share(row.self, answer.total)}</td><td class="bar"><i style=${{ width: `${(row.self / rows[0].self) * 100}%` }}></i></td></tr>`;
  })}</tbody></table>`;
}
