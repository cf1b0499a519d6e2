// All functions of a profile as a table: self and total, and how they changed.
import { html, useMemo, useState } from "../lib/dom.js";
import { change, share, signed, worth } from "../lib/worth.js";

const STEP = 100;
const PLAIN = [
  ["name", "Function", (row) => row.name],
  ["self", "Self", (row) => row.self, "spent in the function itself"],
  ["total", "Total", (row) => row.total, "spent in it and in all that it calls"],
];
const CHANGES = [
  ["selfchange", "Self, change", (row) => row.self - row.before, "compared with the other profile"],
  ["totalchange", "Total, change", (row) => row.total - row.totalBefore, "compared with the other profile"],
];

// [{frame, name, mapping, kind, self, total, before, totalBefore}]; the other profile scaled by `factor`.
export function rowsOf(functions, frames, factor) {
  return functions.map((one) => ({
    ...frames[one.frame], frame: one.frame, self: one.self, total: one.total,
    before: one.baseSelf * factor, totalBefore: one.baseTotal * factor,
  }));
}

function sorted(rows, columns, by) {
  const [name, , value] = columns.find(([one]) => one === by) || columns[1];
  if (name === "name") return [...rows].sort((a, b) => a.name.localeCompare(b.name));
  const size = name.endsWith("change") ? (row) => Math.abs(value(row)) : value;
  return [...rows].sort((a, b) => size(b) - size(a) || b.total - a.total);
}

// `pick(row)`: the address that choosing a function leads to.
export function Functions({ rows, marks, compared, total, unit, sort, setSort, pick, chosen, slim = false }) {
  const [most, setMost] = useState(STEP);
  const columns = compared && !slim ? [...PLAIN, ...CHANGES] : PLAIN;
  const by = sort || (compared && !slim ? "selfchange" : "self");
  const found = useMemo(() => sorted(marks ? rows.filter((row) => marks[row.frame]) : rows, columns, by), [rows, marks, compared, by, slim]);
  const largest = found.reduce((all, row) => Math.max(all, row.self), 0) || 1;
  const head = ([name, title, , help]) => html`<th key=${name} class=${name === "name" ? "" : "num"} aria-sort=${by === name ? (name === "name" ? "ascending" : "descending") : undefined}>
    <button type="button" class="sort" title=${help} onClick=${() => setSort(name)}>${title}${by === name ? " ↓" : ""}</button></th>`;
  return html`<div class="scroll"><table class="functions ${slim ? "slim" : ""}"><caption>${found.length} function${found.length === 1 ? "" : "s"}${marks ? " match" : ""}</caption>
    <thead><tr>${columns.map(head)}</tr></thead>
    <tbody>${found.slice(0, most).map((row) => html`<tr key=${row.frame} class=${row.frame === chosen ? "selected" : ""}>
      <td><a href=${pick(row)} title=${row.name}>${row.name}</a> <span class="dim small">${row.mapping}</span></td>
      <td class="num bar-cell"><i style=${{ width: `${(row.self / largest) * 100}%` }}></i><${Pair} value=${row.self} total=${total} unit=${unit} /></td>
      <td class="num"><${Pair} value=${row.total} total=${total} unit=${unit} /></td>
      ${compared && !slim && html`<td class="num"><${Change} now=${row.self} before=${row.before} unit=${unit} /></td>
        <td class="num"><${Change} now=${row.total} before=${row.totalBefore} unit=${unit} /></td>`}</tr>`)}</tbody></table></div>
    ${found.length > most && html`<p><button type="button" onClick=${() => setMost(most + 3 * STEP)}>${Math.min(3 * STEP, found.length - most)} more</button></p>`}`;
}

const Pair = ({ value, total, unit }) => html`<span title=${worth(value, unit)}>${share(value, total)}</span> <span class="dim">${worth(value, unit)}</span>`;

export const Change = ({ now, before, unit }) => (now || before
  ? html`<span class=${now > before ? "more-now" : now < before ? "less-now" : ""}>${signed(now - before, unit)}</span> <span class="dim">${change(now, before)}</span>` : "–");
