// A component that is read when it is first shown: load() is an import(), `name` what to take of it.
import { html, useEffect, useState } from "../lib/dom.js";
import { Failed, Loading } from "./states.js";

const GONE = { message: "A part of this page cannot be read.", hint: "Is the agent still running? Reload to try again." };

export const later = (load, name) => function Later(props) {
  const [Found, set] = useState(null);
  const [gone, fail] = useState(false);
  useEffect(() => { load().then((found) => set(() => found[name]), () => fail(true)); }, []);
  return gone ? html`<${Failed} error=${GONE} />` : Found ? html`<${Found} ...${props} />` : html`<${Loading} />`;
};
