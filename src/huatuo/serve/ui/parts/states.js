// What stands where data is not: loading, empty, not available, an error. Never a blank.
import { html } from "../lib/dom.js";
import { href } from "../lib/url.js";
import { setToken } from "../lib/api.js";

export const Loading = ({ what = "Loading" }) => html`<p class="state" role="status">${what}…</p>`;

export const Empty = ({ children }) => html`<p class="state">${children}</p>`;

export function Failed({ error }) {
  if (error.status === 401) return html`<${TokenForm} />`;
  return html`<p class="state wrong" role="alert"><b>${error.message}</b> ${error.hint}</p>`;
}

function TokenForm() {
  const save = (event) => {
    event.preventDefault();
    setToken(new FormData(event.target).get("token"));
    location.reload();
  };
  return html`<form class="state token" onSubmit=${save}>
    <label>This agent asks for its token. <input name="token" type="password" autocomplete="current-password" required /></label>
    <button type="submit">Continue</button>
  </form>`;
}

// The probe that exports a metric: the longest name that fits.
export function probeOf(metric, probes) {
  const rest = metric.replace(/^huatuo_/, "");
  const fits = (probes || []).filter((probe) => rest.startsWith(`${probe.name.replace(/\./g, "_")}_`));
  return fits.sort((a, b) => b.name.length - a.name.length)[0];
}

// Why a metric is not there, from the state of its probe.
export function Unavailable({ metric, probes }) {
  const probe = probeOf(metric, probes);
  if (!probe) return html`<p class="state">Not measured on this node: no probe here exports <code>${metric}</code>.</p>`;
  if (probe.status === "running") return html`<p class="state">Not recorded on this node so far.</p>`;
  return html`<p class="state">
    <a href=${href("probes", { probe: probe.name })}>${probe.name}</a>${" is "}
    ${probe.status === "shed" ? "paused by the governor" : probe.status}: ${probe.reason}
  </p>`;
}
