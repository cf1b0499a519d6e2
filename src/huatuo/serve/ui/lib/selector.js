// A selector as in Prometheus, {container="web",comm=~"py.*"}, as a list of matchers and back.
const ONE = /\s*([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)/y;
const ESCAPES = { n: "\n", t: "\t", r: "\r" };

// [{name, op, value}], or null if the text is no selector. Braces may be left out.
export function parse(text) {
  const inside = (text || "").trim().replace(/^\{|\}$/g, "").trim();
  const found = [];
  for (ONE.lastIndex = 0; ONE.lastIndex < inside.length;) {
    const match = ONE.exec(inside);
    if (!match) return null;
    found.push({ name: match[1], op: match[2], value: match[3].replace(/\\(.)/g, (_, one) => ESCAPES[one] || one) });
  }
  return found;
}

const quoted = (value) => `"${value.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n")}"`;

// "" for no matchers at all.
export function write(matchers) {
  return matchers.length ? `{${matchers.map(({ name, op, value }) => `${name}${op}${quoted(value)}`).join(",")}}` : "";
}

export const equal = (name, value) => write([{ name, op: "=", value }]);
