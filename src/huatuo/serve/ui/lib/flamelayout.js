// Where the frames of a call tree stand: depth and start of every node, and the nodes of each level
// from left to right. Starts and widths are in the unit of the values, so zooming changes nothing here.
export function layoutOf(tree, value) {
  const { size, parent } = tree;
  const depth = new Uint16Array(size);
  const counts = [1];
  for (let i = 1; i < size; i += 1) {
    if (!value[i]) continue;
    depth[i] = depth[parent[i]] + 1;
    counts[depth[i]] = (counts[depth[i]] || 0) + 1;
  }
  const levels = counts.map((count) => new Int32Array(count));
  const filled = new Int32Array(levels.length);
  for (let i = 0; i < size; i += 1) {
    if (!value[i] && i) continue;
    levels[depth[i]][filled[depth[i]]] = i;
    filled[depth[i]] += 1;
  }
  const start = new Float64Array(size);
  const next = new Float64Array(size);
  for (const level of levels.slice(1)) {
    const order = tree.byValue
      ? (a, b) => start[parent[a]] - start[parent[b]] || parent[a] - parent[b] || value[b] - value[a] || a - b
      : (a, b) => start[parent[a]] - start[parent[b]] || a - b;
    if (tree.byValue || !ordered(level, parent, start)) level.sort(order);
    for (const node of level) {
      start[node] = next[parent[node]];
      next[parent[node]] += value[node];
      next[node] = start[node];
    }
  }
  return { tree, value, depth, start, levels, total: value[0] };
}

function ordered(level, parent, start) {
  for (let i = 1; i < level.length; i += 1) if (start[parent[level[i]]] < start[parent[level[i - 1]]]) return false;
  return true;
}

// The place in a level of the first node that ends after `x`.
export function firstAfter({ levels, start, value }, level, x) {
  const nodes = levels[level];
  let low = 0;
  let high = nodes.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (start[nodes[middle]] + value[nodes[middle]] > x) high = middle; else low = middle + 1;
  }
  return low;
}

// The node at a place, or -1.
export function nodeAt(layout, level, x) {
  if (level < 0 || level >= layout.levels.length) return -1;
  const node = layout.levels[level][firstAfter(layout, level, x)];
  return node !== undefined && layout.start[node] <= x ? node : -1;
}

// The next node to the left or right on the same level, or -1.
export function beside(layout, node, by) {
  const level = layout.depth[node];
  const found = layout.levels[level][layout.levels[level].indexOf(node) + by];
  return found === undefined ? -1 : found;
}

// The widest child, or -1.
export function widestChild(layout, node) {
  const { tree, levels, value, depth } = layout;
  let best = -1;
  for (const one of levels[depth[node] + 1] || []) if (tree.parent[one] === node && (best < 0 || value[one] > value[best])) best = one;
  return best;
}

// A node by its path, for links: the same in every profile in which the path occurs.
export function pathKey({ tree, depth }, node) {
  let hash = 0;
  for (let at = node; at > 0; at = tree.parent[at]) hash = (Math.imul(hash, 31) + tree.frames[tree.frame[at]].hash) >>> 0;
  return node > 0 ? `${depth[node]}.${hash.toString(36)}` : "";
}

export function nodeOfKey(layout, key) {
  const level = Number((key || "").split(".")[0]);
  const found = level > 0 && [...(layout.levels[level] || [])].find((node) => pathKey(layout, node) === key);
  return found || 0;
}

// How wide the frames of a tree are: their totals or, compared, the mean of both, so that what is gone
// can still be seen and children still fit below their parents.
export function widthsOf(tree, factor) {
  return factor ? tree.total.map((now, i) => (now + tree.baseTotal[i] * factor) / 2) : tree.total;
}
