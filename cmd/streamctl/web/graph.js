// The pipeline as a picture: stages as boxes with their state and rate, links with live rates and a flow that moves.
import { setAttribute, setText, svg } from './dom.js';
import { rate } from './format.js';
import { place } from './layout.js';

const KINDS = { source: 'source', pipeline: 'process', broadcast: 'broadcast' };

export class Graph {
  #root;
  #stages = [];
  #numbers = [];
  #drawn = '';
  #parts = { boxes: new Map(), links: new Map() };

  constructor(root) {
    this.#root = root;
    new ResizeObserver(() => this.#draw()).observe(root);
  }

  // The stages of a status; the server that shows this page is not part of the data's way.
  show(stages) {
    this.#stages = stages.filter((stage) => KINDS[stage.role]);
    this.#draw();
    this.#states();
  }

  #states() {
    for (const stage of this.#stages) {
      const box = this.#parts.boxes.get(stage.name);
      if (box) setAttribute(box.group, 'data-state', stage.healthy === false && stage.state === 'running' ? 'unhealthy' : stage.state);
    }
    this.#describe();
  }

  numbers(stages) {
    this.#numbers = stages;
    for (const stage of stages) {
      const box = this.#parts.boxes.get(stage.name);
      if (box) setText(box.rate, box.kind === 'broadcast' ? `${rate(stage.rate_in)}/s in` : `${rate(stage.rate_out)}/s`);
      for (const link of stage.links ?? []) {
        const drawn = link.side === 'from' && this.#linkInto(stage.name, link.name);
        if (drawn) this.#flow(drawn, link.rate);
      }
    }
  }

  // The link that ends at a stage, by its name FROM-TO; a worker's ("averages.0") is named after its pipeline.
  #linkInto(stage, name) {
    for (const to of [stage, stage.replace(/\.\d+$/, '')]) {
      if (name.endsWith(`-${to}`)) {
        const drawn = this.#parts.links.get(`${name.slice(0, -to.length - 1)}>${stage}`);
        if (drawn) return drawn;
      }
    }
    return null;
  }

  #flow(drawn, value) {
    const moving = value > 0;
    if (drawn.label) setText(drawn.label, moving ? rate(value) : '');
    setAttribute(drawn.group, 'data-moving', moving);
    drawn.line.style.strokeWidth = moving ? Math.min(6, 1.5 + Math.log10(1 + value)).toFixed(2) : '1.5';
    if (moving) drawn.flow.style.animationDuration = `${Math.max(0.35, 2.4 - 0.5 * Math.log10(1 + value)).toFixed(2)}s`;
  }

  #describe() {
    const parts = this.#stages.map((stage) => `${stage.name}, ${KINDS[stage.role]}, ${stage.state}${stage.inputs.length ? `, from ${stage.inputs.join(' and ')}` : ''}`);
    setAttribute(this.#root.firstElementChild ?? this.#root, 'aria-label', `The pipeline: ${parts.join('; ')}.`);
  }

  #draw() {
    const width = Math.floor(this.#root.clientWidth);
    if (!width || !this.#stages.length) return;
    const across = width >= 620;
    const nodes = this.#stages.map(({ name, role, inputs, type, tool }) => ({ name, role, inputs, last: role === 'broadcast', kind: type || tool }));
    const key = JSON.stringify([width, nodes]);
    if (key === this.#drawn) return;
    this.#drawn = key;
    const plan = place(nodes, width, across);
    this.#parts = { boxes: new Map(), links: new Map() };
    const links = plan.paths.map((path) => this.#link(path, across));
    const boxes = plan.boxes.map((box) => this.#box(box));
    this.#root.replaceChildren(
      svg('svg', { viewBox: `0 0 ${plan.width} ${plan.height}`, width: plan.width, height: plan.height, role: 'img', class: 'pipeline' }, ...links, ...boxes),
    );
    this.#states();
    this.numbers(this.#numbers);
  }

  #link({ key, d, label }, across) {
    const line = svg('path', { d, class: 'link' });
    const flow = svg('path', { d, class: 'flow' });
    const text = across && label ? svg('text', { x: label.x, y: label.y - 6, class: 'link-rate', 'text-anchor': 'middle' }) : null;
    const group = svg('g', { 'data-link': key, 'data-moving': 'false' }, line, flow, text);
    this.#parts.links.set(key, { group, line, flow, label: text });
    return group;
  }

  #box({ name, node, x, y, w, h }) {
    const kind = KINDS[node.role];
    const small = w < 140;
    const most = Math.floor(small ? (w - 18) / 6.6 : (w - 34) / 7.6);
    const rateText = svg('text', { x: x + (small ? 10 : 14), y: y + h - 11, class: 'box-rate' });
    setText(rateText, '–');
    const group = svg('g', { class: 'box', 'data-kind': kind, 'data-stage': name, 'data-state': 'unknown' },
      svg('title', { text: `${name} (${node.kind})` }),
      svg('rect', { x, y, width: w, height: h, rx: 9 }),
      svg('rect', { x, y: y + 10, width: 3, height: h - 20, rx: 1.5, class: 'box-mark' }),
      svg('text', { x: x + (small ? 10 : 14), y: y + 21, class: small ? 'box-name small' : 'box-name', text: name.length > most ? `${name.slice(0, most - 1)}…` : name }),
      svg('circle', { cx: x + w - 15, cy: small ? y + h - 18 : y + 18, r: 4, class: 'box-state' }),
      small ? null : svg('text', { x: x + w - 12, y: y + h - 11, class: 'box-kind', 'text-anchor': 'end', text: node.kind }),
      rateText);
    this.#parts.boxes.set(name, { group, rate: rateText, kind });
    return group;
  }
}
