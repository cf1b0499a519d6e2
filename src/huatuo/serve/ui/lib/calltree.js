// Call trees in columns: node 0 is the root, parents stand before their children.
//
//   parent, frame   Int32Array: the node above; what runs there, as a number into `frames`
//   self, total     Float64Array; baseSelf, baseTotal too where there is something to compare with
//   frames          what all trees made from one answer share: name, kind, mapping, file, line
//
// A frame is a function of one mapping. Trees other than the one that came are merged level by level,
// so that what is too small to be seen can be left out as soon as its value is known.

const SMALLEST = 1 / 20000; // of the whole; merged trees go no deeper below less

// What /profiles/flame answered → tree. Columns the server does not send are left empty.
export function treeOf(answer) {
  const { nodes } = answer;
  const size = nodes.parent.length;
  const known = new Map();
  const frames = [{ name: "all", kind: "", mapping: "", file: "", line: 0, hash: 0 }];
  const frame = new Int32Array(size);
  for (let i = 1; i < size; i += 1) {
    const key = `${nodes.name[i]} ${nodes.kind[i]} ${nodes.mapping[i]}`;
    let number = known.get(key);
    if (number === undefined) {
      number = frames.length;
      known.set(key, number);
      frames.push(frameOf(answer, i));
    }
    frame[i] = number;
  }
  const compared = Boolean(nodes.base_total);
  return {
    size, frames, frame, compared,
    parent: Int32Array.from(nodes.parent), self: Float64Array.from(nodes.self), total: Float64Array.from(nodes.total),
    baseSelf: compared ? Float64Array.from(nodes.base_self) : null,
    baseTotal: compared ? Float64Array.from(nodes.base_total) : null,
  };
}

function frameOf({ names, kinds, mappings, files, nodes }, i) {
  const mapping = mappings[nodes.mapping[i]] || "";
  const name = names[nodes.name[i]] || `[${mapping || "unknown"}]`;
  return {
    name, mapping, kind: kinds[nodes.kind[i]] || "", hash: hashOf(`${name}\n${mapping}`),
    file: (files && nodes.file && files[nodes.file[i]]) || "", line: (nodes.line && nodes.line[i]) || 0,
  };
}

function hashOf(text) {
  let hash = 2166136261;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 16777619);
  return hash >>> 0;
}

const counted = new WeakMap();

// Which node has a parent that is the same frame, at any distance: recursion, not to be counted twice.
function innerOnes(tree) {
  if (!counted.has(tree)) counted.set(tree, findInner(tree));
  return counted.get(tree);
}

function findInner(tree) {
  const { size, frame } = tree;
  const children = childrenOf(tree);
  const open = new Int32Array(tree.frames.length);
  const inner = new Uint8Array(size);
  const stack = [0];
  while (stack.length) {
    const node = stack.pop();
    if (node < 0) { open[frame[~node]] -= 1; continue; }
    inner[node] = open[frame[node]] ? 1 : 0;
    open[frame[node]] += 1;
    stack.push(~node);
    for (let i = children.first[node]; i < children.first[node + 1]; i += 1) stack.push(children.list[i]);
  }
  return inner;
}

// The children of node n are list[first[n]] … list[first[n + 1] - 1].
function childrenOf({ size, parent }) {
  const first = new Int32Array(size + 1);
  for (let i = 1; i < size; i += 1) first[parent[i] + 1] += 1;
  for (let i = 0; i < size; i += 1) first[i + 1] += first[i];
  const next = first.slice();
  const list = new Int32Array(Math.max(0, size - 1));
  for (let i = 1; i < size; i += 1) { list[next[parent[i]]] = i; next[parent[i]] += 1; }
  return { first, list };
}

// Self and total of every frame: [{frame, self, total, baseSelf, baseTotal}], without the root.
export function functionsOf(tree) {
  const { size, frame, self, total, baseSelf, baseTotal, compared } = tree;
  const inner = innerOnes(tree);
  const rows = tree.frames.map((_, number) => ({ frame: number, self: 0, total: 0, baseSelf: 0, baseTotal: 0 }));
  for (let i = 1; i < size; i += 1) {
    const row = rows[frame[i]];
    row.self += self[i];
    if (compared) row.baseSelf += baseSelf[i];
    if (inner[i]) continue;
    row.total += total[i];
    if (compared) row.baseTotal += baseTotal[i];
  }
  return rows.slice(1);
}

// A tree that grows: children are found by (parent, frame).
class Growing {
  constructor(frames, compared, root = 0) {
    this.frames = frames;
    this.compared = compared;
    this.known = new Map();
    this.columns = { parent: [-1], frame: [root], self: [0], total: [0], baseSelf: [0], baseTotal: [0] };
  }

  child(parent, frame) {
    const key = parent * this.frames.length + frame;
    let node = this.known.get(key);
    if (node === undefined) {
      const { columns } = this;
      node = columns.parent.length;
      this.known.set(key, node);
      columns.parent.push(parent);
      columns.frame.push(frame);
      for (const name of ["self", "total", "baseSelf", "baseTotal"]) columns[name].push(0);
    }
    return node;
  }

  add(node, side, value, base) {
    this.columns[side][node] += value;
    if (this.compared) this.columns[side === "self" ? "baseSelf" : "baseTotal"][node] += base;
  }

  worth(node) { return this.columns.total[node] + this.columns.baseTotal[node]; }

  tree() {
    const { parent, frame, ...values } = this.columns;
    const floats = Object.fromEntries(Object.entries(values).map(([name, list]) => [name, Float64Array.from(list)]));
    return {
      ...floats, size: parent.length, frames: this.frames, compared: this.compared, byValue: true,
      parent: Int32Array.from(parent), frame: Int32Array.from(frame),
      ...(this.compared ? {} : { baseSelf: null, baseTotal: null }),
    };
  }
}

// Upwards from chosen nodes: who called them. `of` gives a node's [value, base value]. Each level is
// finished before the next one, so that its values are known.
function upwards(tree, members, of, root = 0) {
  const grown = new Growing(tree.frames, tree.compared, root);
  for (const one of members) grown.add(0, "total", ...of(one.from));
  const limit = grown.worth(0) * SMALLEST;
  let left = members.filter((one) => one.at > 0);
  while (left.length) {
    for (const one of left) {
      one.into = grown.child(one.into, tree.frame[one.at]);
      grown.add(one.into, "total", ...of(one.from));
      one.at = tree.parent[one.at];
      if (one.at <= 0) grown.add(one.into, "self", ...of(one.from));
    }
    left = left.filter((one) => one.at > 0 && grown.worth(one.into) > limit);
  }
  return grown.tree();
}

const nodesWhere = (tree, test) => Array.from({ length: tree.size - 1 }, (_, i) => i + 1).filter(test);
const pair = (tree, name, base) => (node) => [tree[name][node], tree.compared ? tree[base][node] : 0];

// From the leaves: where the time itself is spent, and next to it who called that.
export function inverted(tree) {
  const of = pair(tree, "self", "baseSelf");
  const leaves = nodesWhere(tree, (node) => of(node)[0] > 0 || of(node)[1] > 0);
  return upwards(tree, leaves.map((node) => ({ from: node, at: node, into: 0 })), of);
}

function occurrences(tree, frame) {
  const inner = innerOnes(tree);
  return nodesWhere(tree, (node) => tree.frame[node] === frame && !inner[node]);
}

// Who called one function; the root is the function.
export function callersOf(tree, frame) {
  const members = occurrences(tree, frame).map((node) => ({ from: node, at: tree.parent[node], into: 0 }));
  return upwards(tree, members, pair(tree, "total", "baseTotal"), frame);
}

// What one function calls, all its occurrences as one; the root is the function.
export function calleesOf(tree, frame) {
  const grown = new Growing(tree.frames, tree.compared, frame);
  const children = childrenOf(tree);
  const total = pair(tree, "total", "baseTotal");
  const self = pair(tree, "self", "baseSelf");
  const add = ({ at, into }) => { grown.add(into, "total", ...total(at)); grown.add(into, "self", ...self(at)); };
  let members = occurrences(tree, frame).map((node) => ({ at: node, into: 0 }));
  members.forEach(add);
  const limit = grown.worth(0) * SMALLEST;
  while (members.length) {
    members = members.filter((one) => grown.worth(one.into) > limit).flatMap((one) => (
      [...children.list.subarray(children.first[one.at], children.first[one.at + 1])]
        .map((at) => ({ at, into: grown.child(one.into, tree.frame[at]) }))));
    members.forEach(add);
  }
  return grown.tree();
}

// The frames whose name, mapping or file fits, as Uint8Array; and what was wrong with the expression.
export function matching(frames, text) {
  let expression;
  let problem = "";
  try {
    expression = new RegExp(text, "i");
  } catch {
    expression = new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i");
    problem = "not a regular expression; searched as plain text";
  }
  const marks = Uint8Array.from(frames, (frame, i) => (i && (expression.test(frame.name) || expression.test(frame.mapping) || expression.test(frame.file)) ? 1 : 0));
  return { marks, problem };
}

// How much is in matching frames or below them, each value counted once.
export function shareOf(tree, marks, value) {
  const inside = new Uint8Array(tree.size);
  let found = 0;
  let sum = 0;
  for (let i = 1; i < tree.size; i += 1) {
    const hit = marks[tree.frame[i]];
    if (hit) found += 1;
    if (hit && !inside[tree.parent[i]]) sum += value[i];
    inside[i] = hit | inside[tree.parent[i]];
  }
  return { found, share: value[0] ? sum / value[0] : 0 };
}
