// What there is to say about one frame: beside the pointer, and below the graph with what to do next.
import { html, useState } from "../lib/dom.js";
import { share, worth } from "../lib/worth.js";
import { Change } from "./functions.js";

const KINDS = { kernel: "kernel", native: "native", runtime: "runtime", jit: "just-in-time compiled" };

const placeOf = ({ kind, mapping, file, line }) => [KINDS[kind] || kind, mapping, file && `${file}${line ? `:${line}` : ""}`].filter(Boolean).join(" · ");

// `model`: {tree, unit, factor, sample}; `fromLeaves`: no self times; `of`: what the shares are of, if not all.
export function Card({ model, node }) {
  const { tree, unit, factor, fromLeaves, of } = model;
  const frame = tree.frames[tree.frame[node]];
  const row = (title, now, before, whole) => html`<tr><th scope="row">${title}</th><td class="num">${share(now, whole)}</td><td class="num">${worth(now, unit)}</td>
    ${factor > 0 && html`<td class="num">${worth(before * factor, unit)}</td><td class="num"><${Change} now=${now} before=${before * factor} unit=${unit} /></td>`}</tr>`;
  const base = (column) => (factor ? tree[column][node] : 0);
  return html`<b class="fn">${frame.name}</b>${node > 0 && html`<div class="dim">${placeOf(frame)}</div>`}
    <table class="plain">${factor > 0 && html`<thead><tr><td></td><td></td><th class="num">now</th><th class="num">before</th><th class="num">change</th></tr></thead>`}
      <tbody>${row("total", tree.total[node], base("baseTotal"), tree.total[0])}
      ${!fromLeaves && row("self", tree.self[node], base("baseSelf"), tree.total[0])}</tbody></table>${of && html`<div class="dim">shares of ${of}</div>`}`;
}

export function Chosen({ model, node, sandwich, find, whole }) {
  const { tree, unit } = model;
  const [copied, set] = useState(0);
  const frame = tree.frames[tree.frame[node]];
  const copy = () => navigator.clipboard.writeText(frame.name).then(() => { set(node); setTimeout(() => set(0), 1500); }, () => set(0));
  if (!node) {
    return html`<p class="dim small"><span class="keys-only"><kbd>↑</kbd> <kbd>↓</kbd> <kbd>←</kbd> <kbd>→</kbd> walk · <kbd>+</kbd> <kbd>−</kbd> or ctrl + wheel zoom · <kbd>esc</kbd> back · <kbd>/</kbd> search · </span>choose a frame to make it fill the width</p>`;
  }
  return html`<p><b class="fn">${frame.name}</b> <span class="dim">${placeOf(frame)}</span></p>
    <p class="small"><span class="num">total ${share(tree.total[node], tree.total[0])} · ${worth(tree.total[node], unit)}</span>
      <span class="links">${sandwich && html`<a href=${sandwich(frame)}>callers and callees</a>`}
      ${find && html`<a href=${find(frame)}>find all</a>`}
      <button type="button" class="as-link" onClick=${copy}>${copied === node ? "copied" : "copy name"}</button>
      ${whole && html`<button type="button" class="as-link" onClick=${whole}>show all</button>`}</span></p>`;
}
