// A container by its short name, as a link; its whole name on hover.
import { html } from "../lib/dom.js";
import { shortName } from "../lib/format.js";
import { href } from "../lib/url.js";

export const Name = ({ of, brief }) => html`<a class="name" href=${href("container", { name: of || "/" })} title=${of || "/"}>${brief ? shortName(of).split("/").pop() : shortName(of)}</a>`;
