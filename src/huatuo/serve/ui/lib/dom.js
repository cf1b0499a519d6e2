// The one import of preact and htm; everything else imports from here.
export {
  html, render, createContext, useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback,
  useContext,
} from "../vendor/preact.js";
