// The one import of preact and htm; everything else imports from here.
import { h } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export { render, createContext } from "../vendor/preact.js";
export { useState, useEffect, useLayoutEffect, useRef, useMemo, useContext } from "../vendor/hooks.js";
export const html = htm.bind(h);
