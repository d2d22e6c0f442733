// Small helpers over the DOM. Text is always set as text, never as markup.
const SVG = 'http://www.w3.org/2000/svg';

export const byId = (id) => document.getElementById(id);

function build(node, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'text') node.textContent = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const element = (tag, properties, ...children) => build(document.createElement(tag), properties, children);
export const svg = (tag, properties, ...children) => build(document.createElementNS(SVG, tag), properties, children);

// Changes text only when it differs, so that nothing is laid out or announced for nothing.
export function setText(node, text) {
  const value = String(text);
  if (node.textContent !== value) node.textContent = value;
}

export function setAttribute(node, name, value) {
  const text = String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

// Options of a select, kept when they are the same; the choice stays when it is still there.
export function setOptions(select, options, preferred) {
  const values = options.map((option) => option.value);
  const before = [...select.options].map((option) => option.value);
  if (values.length === before.length && values.every((value, i) => value === before[i])) return select.value;
  const chosen = values.includes(select.value) && before.length ? select.value : preferred;
  select.replaceChildren(...options.map(({ value, label }) => element('option', { value, text: label ?? value })));
  select.value = values.includes(chosen) ? chosen : values[0] ?? '';
  return select.value;
}

// At most one call per interval, the last one always.
export function throttle(interval, action) {
  let timer = null;
  let last = 0;
  return () => {
    if (timer !== null) return;
    const wait = Math.max(0, last + interval - performance.now());
    timer = setTimeout(() => {
      timer = null;
      last = performance.now();
      action();
    }, wait);
  };
}
