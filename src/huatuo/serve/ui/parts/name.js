// A container by its short name, as a link; its whole name on hover.
import { html } from "../lib/dom.js";
import { shortName } from "../lib/format.js";
import { href } from "../lib/url.js";

// Unique on a node, as Container.full_name: names of containers are so within a pod only.
export const nameOf = (container) => (container.pod ? `${container.namespace}/${container.pod}/${container.name}` : container.name);

export const Name = ({ of, brief }) => html`<a class="name" href=${href("container", { name: of || "/" })} title=${of || "/"}>${brief ? shortName(of).split("/").pop() : shortName(of)}</a>`;
