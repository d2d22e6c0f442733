// The dashboard's modules that need no page: layout, series, formats.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as format from '../../cmd/streamctl/web/format.js';
import { layers, place } from '../../cmd/streamctl/web/layout.js';
import { SERIES_MOST, SeriesStore, fieldsOf, firstField, firstKey } from '../../cmd/streamctl/web/series.js';

test('numbers are short and never lie about nothing', () => {
  assert.deepEqual([0, 1, 9.876, 41, 99.96, 123.4, 9999, 10000, 1234567, 2.5e9].map(format.count), ['0', '1', '9.9', '41', '100', '123', '9999', '10.0 k', '1.23 M', '2.50 G']);
  assert.deepEqual([null, undefined, NaN, Infinity].map(format.count), ['–', '–', '–', '–']);
  assert.equal(format.rate(0.001), '<0.01');
  assert.deepEqual([0.999, 0.25, 0.04].map(format.rate), ['1', '0.3', '0.04']);
  assert.equal(format.rate(0), '0');
});

test('sizes and times take the unit that fits', () => {
  assert.deepEqual([0, 1023, 1024, 1536, 1048576, 5 * 2 ** 40].map(format.bytes), ['0 B', '1023 B', '1.00 KiB', '1.50 KiB', '1.00 MiB', '5.00 TiB']);
  assert.deepEqual([0.05, 0.9996, 12.34, 999, 1500].map(format.milliseconds), ['50 µs', '1000 µs', '12.3 ms', '999 ms', '1.50 s']);
  assert.deepEqual([0, 59, 61, 3661, 90061].map(format.duration), ['0 s', '59 s', '1 min 01 s', '1 h 01 min', '1 d 1 h']);
  assert.equal(format.percent(0.04), '0.0 %');
  assert.equal(format.percent(12.3), '12 %');
  assert.equal(format.clock('nonsense'), '–');
});

test('cells show any value', () => {
  assert.deepEqual([null, 1, 0.1 + 0.2, 'x', true, { a: [1] }].map(format.cell), ['–', '1', '0.3', 'x', 'true', '{"a":[1]}']);
});

const NODES = [
  { name: 'a', inputs: [] }, { name: 'b', inputs: [] }, { name: 'p', inputs: ['a', 'b'] }, { name: 'q', inputs: ['p'] },
  { name: 'out', inputs: ['a', 'b', 'p', 'q'], last: true },
];

test('stages stand behind what feeds them', () => {
  const { rows, links } = layers(NODES);
  assert.deepEqual(rows.map((row) => row.filter((slot) => slot.node).map((slot) => slot.node.name).sort()), [['a', 'b'], ['p'], ['q'], ['out']]);
  assert.equal(links.length, 7);
  assert.equal(links.find((link) => link.key === 'a>out').passes.length, 2);
});

test('a circle or an unknown input never hangs the layout', () => {
  const { rows, links } = layers([{ name: 'a', inputs: ['b', 'nobody'] }, { name: 'b', inputs: ['a'] }]);
  assert.equal(rows.flat().filter((slot) => slot.node).length, 2);
  assert.ok(links.length <= 2);
  assert.deepEqual(layers([]).rows, [[]]);
});

for (const [width, across] of [[1400, true], [700, true], [306, false]]) {
  test(`boxes do not overlap and links end at them (${width}, ${across ? 'across' : 'down'})`, () => {
    const plan = place(NODES, width, across);
    assert.equal(plan.boxes.length, NODES.length);
    for (const one of plan.boxes) {
      assert.ok(one.x >= 0 && one.y >= 0 && one.x + one.w <= plan.width && one.y + one.h <= plan.height, JSON.stringify(one));
      for (const other of plan.boxes) {
        if (one === other) continue;
        assert.ok(one.x + one.w <= other.x || other.x + other.w <= one.x || one.y + one.h <= other.y || other.y + other.h <= one.y, `${one.name} over ${other.name}`);
      }
    }
    for (const path of plan.paths) assert.match(path.d, /^M[\d.-]+ [\d.-]+ C/);
    if (!across) assert.equal(plan.width, width);
  });
}

test('series share their time steps, and average inside one', () => {
  const store = new SeriesStore(60); // steps of 150 ms
  store.add(15000, 't', 'a', 1);
  store.add(15010, 't', 'a', 3);
  store.add(15200, 't', 'b', 7);
  const { times, lines } = store.aligned(16000);
  assert.equal(times.length, 2);
  assert.deepEqual(lines.map((line) => [line.key, line.values]), [['a', [2, null]], ['b', [null, 7]]]);
  assert.equal(lines[0].last, 3);
});

test('what is older than the window is forgotten, and series without values with it', () => {
  const store = new SeriesStore(60);
  store.add(0, 't', 'old', 1);
  store.add(100000, 't', 'new', 2);
  assert.deepEqual(store.aligned(100000).lines.map((line) => line.key), ['new']);
  for (let i = 0; i < 100000; i++) store.add(100000 + i * 10, 't', 'new', i);
  store.trim(1100000);
  assert.ok(store.series.get('t\u0000new').steps.size < 410);
});

test('there are at most so many series; the rest is counted', () => {
  const store = new SeriesStore(60);
  for (let i = 0; i < 50; i++) store.add(1000, 't', `k${i}`, i);
  assert.equal(store.aligned(1000).lines.length, SERIES_MOST);
  assert.equal(store.hidden, 50 - SERIES_MOST);
});

test('bad values are left out', () => {
  const store = new SeriesStore(60);
  for (const [time, value] of [[NaN, 1], [1, NaN], [1, Infinity], [1, '3'], [undefined, 1]]) store.add(time, 't', 'a', value);
  assert.equal(store.series.size, 0);
});

test('the chart ends now, or where old data that is played again ends', () => {
  const store = new SeriesStore(60);
  assert.equal(store.end(1e12), 1e12);
  store.add(1e12 - 1000, 't', 'a', 1);
  assert.equal(store.end(1e12), 1e12);
  const replayed = new SeriesStore(60);
  replayed.add(1.4e12, 't', 'a', 1);
  assert.equal(replayed.end(1.7e12), 1.4e12);
});

test('fields are told apart, and the first choice is a measurement', () => {
  const records = [{ id: 1, sensor_id: 'a', temperature: 21.5, seq: 4, ok: true, session_id: 'x', nested: {} }];
  const { numeric, keys } = fieldsOf(records);
  assert.deepEqual(numeric, ['id', 'temperature', 'seq']);
  assert.deepEqual(keys, ['id', 'sensor_id', 'seq', 'ok', 'session_id']);
  assert.equal(firstField(numeric), 'temperature');
  assert.equal(firstKey(keys, records), 'sensor_id');
  assert.equal(firstKey(['session_id'], [{ session_id: 'x' }]), '');
});
