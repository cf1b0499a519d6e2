// The frame around all pages: navigation, time range, keyboard.
import { html, render, useEffect, useState } from "./lib/dom.js";
import { useData } from "./lib/load.js";
import { PRESETS, Range, goLive, scale, shift, useMovingRange } from "./lib/time.js";
import { change, current, go, href, useRoute } from "./lib/url.js";
import { moment } from "./lib/format.js";
import { Help } from "./parts/help.js";
import { WithProbes } from "./parts/probes.js";
import { NodePage } from "./pages/node.js";
import { EventsPage } from "./pages/events.js";
import { later } from "./parts/later.js";
import { ContainersPage } from "./pages/containers.js";
import { ContainerPage } from "./pages/container.js";
import { ProbesPage } from "./pages/probes.js";
import { ExplorePage } from "./pages/explore.js";

// As large as all other pages together: read when it is asked for, or when nothing else is to be done.
const profiles = () => import("./pages/profiles.js");
const Profiles = later(profiles, "ProfilesPage");
const Incidents = later(() => import("./pages/incidents.js"), "IncidentsPage");

const PAGES = {
  node: ["Node", NodePage], containers: ["Containers", ContainersPage], events: ["Events", EventsPage], profiles: ["Profiles", Profiles],
  incidents: ["Incidents", Incidents], probes: ["Probes", ProbesPage], explore: ["Explore", ExplorePage], container: ["Container", ContainerPage],
};
const MENU = ["node", "containers", "events", "profiles", "incidents", "probes", "explore"];

function App() {
  const route = useRoute();
  const range = useMovingRange(route.params);
  const [help, setHelp] = useState(false);
  const { data: health, error } = useData("health", {}, Math.floor(range.end / 30));
  const [title, Page] = PAGES[route.page] || ["Not found", Missing];
  useEffect(() => { document.title = `${route.params.name || title}${health ? ` · ${health.host}` : ""} · HUATUO`; }, [title, route.params.name, health]);
  useEffect(() => { scrollTo(0, 0); }, [route.page, route.params.name]);
  useKeys(range, help, setHelp);
  return html`<${Range.Provider} value=${range}><${WithProbes}>
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.querySelector("main").focus(); }}>To the content</a>
    <header class="top">
      <a class="logo" href=${href("node")}>HUATUO</a>
      <span class="host" title=${health ? `kernel ${health.kernel}` : ""}>${health ? health.host : ""}</span>
      <nav aria-label="Pages">${MENU.map((page) => html`<a key=${page} href=${href(page)} aria-current=${route.page === page || (page === "containers" && route.page === "container") ? "page" : undefined}>${PAGES[page][0]}</a>`)}</nav>
      <${TimeBar} range=${range} params=${route.params} />
      <button type="button" class="quiet-button" aria-label="Help" title="Help  ?" onClick=${() => setHelp(true)}>?</button>
    </header>
    ${error && error.code === "offline" && html`<p class="banner" role="alert">${error.message} ${error.hint}</p>`}
    ${health && health.problems.length > 0 && html`<p class="banner soft">${health.problems[0]}${health.problems.length > 1 && ` (and ${health.problems.length - 1} more)`} <a href=${href("probes")}>probes</a></p>`}
    <main tabindex="-1" class="page ${route.page}"><${Page} params=${route.params} /></main>
    ${help && html`<${Help} close=${() => setHelp(false)} />`}
  <//><//>`;
}

const Missing = () => html`<h1>There is no such page</h1><p><a href="#/">To the start page</a></p>`;

function TimeBar({ range, params }) {
  return html`<div class="timebar" role="group" aria-label="Time range">
    ${range.live
      ? html`<span class="live-dot" title="Follows the present"></span>`
      : html`<span class="fixed">${moment(range.start)} – ${moment(range.end).slice(11)}</span>
        <button type="button" title="Earlier  ←" aria-label="Earlier" onClick=${() => shift(range, -0.5)}>‹</button>
        <button type="button" title="Wider  −" aria-label="Wider" onClick=${() => scale(range, 2)}>−</button>
        <button type="button" title="Later  →" aria-label="Later" onClick=${() => shift(range, 0.5)}>›</button>
        <button type="button" class="go-live" onClick=${() => goLive()}>Live</button>`}
    <label><span class="hidden">Last</span><select aria-label="Show the last" value=${range.live ? params.range || "15m" : ""} onChange=${(event) => event.target.value && change({ range: event.target.value })}>
      ${!range.live && html`<option value="">fixed</option>`}
      ${PRESETS.map((preset) => html`<option key=${preset} value=${preset}>last ${preset}</option>`)}</select></label>
  </div>`;
}

function useKeys(range, help, setHelp) {
  useEffect(() => {
    const press = (event) => {
      const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (event.key === "Escape") return escape(event, help, setHelp, typing);
      if (typing || event.ctrlKey || event.metaKey || event.altKey) return undefined;
      const act = {
        "?": () => setHelp(!help), "/": () => search(),
        ArrowLeft: () => shift(range, -0.5), ArrowRight: () => range.live || shift(range, 0.5),
        "+": () => scale(range, 0.5), "-": () => scale(range, 2), l: () => goLive(),
      }[event.key] || (MENU[Number(event.key) - 1] && (() => go(MENU[Number(event.key) - 1])));
      if (!act) return undefined;
      event.preventDefault();
      return act();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [range, help]);
}

// Close what is open, else leave the field, else go back.
function escape(event, help, setHelp, typing) {
  if (help) setHelp(false);
  else if (typing) event.target.blur();
  else if (current().params.id) change({ id: "" });
  else history.back();
}

function search() {
  const field = document.getElementById("search");
  if (field) { field.focus(); field.select(); return; }
  go("events");
  setTimeout(() => (document.getElementById("search") || document.body).focus(), 150);
}

const place = document.getElementById("app");
place.textContent = "";
render(html`<${App} />`, place);
setTimeout(() => profiles().catch(() => {}), 2000);
