// Places a pipeline's stages: layers by distance from the sources, links that pass a layer kept clear of its nodes. Pure.

// nodes: [{name, inputs: [names]}]. Returns layers of slots; a slot is {node} or {pass: "from>to"}, a place where a long link
// goes through.
export function layers(nodes) {
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const depths = new Map();
  const depth = (node, seen) => {
    if (depths.has(node.name)) return depths.get(node.name);
    if (seen.has(node.name)) return 0; // a circle: configurations cannot hold one, but never loop on what a peer says
    seen.add(node.name);
    const inputs = node.inputs.map((name) => byName.get(name)).filter(Boolean);
    const value = inputs.length ? 1 + Math.max(...inputs.map((input) => depth(input, seen))) : 0;
    depths.set(node.name, value);
    return value;
  };
  nodes.forEach((node) => depth(node, new Set()));
  const last = Math.max(0, ...depths.values());
  for (const node of nodes) if (node.last) depths.set(node.name, last);
  const rows = Array.from({ length: last + 1 }, () => []);
  for (const node of nodes) rows[depths.get(node.name)].push({ node });
  const links = [];
  for (const node of nodes) {
    for (const name of node.inputs) {
      const from = byName.get(name);
      if (!from || depths.get(name) >= depths.get(node.name)) continue;
      const link = { from: name, to: node.name, key: `${name}>${node.name}`, passes: [] };
      for (let row = depths.get(name) + 1; row < depths.get(node.name); row++) {
        const slot = { pass: link.key };
        rows[row].push(slot);
        link.passes.push(slot);
      }
      links.push(link);
    }
  }
  order(rows, links);
  return { rows, links };
}

// Fewer crossings: each slot goes to the mean place of its neighbours, a few times in both directions.
function order(rows, links) {
  const chains = links.map((link) => [link.from, ...link.passes, link.to]);
  const slotOf = (row, end) => rows[row].find((slot) => slot === end || (slot.node && slot.node.name === end));
  const neighbours = new Map();
  const connect = (a, b) => {
    if (!neighbours.has(a)) neighbours.set(a, []);
    neighbours.get(a).push(b);
  };
  const rowOf = new Map();
  rows.forEach((row, index) => row.forEach((slot) => rowOf.set(slot, index)));
  const find = (end) => (typeof end === 'string' ? [...rowOf.keys()].find((slot) => slot.node && slot.node.name === end) : end);
  for (const chain of chains) {
    for (let i = 0; i + 1 < chain.length; i++) {
      const a = find(chain[i]);
      const b = find(chain[i + 1]);
      if (a && b && slotOf(rowOf.get(a), a) && slotOf(rowOf.get(b), b)) {
        connect(a, b);
        connect(b, a);
      }
    }
  }
  for (let sweep = 0; sweep < 6; sweep++) {
    const down = sweep % 2 === 0;
    for (let i = 0; i < rows.length; i++) {
      const index = down ? i : rows.length - 1 - i;
      const other = down ? index - 1 : index + 1;
      if (other < 0 || other >= rows.length) continue;
      const place = new Map(rows[other].map((slot, at) => [slot, (at + 0.5) / rows[other].length]));
      const weight = new Map(
        rows[index].map((slot, at) => {
          const near = (neighbours.get(slot) ?? []).filter((n) => place.has(n)).map((n) => place.get(n));
          return [slot, near.length ? near.reduce((a, b) => a + b, 0) / near.length : (at + 0.5) / rows[index].length];
        }),
      );
      rows[index].sort((a, b) => weight.get(a) - weight.get(b));
    }
  }
}

// How wide a layer's stages may be to fit a phone; a layer of many stages scrolls instead.
function narrow(row, width, size) {
  const stages = row.filter((slot) => slot.node).length || 1;
  const fits = (width - size.gap * (row.length - 1) - size.pass * (row.length - stages)) / stages;
  return Math.max(80, Math.min(150, Math.floor(fits)));
}

// Coordinates. Across: from left to right; else from top to bottom (a phone). Returns {width, height, boxes, paths}.
export function place(nodes, width, across) {
  const { rows, links } = layers(nodes);
  const pad = 8;
  const size = across ? { w: 168, h: 52, gap: 13, pass: 12, layer: 0 } : { w: 150, h: 54, gap: 8, pass: 8, layer: 44 };
  const widthOf = new Map(rows.map((row) => [row, across ? size.w : narrow(row, width - 2 * pad, size)]));
  const extent = (row) => row.reduce((sum, slot) => sum + (slot.node ? (across ? size.h : widthOf.get(row)) : size.pass), 0) + Math.max(0, row.length - 1) * size.gap;
  const longest = Math.max(...rows.map(extent), 0);
  let w, h, step;
  if (across) {
    const free = width - 2 * pad - size.w;
    step = rows.length > 1 ? Math.max(size.w + 60, Math.min(free / (rows.length - 1), 520)) : 0;
    w = Math.max(width, 2 * pad + size.w + step * (rows.length - 1));
    h = longest + 2 * pad;
  } else {
    step = size.h + size.layer;
    w = Math.max(width, longest + 2 * pad);
    h = 2 * pad + rows.length * size.h + (rows.length - 1) * size.layer;
  }
  const left = across ? (w - size.w - step * (rows.length - 1)) / 2 : 0;
  const boxes = [];
  const spots = new Map(); // slot or name → point on its middle
  rows.forEach((row, index) => {
    let at = ((across ? h : w) - extent(row)) / 2;
    for (const slot of row) {
      const wide = widthOf.get(row);
      const length = slot.node ? (across ? size.h : wide) : size.pass;
      const x = across ? left + index * step : at;
      const y = across ? at : pad + index * step;
      if (slot.node) {
        boxes.push({ name: slot.node.name, node: slot.node, x, y, w: wide, h: size.h });
        spots.set(slot.node.name, { x, y, w: wide, h: size.h });
      } else {
        spots.set(slot, across ? { x, y: y + length / 2, w: size.w, h: 0 } : { x: x + length / 2, y, w: 0, h: size.h });
      }
      at += length + size.gap;
    }
  });
  return { width: w, height: h, boxes, paths: links.map((link) => path(link, spots, across)) };
}

function path(link, spots, across) {
  const chain = [link.from, ...link.passes, link.to].map((end) => spots.get(end));
  const out = (spot) => (across ? [spot.x + spot.w, spot.y + spot.h / 2] : [spot.x + spot.w / 2, spot.y + spot.h]);
  const into = (spot) => (across ? [spot.x, spot.y + spot.h / 2] : [spot.x + spot.w / 2, spot.y]);
  let [x, y] = out(chain[0]);
  let d = `M${x} ${y}`;
  let label = null;
  for (let i = 1; i < chain.length; i++) {
    const [ex, ey] = into(chain[i]);
    const bend = (across ? ex - x : ey - y) / 2;
    d += across ? ` C${x + bend} ${y} ${ex - bend} ${ey} ${ex} ${ey}` : ` C${x} ${y + bend} ${ex} ${ey - bend} ${ex} ${ey}`;
    label ??= { x: (x + ex) / 2, y: (y + ey) / 2 };
    [x, y] = out(chain[i]);
    if (i + 1 < chain.length) d += ` L${x} ${y}`;
  }
  return { key: link.key, from: link.from, to: link.to, d, label };
}
