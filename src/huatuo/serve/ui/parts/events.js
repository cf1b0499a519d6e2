// Events as a table, and one of them in full.
import { html } from "../lib/dom.js";
import { url } from "../lib/api.js";
import { clock, day, eventTime, field } from "../lib/format.js";
import { iso } from "../lib/time.js";
import { href } from "../lib/url.js";
import { ApplicationFacts } from "./application.js";
import { Name, nameOf } from "./name.js";
import { ToProfile } from "./toprofile.js";

export const containerOf = (event) => (event.container ? nameOf(event.container) : "");

// `of`: the container that all are about.
export function EventTable({ events, selected = 0, open, fresh = 0, of }) {
  return html`<div class="scroll"><table class="events">
    <thead><tr><th>Time</th><th>Probe</th>${!of && html`<th>Container</th>`}<th>Process</th><th>What happened</th></tr></thead>
    <tbody>${events.map((event) => html`<tr key=${event.id} class="${event.id === selected ? "selected" : ""} ${event.id >= fresh && fresh ? "fresh" : ""}">
      <td class="num" title=${event.time}>${clock(eventTime(event), 3)}</td>
      <td class="dim">${event.probe}</td>
      ${!of && html`<td>${containerOf(event) ? html`<${Name} of=${containerOf(event)} />` : html`<span class="dim">host</span>`}</td>`}
      <td>${event.process ? html`${event.process.comm} <span class="dim">${event.process.pid}</span>` : ""}</td>
      <td class="title"><a href=${open(event)}>${event.title}</a> <${ToProfile} container=${containerOf(event)} at=${eventTime(event)} /></td></tr>`)}</tbody>
  </table></div>`;
}

function around(event, before, after) {
  const time = eventTime(event);
  return { from: iso(time - before), to: iso(time + after) };
}

export function Record({ event, close }) {
  const time = eventTime(event);
  const container = event.container;
  return html`<article class="record" aria-label="Event ${event.id}">
    <header><h2>${event.title}</h2><a class="close" href=${close} aria-label="Close">✕</a></header>
    <p class="links">
      ${container && html`<a href=${href("container", { name: nameOf(container), ...around(event, 60, 60) })}>the container at that minute</a>`}
      <a href=${href("events", { ...around(event, 5, 5), id: event.id })}>neighbours ±5 s</a>
      <${ToProfile} container=${containerOf(event)} at=${time} text="the profile ±30 s" />
      <a href=${href("node", around(event, 60, 60))}>the node at that minute</a>
      <a href=${url(`events/${event.id}`)} target="_blank">JSON</a>
    </p>
    <dl>
      <dt>time</dt><dd><span title=${event.time}>${day(time)} ${clock(time, 3)}</span></dd>
      <dt>probe</dt><dd><a href=${href("probes", { probe: event.probe })}>${event.probe}</a> · ${event.kind}</dd>
      ${container && html`<dt>container</dt><dd><${Name} of=${nameOf(container)} /> <span class="dim">${[container.kind, container.image, container.namespace, container.runtime].filter(Boolean).join(" · ")}</span></dd>
        <dt>cgroup</dt><dd class="code">${container.cgroup || "/"}</dd>`}
      ${event.process && html`<dt>process</dt><dd>${event.process.comm} <span class="dim">pid ${event.process.pid}${event.process.tid ? ` tid ${event.process.tid}` : ""}</span></dd>`}
      ${event.application && html`<${ApplicationFacts} of=${event.application} time=${time} />`}
    </dl>
    <h3>Fields</h3>
    <dl>${Object.entries(event.fields || {}).map(([name, value]) => html`<${Field} key=${name} event=${event} name=${name} value=${value} />`)}</dl>
    <h3>Stack</h3>
    ${event.stack && event.stack.length
      ? html`<ol class="stack" aria-label="Kernel stack, innermost first">${event.stack.map((frame, i) => html`<li key=${i}>${symbol(frame)}</li>`)}</ol>`
      : html`<p class="state">This kind of event carries no stack.</p>`}
  </article>`;
}

function symbol(frame) {
  const [name, offset] = frame.split("+");
  return html`<b>${name}</b>${offset && html`<span class="dim">+${offset}</span>`}`;
}

// Nested values as indented lines, without the signs of JSON.
const plain = (value) => JSON.stringify(value, null, 2).split("\n").map((line) => line.replace(/[{}[\]"]|,$/g, "").slice(2)).filter((line) => line.trim()).join("\n");

function Field({ event, name, value }) {
  const text = field(name, value);
  if (text == null) {
    return html`<dt>${name}</dt><dd><details open=${JSON.stringify(value).length < 400}><summary class="dim">${Array.isArray(value) ? `${value.length} items` : `${Object.keys(value).length} values`}</summary><pre>${plain(value)}</pre></details></dd>`;
  }
  const same = href("events", { [`field.${name}`]: String(value), probe: event.probe });
  return html`<dt>${name}</dt><dd title=${String(value)}>${text} <a class="same" href=${same} title="events of ${event.probe} with the same ${name}" aria-label="Events with the same ${name}">⊂</a></dd>`;
}
