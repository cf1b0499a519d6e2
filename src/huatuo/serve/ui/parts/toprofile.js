// A small link from any place to the profile of its container: of the time that is shown, or of 30 s
// before and after a moment. Only where there is a profiler.
import { html, useContext } from "../lib/dom.js";
import { equal } from "../lib/selector.js";
import { iso } from "../lib/time.js";
import { href } from "../lib/url.js";
import { Probes } from "./probes.js";

const AROUND = 30;

export function ToProfile({ type, container, at, text = "profile" }) {
  const { probes } = useContext(Probes);
  if (!probes.some((probe) => probe.name.startsWith("profile."))) return null;
  const time = at ? { from: iso(at - AROUND), to: iso(at + AROUND) } : {};
  return html`<a class="to-profile" href=${href("profiles", { type, q: container && container !== "/" ? equal("container", container) : "", ...time })}>${text}</a>`;
}
