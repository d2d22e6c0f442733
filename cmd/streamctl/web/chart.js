// The live chart: what is chosen, its data, and uPlot (a global from /uplot.js) that draws it.
import { byId, element, setOptions, setText, throttle } from './dom.js';
import { cell, clock } from './format.js';
import { SERIES_MOST, SeriesStore, fieldsOf, firstField, firstKey } from './series.js';

const REDRAW = 200; // ms
const HEIGHT = 300;
const PALETTE = SERIES_MOST;

export class Chart {
  #root = byId('chart');
  #chosen = { stream: '', key: '', fields: [], window: 60 };
  #store = new SeriesStore(60);
  #plot = null;
  #shape = ''; // of the plot: series and axes
  #off = new Set(); // series switched off in the legend
  #samples = [];
  #redraw = throttle(REDRAW, () => this.#draw());
  #onStream;

  constructor(onStream) {
    this.#onStream = onStream;
    byId('chart-stream').addEventListener('change', (event) => this.choose(event.target.value));
    byId('chart-key').addEventListener('change', (event) => this.#set({ key: event.target.value }));
    byId('chart-fields').addEventListener('change', () => {
      const fields = [...byId('chart-fields').querySelectorAll('input:checked')].map((box) => box.value);
      this.#set({ fields });
    });
    for (const button of document.querySelectorAll('[data-window]')) {
      button.addEventListener('click', () => {
        document.querySelectorAll('[data-window]').forEach((other) => other.setAttribute('aria-pressed', String(other === button)));
        this.#set({ window: Number(button.dataset.window) });
      });
    }
    new ResizeObserver(() => this.#plot?.setSize({ width: this.#root.clientWidth, height: this.#height() })).observe(this.#root);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.restyle());
    setInterval(() => document.hidden || this.#redraw(), 1000); // time moves when nothing comes
  }

  get stream() {
    return this.#chosen.stream;
  }

  // Streams with numeric fields to draw: [{name, fields: [{name, type}]}].
  offer(streams) {
    const names = streams.map((stream) => stream.name);
    const best = [...streams].sort((a, b) => (b.rate ?? 0) - (a.rate ?? 0)).find((stream) => (stream.fields ?? []).some((field) => /int|double/.test(field.type)));
    const value = setOptions(byId('chart-stream'), names.map((name) => ({ value: name })), best?.name);
    if (!this.#chosen.stream && best && value !== best.name) byId('chart-stream').value = best.name;
    if (this.#chosen.stream !== byId('chart-stream').value && (best || this.#chosen.stream)) this.choose(byId('chart-stream').value);
  }

  async choose(stream) {
    byId('chart-stream').value = stream;
    this.#chosen = { ...this.#chosen, stream, key: '', fields: [] };
    this.#samples = [];
    this.#restart();
    this.#onStream(stream);
    await this.#history();
  }

  // Events of the chosen stream, oldest first: [{ts, data}].
  add(events) {
    if (this.#samples.length < 20 || !this.#chosen.fields.length) this.#learn(events);
    this.#take(events);
    this.#redraw();
  }

  restyle() {
    this.#shape = '';
    this.#draw();
  }

  #take(events) {
    const { key, fields } = this.#chosen;
    for (const { ts, data } of events) {
      const time = Date.parse(ts);
      for (const field of fields) {
        if (typeof data?.[field] === 'number') this.#store.add(time, field, key ? cell(data[key]) : '', data[field]);
      }
    }
  }

  // Looks at events for fields to offer; the first ones decide what is shown first.
  #learn(events) {
    this.#samples = [...this.#samples, ...events.map((event) => event.data)].slice(-40);
    const { numeric, keys } = fieldsOf(this.#samples);
    const first = !this.#chosen.fields.length;
    if (first && numeric.length) {
      this.#chosen.fields = [firstField(numeric)];
      this.#chosen.key = firstKey(keys, this.#samples);
    }
    setOptions(byId('chart-key'), [{ value: '', label: 'nothing' }, ...keys.map((name) => ({ value: name }))], this.#chosen.key);
    if (first) byId('chart-key').value = this.#chosen.key;
    const box = byId('chart-fields');
    const offered = [...box.querySelectorAll('input')].map((input) => input.value);
    if (offered.join('\u0000') === numeric.join('\u0000')) return;
    box.replaceChildren(...numeric.map((name) => element('label', { class: 'chip' },
      element('input', { type: 'checkbox', value: name, checked: this.#chosen.fields.includes(name) }), element('span', { text: name }))));
  }

  #set(change) {
    this.#chosen = { ...this.#chosen, ...change };
    this.#restart();
    this.#history();
  }

  #restart() {
    this.#store = new SeriesStore(this.#chosen.window);
    this.#off.clear();
    this.#shape = '';
    this.#draw();
  }

  // What the server still has of the stream, so that the chart does not begin empty.
  async #history() {
    const store = this.#store;
    const { stream } = this.#chosen;
    if (!stream) return;
    const answer = await fetch(`/api/streams/${encodeURIComponent(stream)}/events?limit=500`).catch(() => null);
    if (!answer?.ok || store !== this.#store) return;
    const { events } = await answer.json();
    if (store !== this.#store) return;
    const begun = store.newest === -Infinity ? Infinity : Math.min(...[...store.series.values()].flatMap((series) => [...series.steps.keys()])) * store.step;
    this.#learn(events);
    this.#take(events.filter((event) => Date.parse(event.ts) < begun)); // what came live meanwhile is there already
    this.#redraw();
  }

  #height() {
    return this.#root.clientWidth < 480 ? 240 : HEIGHT;
  }

  #name(line) {
    const many = this.#chosen.fields.length > 1;
    return line.key === '' ? line.field : many ? `${line.key} · ${line.field}` : line.key;
  }

  #draw() {
    const now = Date.now();
    const { times, lines } = this.#store.aligned(now);
    const empty = !lines.length;
    const message = byId('chart-empty');
    message.hidden = !empty;
    this.#root.hidden = empty;
    if (empty) {
      setText(message, !this.#chosen.stream ? 'No stream has any data yet.' : this.#chosen.fields.length || !this.#samples.length ? `Waiting for events of ${this.#chosen.stream}.` : 'Choose at least one field.');
      byId('legend').replaceChildren();
      this.#shape = '';
      return;
    }
    const shape = JSON.stringify(lines.map((line) => [line.field, line.key]));
    if (shape !== this.#shape) this.#build(shape, lines);
    const end = this.#store.end(now) / 1000;
    this.#plot.batch(() => {
      this.#plot.setData([times, ...lines.map((line) => line.values)], false);
      this.#plot.setScale('x', { min: end - this.#chosen.window, max: end });
    });
    this.#values(lines, this.#plot.cursor.idx ?? null);
    const summary = lines.map((line) => `${this.#name(line)} ${cell(line.last)}`).join(', ');
    setText(byId('chart-summary'), `${this.#chosen.fields.join(' and ')} of ${this.#chosen.stream}, newest values: ${summary}${this.#store.hidden ? `; ${this.#store.hidden} more are not shown` : ''}`);
  }

  #build(shape, lines) {
    this.#shape = shape;
    this.#plot?.destroy();
    this.#root.replaceChildren();
    const style = getComputedStyle(this.#root);
    const probe = element('i', { class: 'probe' });
    this.#root.append(probe);
    const color = (index) => {
      probe.dataset.series = index % PALETTE;
      return getComputedStyle(probe).color;
    };
    const colors = lines.map((_, index) => color(index));
    probe.remove();
    const muted = style.color;
    const grid = { stroke: style.borderTopColor, width: 1 };
    const fields = [...new Set(lines.map((line) => line.field))];
    const font = `12px ${style.fontFamily}`;
    const axes = [
      { stroke: muted, grid, ticks: { show: false }, font, size: 30, space: 90, values: (_, splits) => splits.map((at) => clock(at * 1000)) },
      ...fields.slice(0, 2).map((field, index) => ({ scale: field, side: index ? 1 : 3, stroke: muted, grid: index ? { show: false } : grid, ticks: { show: false }, font, size: 56, gap: 6, label: fields.length > 1 ? field : null, labelFont: font, labelSize: 18 })),
    ];
    const sparse = (index) => this.#plot && this.#plot.data[index].filter((value) => value !== null).length < 60;
    this.#plot = new window.uPlot(
      {
        width: this.#root.clientWidth || 600,
        height: this.#height(),
        legend: { show: false },
        cursor: { y: false, points: { size: 7 }, drag: { setScale: false, x: false, y: false } },
        padding: [12, fields.length > 1 ? 4 : 16, 0, 0],
        scales: { x: { time: true, auto: false } },
        axes,
        series: [{}, ...lines.map((line, index) => ({
          label: this.#name(line), scale: line.field, stroke: colors[index], width: 2, spanGaps: true, show: !this.#off.has(this.#name(line)),
          dash: line.field === fields[0] ? undefined : [6, 4], points: { show: (_, at) => sparse(at), size: 5, fill: colors[index] },
        }))],
        hooks: { setCursor: [() => this.#values(null, this.#plot?.cursor.idx ?? null)] },
      },
      [[], ...lines.map(() => [])],
      this.#root,
    );
    this.#legend(lines);
  }

  #legend(lines) {
    const items = lines.map((line, index) => {
      const name = this.#name(line);
      const button = element('button', { type: 'button', class: 'legend-item', 'aria-pressed': String(!this.#off.has(name)) },
        element('i', { class: 'swatch', 'data-series': index % PALETTE, 'aria-hidden': 'true' }), element('span', { text: name }), element('b', {}));
      button.addEventListener('click', () => {
        const shown = this.#off.delete(name) || !this.#off.add(name);
        button.setAttribute('aria-pressed', String(shown));
        this.#plot.setSeries(index + 1, { show: shown });
      });
      return button;
    });
    const more = element('span', { class: 'muted legend-more' });
    byId('legend').replaceChildren(...items, more);
  }

  // The legend's numbers: at the cursor, or the newest.
  #values(lines, index) {
    const buttons = byId('legend').querySelectorAll('.legend-item b');
    const data = this.#plot?.data;
    buttons.forEach((button, at) => {
      const column = data?.[at + 1] ?? [];
      let from = index === null ? column.length - 1 : index;
      while (from > 0 && column[from] === null) from--;
      const value = index === null && lines ? lines[at]?.last : column[from];
      setText(button, typeof value === 'number' ? cell(Number(value.toPrecision(5))) : '–');
    });
    const more = byId('legend').querySelector('.legend-more');
    if (more) setText(more, this.#store.hidden ? `${this.#store.hidden} more not shown` : '');
  }
}
