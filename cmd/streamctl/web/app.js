// The dashboard: one WebSocket feeds all panels.
import { Chart } from './chart.js';
import { Connection } from './connection.js';
import { wire } from './control.js';
import { Devices } from './devices.js';
import { byId, setAttribute, setText } from './dom.js';
import { duration } from './format.js';
import { Graph } from './graph.js';
import { Ledger } from './ledger.js';
import { Alerts, Events, Stages, Tiles } from './panels.js';

const STREAMS_AGAIN = 5000; // ms: new streams and fields

const socket = new URL('/ws', location.href);
socket.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
const connection = new Connection(socket);
const tiles = new Tiles();
const stages = new Stages();
const alerts = new Alerts();
const graph = new Graph(byId('graph'));
const ledger = new Ledger();
const devices = new Devices();
const chart = new Chart(wantStreams);
const events = new Events(wantStreams);
let status = null;
let statusTime = 0;

function wantStreams() {
  connection.want([chart?.stream, events?.stream].filter(Boolean));
}

// Events of one message, oldest first.
const eventsOf = (message) => message.events ?? [{ ts: message.ts, data: message.data }];

connection.addEventListener('data_update', ({ detail }) => {
  const list = eventsOf(detail);
  if (detail.stream === chart.stream) chart.add(list);
  if (detail.stream === events.stream) events.add(list);
});

connection.addEventListener('metrics_update', ({ detail }) => {
  tiles.show(detail.data.totals);
  stages.numbers(detail.data.stages);
  graph.numbers(detail.data.stages);
  ledger.numbers(detail.data.stages);
});

connection.addEventListener('error_alert', ({ detail }) => alerts.add(detail.data));

connection.addEventListener('stream_status', ({ detail }) => {
  status = detail.data;
  statusTime = performance.now();
  document.title = `${status.name} · stream dashboard`;
  setText(byId('pipeline-name'), status.name);
  setText(byId('pipeline-state'), status.state);
  setAttribute(byId('pipeline-state'), 'data-state', status.state);
  stages.show(status.stages);
  graph.show(status.stages);
  graph.numbers(status.stages.map((stage) => ({ name: stage.name, ...stage.numbers })));
  tick();
});

let retryAt = 0;
connection.addEventListener('state', ({ detail: { state, pause } }) => {
  setAttribute(byId('connection'), 'data-state', state);
  setText(byId('connection-text'), { open: 'Live', connecting: 'Connecting', lost: 'Offline' }[state]);
  retryAt = state === 'lost' ? performance.now() + pause : 0;
  byId('lost').hidden = state === 'open' || (state === 'connecting' && !status);
  document.body.toggleAttribute('data-stale', state !== 'open');
  if (state === 'connecting') setText(byId('lost-text'), 'Connection lost. Connecting again …');
  if (state === 'open') refresh();
  tick();
});

function tick() {
  const elapsed = (performance.now() - statusTime) / 1000;
  if (status) {
    setText(byId('uptime'), Number.isFinite(status.uptime_seconds) ? `up ${duration(status.uptime_seconds + elapsed)}` : '');
    stages.tick(elapsed);
  }
  const wait = Math.ceil((retryAt - performance.now()) / 1000);
  if (retryAt) setText(byId('lost-text'), `Connection lost. The numbers below are old. Next attempt in ${Math.max(0, wait)} s.`);
}
setInterval(tick, 1000);

async function streams() {
  const answer = await fetch('/api/streams').catch(() => null);
  if (!answer?.ok) return;
  const { streams: list } = await answer.json();
  const known = list.filter((stream) => stream.recent > 0).sort((a, b) => a.name.localeCompare(b.name));
  setText(byId('stream-count'), `${list.length} stream${list.length === 1 ? '' : 's'}`);
  chart.offer(known);
  events.offer(known, chart.stream);
}

async function refresh() {
  streams();
  ledger.refresh();
  devices.refresh();
  const answer = await fetch('/api/alerts').catch(() => null);
  if (answer?.ok) alerts.reset((await answer.json()).alerts);
}
setInterval(() => document.hidden || byId('connection').dataset.state !== 'open' || streams(), STREAMS_AGAIN);

// Colour scheme: the system's, or a choice that stays.
const SCHEMES = ['system', 'light', 'dark'];
function scheme(name) {
  if (name === 'system') document.documentElement.removeAttribute('data-theme');
  else document.documentElement.dataset.theme = name;
  setAttribute(byId('theme'), 'aria-label', `Colour scheme: ${name}`);
  setAttribute(byId('theme'), 'title', `Colour scheme: ${name}`);
  setAttribute(byId('theme'), 'data-scheme', name);
  chart.restyle();
}
byId('theme').addEventListener('click', () => {
  const next = SCHEMES[(SCHEMES.indexOf(byId('theme').dataset.scheme) + 1) % SCHEMES.length];
  localStorage.setItem('scheme', next);
  scheme(next);
});
scheme(SCHEMES.includes(localStorage.getItem('scheme')) ? localStorage.getItem('scheme') : 'system');

wire(byId('start-all'), 'start', null);
wire(byId('stop-all'), 'stop', null);
byId('retry').addEventListener('click', () => connection.retry());
connection.open();
