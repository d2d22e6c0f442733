// The panels beside the chart and the graph: tiles, stages, alerts, recent events.
import { byId, element, setAttribute, setOptions, setText, svg, throttle } from './dom.js';
import { bytes, cell, clock, count, duration, milliseconds, percent, rate } from './format.js';
import { wire } from './control.js';

const SPARK = 60; // values
const ALERTS_SHOWN = 60;
const EVENTS_SHOWN = 25;
const COLUMNS_SHOWN = 8;

const TILES = [
  { id: 'rate', label: 'Events per second', value: (t) => t.rate, show: rate, note: (t) => `${count(t.events)} since start` },
  { id: 'p50', label: 'Latency, median', value: (t) => t.latency_ms?.p50, show: milliseconds, note: () => 'ingest to broadcast' },
  { id: 'p99', label: 'Latency, p99', value: (t) => t.latency_ms?.p99, show: milliseconds, note: (t) => `p99.9 ${milliseconds(t.latency_ms?.p999)}` },
  { id: 'queued', label: 'Queued', value: (t) => t.outstanding_bytes, show: bytes, note: () => 'sent, not acknowledged' },
  { id: 'cpu', label: 'CPU', value: (t) => t.cpu_percent, show: percent, note: () => 'of one core, all stages' },
  { id: 'memory', label: 'Memory', value: (t) => t.memory_bytes, show: bytes, note: (t) => `${t.clients} viewer${t.clients === 1 ? '' : 's'}` },
];

export class Tiles {
  #tiles = TILES.map((tile) => {
    const value = element('p', { class: 'tile-value', text: '–' });
    const note = element('p', { class: 'tile-note muted', text: '\u00a0' });
    const area = svg('path', { class: 'spark-area' });
    const line = svg('path', { class: 'spark-line' });
    const spark = svg('svg', { class: 'spark', viewBox: '0 0 100 28', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, area, line);
    const node = element('div', { class: 'tile card', 'data-tile': tile.id, role: 'group', 'aria-label': tile.label },
      element('h3', { text: tile.label }), value, note, spark);
    return { ...tile, node, values: [], parts: { value, note, area, line } };
  });

  constructor() {
    byId('tiles').replaceChildren(...this.#tiles.map((tile) => tile.node));
  }

  show(totals) {
    for (const tile of this.#tiles) {
      const value = tile.value(totals);
      setText(tile.parts.value, tile.show(value));
      setText(tile.parts.note, tile.note(totals));
      tile.values.push(Number.isFinite(value) ? value : null);
      if (tile.values.length > SPARK) tile.values.shift();
      this.#spark(tile);
    }
  }

  #spark({ values, parts }) {
    const known = values.filter((value) => value !== null);
    if (known.length < 2) return;
    const top = Math.max(...known) * 1.05 || 1;
    const points = values.map((value, at) => (value === null ? null : [((at + SPARK - values.length) * 100) / (SPARK - 1), 27 - (value / top) * 25])).filter(Boolean);
    const line = points.map(([x, y], at) => `${at ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');
    parts.line.setAttribute('d', line);
    parts.area.setAttribute('d', `${line}L${points.at(-1)[0].toFixed(1)} 28L${points[0][0].toFixed(1)} 28Z`);
  }
}

const GOES = new Set(['running', 'starting', 'backoff', 'draining']);

export class Stages {
  #body = byId('stages');
  #rows = new Map();

  show(stages) {
    const names = stages.map((stage) => stage.name);
    if (names.join('\u0000') !== [...this.#rows.keys()].join('\u0000')) {
      this.#rows = new Map(stages.map((stage) => [stage.name, this.#rows.get(stage.name) ?? this.#row(stage)]));
      this.#body.replaceChildren(...[...this.#rows.values()].map((row) => row.node));
    }
    for (const stage of stages) this.#update(stage);
  }

  numbers(stages) {
    for (const stage of stages) this.#numbers(stage.name, stage);
  }

  // Uptimes go on by themselves between two words of the server.
  tick(elapsed) {
    for (const { stage, cells } of this.#rows.values()) {
      const runs = stage && stage.pid > 0 && Number.isFinite(stage.uptime_seconds);
      setText(cells.uptime, runs ? duration(stage.uptime_seconds + elapsed) : '–');
    }
  }

  #row(stage) {
    const cells = {};
    const cellOf = (key, label, props = { class: 'num' }) => (cells[key] = element('td', { ...props, 'data-label': label, text: '–' }));
    cells.state = element('span', { class: 'badge' });
    cells.note = element('p', { class: 'stage-note' });
    const name = element('th', { scope: 'row' }, element('span', { class: 'stage-name', text: stage.name }), element('span', { class: 'stage-kind muted', text: stage.type || stage.tool }));
    const row = element('tr', { 'data-stage': stage.name }, name, element('td', { 'data-label': 'State' }, cells.state, cells.note),
      cellOf('in', 'In/s'), cellOf('out', 'Out/s'), cellOf('p50', 'p50'), cellOf('p99', 'p99'), cellOf('queued', 'Queued'), cellOf('cpu', 'CPU'), cellOf('memory', 'Memory'), cellOf('uptime', 'Uptime'));
    const actions = element('td', { class: 'actions' });
    if (stage.role === 'source') {
      cells.button = element('button', { type: 'button', class: 'button small' });
      wire(cells.button, () => (cells.button.dataset.action), stage.name);
      actions.append(cells.button);
    }
    row.append(actions);
    return { node: row, cells, stage: null };
  }

  #update(stage) {
    const row = this.#rows.get(stage.name);
    row.stage = stage;
    const unhealthy = stage.state === 'running' && stage.healthy === false;
    setText(row.cells.state, unhealthy ? 'unhealthy' : stage.state);
    setAttribute(row.cells.state, 'data-state', unhealthy ? 'unhealthy' : stage.state);
    setText(row.cells.note, stage.healthy === false ? stage.health : '');
    if (row.cells.button) {
      const action = GOES.has(stage.state) ? 'stop' : 'start';
      row.cells.button.dataset.action = action;
      setText(row.cells.button, action === 'stop' ? 'Stop' : 'Start');
      setAttribute(row.cells.button, 'aria-label', `${action === 'stop' ? 'Stop' : 'Start'} ${stage.name}`);
    }
    this.#numbers(stage.name, stage.numbers ?? {});
  }

  #numbers(name, numbers) {
    const cells = this.#rows.get(name)?.cells;
    if (!cells) return;
    setText(cells.in, rate(numbers.rate_in));
    setText(cells.out, rate(numbers.rate_out));
    setText(cells.p50, milliseconds(numbers.latency_ms?.p50));
    setText(cells.p99, milliseconds(numbers.latency_ms?.p99));
    setText(cells.queued, bytes(numbers.outstanding_bytes));
    setText(cells.cpu, percent(numbers.cpu_percent));
    setText(cells.memory, bytes(numbers.memory_bytes));
  }
}

const ANNOUNCE = 10000; // ms between two announcements to screen readers

export class Alerts {
  #list = byId('alerts');
  #alerts = new Map();
  #fresh = [];
  #announce = throttle(ANNOUNCE, () => {
    const fresh = this.#fresh.splice(0);
    if (!fresh.length) return;
    const text = fresh.length > 1 ? `${fresh.length} new alerts. Newest: ${fresh.at(-1).message}` : `Alert: ${fresh[0].message}`;
    byId('announcer').replaceChildren(element('span', { text }));
  });
  #draw = throttle(250, () => this.#show());

  constructor() {
    this.#show();
  }

  // What the server has kept, at the beginning and after a reconnect.
  reset(alerts) {
    this.#alerts = new Map(alerts.map((alert) => [alert.id, alert]));
    this.#draw();
  }

  add(alert) {
    this.#alerts.set(alert.id, alert);
    if (alert.severity !== 'info') {
      this.#fresh.push(alert);
      this.#announce();
    }
    this.#draw();
  }

  #show() {
    const alerts = [...this.#alerts.values()].sort((a, b) => b.id - a.id);
    this.#alerts = new Map(alerts.slice(0, 200).map((alert) => [alert.id, alert]));
    setText(byId('alert-count'), alerts.length > 99 ? '99+' : alerts.length);
    if (!alerts.length) {
      this.#list.replaceChildren(element('li', { class: 'empty', text: 'Nothing to report.' }));
      return;
    }
    this.#list.replaceChildren(...alerts.slice(0, ALERTS_SHOWN).map((alert) => this.#item(alert)));
  }

  #item(alert) {
    const cleared = alert.state === 'cleared' || alert.state === 'clear';
    const level = cleared ? 'cleared' : alert.severity;
    return element('li', { class: 'alert', 'data-severity': level, 'data-id': alert.id },
      element('span', { class: 'alert-level', text: level }),
      element('p', { class: 'alert-text', text: alert.message }),
      element('p', { class: 'alert-from muted' }, element('time', { datetime: alert.ts, text: clock(alert.ts) }), alert.stage ? ` · ${alert.stage}` : alert.kind === 'alert' ? ' · rule' : ''));
  }
}

export class Events {
  #stream = '';
  #paused = false;
  #events = [];
  #columns = '';
  #draw = throttle(400, () => this.#show());
  #onStream;

  constructor(onStream) {
    this.#onStream = onStream;
    byId('events-stream').addEventListener('change', (event) => this.choose(event.target.value));
    const pause = byId('pause');
    pause.addEventListener('click', () => {
      this.#paused = !this.#paused;
      pause.setAttribute('aria-pressed', String(this.#paused));
      setText(pause, this.#paused ? 'Resume' : 'Pause');
      if (!this.#paused) this.#draw();
    });
  }

  get stream() {
    return this.#stream;
  }

  offer(streams, preferred) {
    const value = setOptions(byId('events-stream'), streams.map((stream) => ({ value: stream.name })), preferred);
    if (value && value !== this.#stream) this.choose(value);
  }

  async choose(stream) {
    byId('events-stream').value = stream;
    this.#stream = stream;
    this.#events = [];
    this.#onStream(stream);
    this.#show();
    const answer = await fetch(`/api/streams/${encodeURIComponent(stream)}/events?limit=${EVENTS_SHOWN}`).catch(() => null);
    if (!answer?.ok || stream !== this.#stream) return;
    const { events } = await answer.json();
    if (!this.#events.length) this.add(events);
  }

  add(events) {
    this.#events.push(...events);
    this.#events.splice(0, this.#events.length - EVENTS_SHOWN);
    if (!this.#paused) this.#draw();
  }

  #show() {
    const empty = byId('events-empty');
    empty.hidden = this.#events.length > 0;
    setText(empty, this.#stream ? `No event of ${this.#stream} has come yet.` : 'No stream has any data yet.');
    const names = [...new Set(this.#events.flatMap((event) => Object.keys(event.data ?? {})))];
    const columns = names.slice(0, COLUMNS_SHOWN);
    const key = columns.join('\u0000');
    if (key !== this.#columns) {
      this.#columns = key;
      byId('events-head').replaceChildren(...(this.#events.length ? ['time', ...columns] : []).map((name) => element('th', { scope: 'col', text: name })));
    }
    const rows = [...this.#events].reverse().map(({ ts, data }) => element('tr', {},
      element('td', { class: 'time', text: clock(ts, true) }),
      ...columns.map((name) => element('td', { class: typeof data?.[name] === 'number' ? 'num' : null, title: cell(data?.[name]), text: cell(data?.[name]) }))));
    byId('events').replaceChildren(...rows);
  }
}
