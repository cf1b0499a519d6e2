// What the keys do and how to read the pictures.
import { html, useEffect, useRef } from "../lib/dom.js";

const KEYS = [
  ["1 … 7", "Node, Containers, Events, Profiles, Incidents, Probes, Explore"], ["/", "search"], ["esc", "close, or back"],
  ["← →", "earlier, later"], ["+ −", "zoom in, out"], ["l", "live: follow the present"], ["?", "this help"],
];

export function Help({ close }) {
  const box = useRef();
  useEffect(() => {
    box.current.showModal();
    return () => box.current && box.current.close();
  }, []);
  return html`<dialog ref=${box} onClose=${close} aria-labelledby="help-title" onClick=${(event) => event.target === box.current && close()}>
    <h2 id="help-title">How to use this</h2>
    <p><b>Drag</b> over any picture to zoom all of them to that time; <b>click</b> to see the events of that moment. Every view is a link: copy the address to show somebody what you see.</p>
    <p>In a <b>heatmap</b>, height is how long something took and colour how often that happened, both on logarithmic scales. The solid line is the 99th percentile, the dotted one the median. They are exact to the height of a cell.</p>
    <p>In a <b>flame graph</b>, width is how much was spent in a function and all that it calls; what stands next to a frame is its caller and its callees. The order from left to right means nothing.</p>
    <dl class="keys">${KEYS.map(([key, what]) => html`<dt key=${key}><kbd>${key}</kbd></dt><dd>${what}</dd>`)}</dl>
    <p><a href="api">The API behind these pages</a> · <a href="metrics">Prometheus metrics</a></p>
    <button type="button" onClick=${close}>Close</button>
  </dialog>`;
}
