// The devices behind the sources: who is there, late or gone. Nothing is shown of it where no source knows devices.
import { byId, element, setAttribute, setText } from './dom.js';
import { duration, rate } from './format.js';

const AGAIN = 5000; // ms
const PAGE = 50;
const STATUSES = ['online', 'late', 'offline'];

const whole = (value) => value.toLocaleString('en').replaceAll(',', '\u2009');
const ago = (time) => (time ? `${duration((Date.now() - Date.parse(time)) / 1000)} ago` : 'never');

export class Devices {
  #section = byId('devices-card');
  #body = byId('devices');
  #status = byId('devices-status');
  #search = byId('devices-search');
  #rows = new Map();
  #offset = 0;
  #asked = 0;
  #typing = null;

  constructor() {
    this.#status.addEventListener('change', () => this.#begin());
    this.#search.addEventListener('input', () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#begin(), 250);
    });
    byId('devices-before').addEventListener('click', () => this.#turn(-PAGE));
    byId('devices-after').addEventListener('click', () => this.#turn(PAGE));
    setInterval(() => document.hidden || document.body.hasAttribute('data-stale') || this.refresh(), AGAIN);
  }

  // Answers may come in another order than they were asked for: only the last one counts.
  async refresh() {
    const asked = ++this.#asked;
    const query = new URLSearchParams({ limit: PAGE, offset: this.#offset });
    if (this.#status.value) query.set('status', this.#status.value);
    if (this.#search.value.trim()) query.set('search', this.#search.value.trim());
    const answer = await fetch(`/api/devices?${query}`).then((reply) => (reply.ok ? reply.json() : null), () => null);
    if (answer && asked === this.#asked) this.#show(answer);
  }

  #begin() {
    this.#offset = 0;
    this.refresh();
  }

  #turn(by) {
    this.#offset = Math.max(0, this.#offset + by);
    this.refresh();
  }

  #show({ devices, total, next, counts, forgotten }) {
    const known = STATUSES.reduce((sum, status) => sum + counts[status], 0);
    if (this.#section.hidden && !known) return;
    this.#section.hidden = false;
    if (!devices.length && this.#offset) { // fewer than before
      this.#begin();
      return;
    }
    for (const option of this.#status.options) setText(option, option.value ? `${option.value} (${whole(counts[option.value])})` : `all (${whole(known)})`);
    setText(byId('devices-summary'), STATUSES.map((status) => `${whole(counts[status])} ${status}`).join(' · ') + (forgotten ? ` · ${whole(forgotten)} forgotten` : ''));
    const keys = devices.map(({ source, device }) => `${source}\u0000${device}`);
    if (keys.join('\u0001') !== [...this.#rows.keys()].join('\u0001')) {
      this.#rows = new Map(devices.map((device, i) => [keys[i], this.#rows.get(keys[i]) ?? this.#row(device)]));
      this.#body.replaceChildren(...[...this.#rows.values()].map((row) => row.node));
    }
    devices.forEach((device, i) => this.#fill(this.#rows.get(keys[i]).cells, device));
    byId('devices-empty').hidden = devices.length > 0;
    setText(byId('devices-range'), devices.length ? `${whole(this.#offset + 1)} to ${whole(this.#offset + devices.length)} of ${whole(total)}` : '');
    byId('devices-pages').hidden = total <= PAGE;
    byId('devices-before').disabled = this.#offset === 0;
    byId('devices-after').disabled = next === null;
  }

  #fill(cells, device) {
    setText(cells.status, device.status);
    setAttribute(cells.status, 'data-state', device.status);
    setAttribute(cells.status, 'title', `since ${device.since}: ${device.reason}`);
    setText(cells.last, ago(device.last_seen));
    setAttribute(cells.last, 'title', device.last_seen ?? 'no message yet');
    setText(cells.interval, device.interval === null ? '–' : device.interval < 10 ? `${device.interval.toFixed(1)} s` : duration(device.interval));
    setText(cells.messages, whole(device.messages));
    setText(cells.rate, rate(device.rate));
    setText(cells.first, ago(device.first_seen));
    setAttribute(cells.first, 'title', device.first_seen);
  }

  #row({ device, source }) {
    const cells = { status: element('span', { class: 'badge' }) };
    const columns = [['last', 'Last seen'], ['interval', 'Interval'], ['messages', 'Messages'], ['rate', 'Messages/s'], ['first', 'First seen']];
    for (const [key, label] of columns) cells[key] = element('td', { class: 'num', 'data-label': label });
    const node = element('tr', { 'data-device': device },
      element('th', { scope: 'row' }, element('span', { class: 'stage-name', text: device }), element('span', { class: 'stage-kind muted', text: source })),
      element('td', {}, cells.status), ...columns.map(([key]) => cells[key]));
    return { node, cells };
  }
}
