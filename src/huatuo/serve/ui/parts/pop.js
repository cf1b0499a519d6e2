// A button that opens a small box below it; a click elsewhere or esc closes it.
import { html, useEffect, useRef, useState } from "../lib/dom.js";

// `children(close)` is made only while it is open.
export function Pop({ title, label, children }) {
  const box = useRef();
  const [open, set] = useState(false);
  useEffect(() => {
    const outside = (event) => { if (!box.current.contains(event.target)) box.current.open = false; };
    addEventListener("pointerdown", outside);
    return () => removeEventListener("pointerdown", outside);
  }, []);
  const press = (event) => {
    if (event.key !== "Escape" || !box.current.open) return;
    event.stopPropagation();
    box.current.open = false;
    box.current.querySelector("summary").focus();
  };
  return html`<details class="pop" ref=${box} onKeyDown=${press} onToggle=${() => set(box.current.open)}>
    <summary aria-label=${label}>${title}</summary>${open && html`<div class="pop-box">${children(() => { box.current.open = false; })}</div>`}</details>`;
}
