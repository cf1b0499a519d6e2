// Colour-blind safe: viridis for counts, Okabe and Ito's eight for lines.
const VIRIDIS = [
  [68, 1, 84], [72, 36, 117], [65, 68, 135], [53, 95, 141], [42, 120, 142], [33, 145, 140],
  [34, 168, 132], [68, 191, 112], [122, 209, 81], [189, 223, 38], [253, 231, 37],
];
const LIGHT = ["#0b6e8a", "#c2571a", "#1f7a4d", "#8a4f9e", "#8a6d00", "#b03a6b", "#3f5fbf", "#555555"];
const DARK = ["#56b4e9", "#f0a050", "#4cc38a", "#d79be8", "#f0e442", "#ef86b0", "#8ea6ff", "#bbbbbb"];

export const darkMode = matchMedia("(prefers-color-scheme: dark)");
export const lines = () => (darkMode.matches ? DARK : LIGHT);

function mix(share) {
  const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const part = place - low;
  const parts = VIRIDIS[low].map((from, i) => Math.round(from + (VIRIDIS[low + 1][i] - from) * part));
  return `rgb(${parts.join(",")})`;
}

// 64 steps; the largest count is the brightest on dark and the darkest on light ground.
export function scale64() {
  const steps = Array.from({ length: 64 }, (_, i) => mix(i / 63));
  return darkMode.matches ? steps : steps.reverse();
}

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// ---- frames of stacks ----

// Hue, saturation, lightness on dark ground: apart for colour-blind eyes too, functions apart within.
const KINDS = { kernel: [40, 0.6, 0.21], native: [212, 0.5, 0.27], runtime: [152, 0.42, 0.21], jit: [300, 0.38, 0.27], "": [210, 0.06, 0.27] };

function hsl(hue, saturation, lightness) {
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [part(0), part(8), part(4)];
}

// A frame's colour as [r, g, b]: hue by kind, moved a little by its hash.
export function ofFrame({ kind, hash }) {
  const [hue, saturation, dim] = KINDS[kind] || KINDS[""];
  const light = darkMode.matches ? dim : 0.76;
  return hsl(hue + ((hash >>> 4) % 13) - 6, saturation, light + ((hash >>> 9) % 8) * (darkMode.matches ? 0.012 : 0.014));
}

// −1 (less) is blue, 0 the colour of nothing, 1 (more) red.
const LESS = { light: [98, 158, 216], dark: [44, 100, 158] };
const SAME = { light: [226, 229, 232], dark: [58, 66, 74] };
const MORE = { light: [226, 106, 84], dark: [172, 58, 42] };

export function ofChange(change) {
  const theme = darkMode.matches ? "dark" : "light";
  const end = (change < 0 ? LESS : MORE)[theme];
  const part = Math.min(1, Math.abs(change)) ** 0.7;
  return SAME[theme].map((from, i) => Math.round(from + (end[i] - from) * part));
}
