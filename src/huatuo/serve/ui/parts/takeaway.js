// A profile to take elsewhere: as a file for other tools, as JSON, as a link.
import { html, useState } from "../lib/dom.js";
import { save, url } from "../lib/api.js";
import { iso } from "../lib/time.js";
import { current, href } from "../lib/url.js";
import { Pop } from "./pop.js";

const FORMATS = [
  ["pprof", "pprof", "go tool pprof, Grafana"], ["folded", "folded", "text, a stack per line"], ["speedscope", "speedscope", "speedscope.app"],
  ["firefox", "Firefox", "Firefox Profiler"], ["otlp", "OTLP", "OpenTelemetry profiles"],
];

// `query`: type, start, end and q; `flame`: that of the tree that is shown; `range`: as it stands still.
export function TakeAway({ query, flame, range }) {
  const [said, say] = useState("");
  const show = (text) => { say(text); setTimeout(() => say(""), 2000); };
  const link = new URL(href("profiles", { ...current().params, range: "", from: iso(range.start), to: iso(range.end) }), location.href).href;
  const copy = () => navigator.clipboard.writeText(link).then(() => show("Copied"), () => show(link));
  const take = (event) => save(event).catch((error) => show(`${error.message} ${error.hint || ""}`));
  return html`<${Pop} title=${said || "Export"} label="Copy or export">${(close) => html`<ul class="menu">
    <li><button type="button" onClick=${() => { copy(); close(); }}>Copy link <span class="dim">with the time fixed</span></button></li>
    ${FORMATS.map(([format, name, what]) => html`<li key=${format}><a href=${url("profiles/export", { ...query, format })} download onClick=${take}>${name} <span class="dim">${what}</span></a></li>`)}
    <li><a href=${url("profiles/flame", flame)} target="_blank">JSON <span class="dim">what this page reads</span></a></li></ul>`}<//>`;
}
