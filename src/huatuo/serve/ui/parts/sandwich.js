// One function between those that call it and those that it calls.
import { html, useMemo } from "../lib/dom.js";
import { calleesOf, callersOf } from "../lib/calltree.js";
import { layoutOf, widthsOf } from "../lib/flamelayout.js";
import { lookOf } from "../lib/flamepaint.js";
import { Flame } from "./flame.js";
import { Card, Chosen } from "./frame.js";
import { Functions } from "./functions.js";
import { Empty } from "./states.js";

export function Sandwich({ model, rows, marks, fn, lib, pick, find, sort, setSort, dark, total }) {
  const { tree, unit } = model;
  const frame = fn ? tree.frames.findIndex((one, i) => i && one.name === fn && (!lib || one.mapping === lib)) : firstOf(rows);
  return html`<div class="sandwich">
    <div class="picker"><${Functions} rows=${rows} marks=${marks} total=${total} unit=${unit} sort=${sort} setSort=${setSort} pick=${pick} chosen=${frame} slim=${true} /></div>
    <div>${frame > 0 ? html`<${Halves} key=${frame} model=${model} frame=${frame} marks=${marks} pick=${pick} find=${find} dark=${dark} />`
      : html`<${Empty}><b>${fn}</b> is not in this profile. Choose a function from the table.<//>`}</div>
  </div>`;
}

const firstOf = (rows) => rows.reduce((best, row) => (best && best.self >= row.self ? best : row), null)?.frame ?? -1;

function Halves({ model, frame, marks, pick, find, dark }) {
  const { tree } = model;
  const { name } = tree.frames[frame];
  const halves = useMemo(() => [["Called by", callersOf(tree, frame), true], ["Calls", calleesOf(tree, frame), false]], [tree, frame]);
  return halves.map(([title, half, upward]) => html`<section key=${title}><h2>${title}</h2>
    <${Half} model=${{ ...model, tree: half, fromLeaves: upward, of: name }} upward=${upward} marks=${marks} pick=${pick} find=${find} dark=${dark}
      label=${`${title}: ${upward ? "the callers of" : "what is called by"} ${name}`} /></section>`);
}

function Half({ model, upward, marks, pick, find, dark, label }) {
  const { tree, factor, sample } = model;
  const layout = useMemo(() => layoutOf(tree, widthsOf(tree, factor)), [tree, factor]);
  const look = useMemo(() => lookOf(layout, { marks, factor, sample }), [layout, marks, dark]);
  return html`<${Flame} layout=${layout} look=${look} upward=${upward} label=${label} room=${0.36}
    card=${(node) => html`<${Card} model=${model} node=${node} />`} bar=${(node) => node > 0 && html`<${Chosen} model=${model} node=${node} sandwich=${pick} find=${find} />`} />`;
}
