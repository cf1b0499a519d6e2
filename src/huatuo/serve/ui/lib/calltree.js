// Call trees in columns: node 0 is the root, parents stand before their children.
//
//   parent, frame   Int32Array: the node above; what runs there, as a number into `frames`
//   self, total     Float64Array; baseSelf, baseTotal too where there is something to compare with
//   frames          what all trees made from one answer share: name, kind, mapping, file, line
//
// A frame is a function of one mapping. Trees other than the one that came are merged level by level,
// so that what is too small to be seen can be left out as soon as its value is known.

const SMALLEST = 1 / 20000; // of the whole; merged trees go no deeper below less

// What /profiles/flame answered → tree.
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
  const mapping = mappings[nodes.mapping[i]];
  const name = names[nodes.name[i]];
  return {
    name, mapping, kind: kinds[nodes.kind[i]], hash: hashOf(`${name}\n${mapping}`),
    file: files[nodes.file[i]], line: nodes.line[i],
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

// A tree that grows. Children are found by (parent, frame) in a table of node numbers, 0 where it is
// empty: much faster than a Map, whose keys would be beyond the small integers.
class Growing {
  constructor(tree, value, base, root) {
    Object.assign(this, { tree, value, base });
    this.parent = [-1];
    this.frame = [root];
    this.columns = { self: [0], total: [0], baseSelf: [0], baseTotal: [0] };
    this.table = new Int32Array(1 << 14);
  }

  place(parent, frame) {
    const { table } = this;
    let at = (Math.imul(parent, 0x9e3779b1) ^ Math.imul(frame, 0x85ebca6b)) >>> 0;
    for (at = (at ^ (at >>> 15)) & (table.length - 1); table[at]; at = (at + 1) & (table.length - 1)) {
      if (this.parent[table[at]] === parent && this.frame[table[at]] === frame) break;
    }
    return at;
  }

  child(parent, frame) {
    const at = this.place(parent, frame);
    if (this.table[at]) return this.table[at];
    const node = this.parent.push(parent) - 1;
    this.frame.push(frame);
    for (const column of Object.values(this.columns)) column.push(0);
    this.table[at] = node;
    if (node * 2 > this.table.length) {
      this.table = new Int32Array(this.table.length * 2);
      for (let one = 1; one <= node; one += 1) this.table[this.place(this.parent[one], this.frame[one])] = one;
    }
    return node;
  }

  // What a node of the tree it grows from is worth goes to one of this.
  add(node, side, from, value = this.value, base = this.base) {
    this.columns[side][node] += value[from];
    if (base) this.columns[side === "self" ? "baseSelf" : "baseTotal"][node] += base[from];
  }

  worth(node) { return this.columns.total[node] + this.columns.baseTotal[node]; }

  done() {
    const { frames, compared } = this.tree;
    const columns = Object.fromEntries(Object.entries(this.columns).map(([name, list]) => [name, compared || !name.startsWith("base") ? Float64Array.from(list) : null]));
    return { ...columns, frames, compared, byValue: true, size: this.parent.length, parent: Int32Array.from(this.parent), frame: Int32Array.from(this.frame) };
  }
}

// Upwards from the nodes `from`, beginning with those in `at`: who called them. Each level is finished
// before the next one, so that its values are known.
function upwards(tree, from, at, [value, base], root) {
  const grown = new Growing(tree, value, base, root);
  const into = new Int32Array(from.length);
  for (let i = 0; i < from.length; i += 1) grown.add(0, "total", from[i]);
  const limit = grown.worth(0) * SMALLEST;
  let count = from.length;
  while (count) {
    for (let i = 0; i < count; i += 1) {
      if (at[i] <= 0) continue;
      into[i] = grown.child(into[i], tree.frame[at[i]]);
      grown.add(into[i], "total", from[i]);
      at[i] = tree.parent[at[i]];
      if (at[i] <= 0) grown.add(into[i], "self", from[i]);
    }
    const all = count;
    count = 0;
    for (let i = 0; i < all; i += 1) {
      if (at[i] <= 0 || grown.worth(into[i]) <= limit) continue;
      from[count] = from[i];
      at[count] = at[i];
      into[count] = into[i];
      count += 1;
    }
  }
  return grown.done();
}

const nodesWhere = (tree, test) => Int32Array.from({ length: tree.size - 1 }, (_, i) => i + 1).filter(test);

// From the leaves: where the time itself is spent, and next to it who called that.
export function inverted(tree) {
  const { self, baseSelf } = tree;
  const leaves = nodesWhere(tree, (node) => self[node] > 0 || (baseSelf && baseSelf[node] > 0));
  return upwards(tree, leaves, leaves.slice(), [self, baseSelf], 0);
}

function occurrences(tree, frame) {
  const inner = innerOnes(tree);
  return nodesWhere(tree, (node) => tree.frame[node] === frame && !inner[node]);
}

// Who called one function; the root is the function.
export function callersOf(tree, frame) {
  const from = occurrences(tree, frame);
  return upwards(tree, from, from.map((node) => tree.parent[node]), [tree.total, tree.baseTotal], frame);
}

// What one function calls, all its occurrences as one; the root is the function.
export function calleesOf(tree, frame) {
  const grown = new Growing(tree, tree.total, tree.baseTotal, frame);
  const { first, list } = childrenOf(tree);
  const add = (from, into) => { grown.add(into, "total", from); grown.add(into, "self", from, tree.self, tree.baseSelf); };
  let members = occurrences(tree, frame);
  let into = new Int32Array(members.length);
  members.forEach((from) => add(from, 0));
  const limit = grown.worth(0) * SMALLEST;
  while (members.length) {
    const [below, places] = [[], []];
    for (let i = 0; i < members.length; i += 1) {
      if (grown.worth(into[i]) <= limit) continue;
      for (let k = first[members[i]]; k < first[members[i] + 1]; k += 1) {
        below.push(list[k]);
        places.push(grown.child(into[i], tree.frame[list[k]]));
      }
    }
    members = below;
    into = places;
    for (let i = 0; i < members.length; i += 1) add(members[i], into[i]);
  }
  return grown.done();
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
