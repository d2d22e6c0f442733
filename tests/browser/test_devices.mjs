// The dashboard's devices: their table, filters, pages, on a wide screen and on a phone, light and dark, by keyboard.
import assert from 'node:assert/strict';
import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { LIMIT, Pipeline, browser, open, waitFor } from './harness.mjs';

const COUNT = 120;
let pipeline;
let chrome;
const line = (device) => `${JSON.stringify({ device, value: 1 })}\n`;
const name = (i) => `sensor-${String(i).padStart(3, '0')}`;

// All are silent from the beginning; only the very first can be told late or offline, for only of it an interval is known.
before(async () => {
  pipeline = await Pipeline.start((config, directory) => {
    writeFileSync(join(directory, 'in.ndjson'), Array.from({ length: COUNT }, (_, i) => line(name(i))).join(''));
    return {
      server: config.server,
      data_sources: [{ name: 'plant', path: 'in.ndjson', follow: true, device: 'device', device_patience: '3650d', device_floor: '50ms', device_late: 2, device_offline: 4 }],
    };
  });
  chrome = await browser();
}, { timeout: 3 * LIMIT });

after(async () => {
  await chrome?.close();
  await pipeline?.stop();
}, { timeout: 3 * LIMIT });

const names = (page) => page.locator('#devices tr').evaluateAll((rows) => rows.map((row) => row.dataset.device));

test('devices are listed, searched and turned over', { timeout: 6 * LIMIT }, async () => {
  const page = await open(chrome, pipeline.url);
  await page.waitForSelector('#devices tr');
  await waitFor(async () => (await page.textContent('#devices-summary')).startsWith(`${COUNT} online`), 'the summary');
  assert.deepEqual(await names(page), Array.from({ length: 50 }, (_, i) => name(i)));
  assert.equal(await page.textContent('#devices-range'), `1 to 50 of ${COUNT}`);
  assert.ok(await page.isDisabled('#devices-before'));
  await page.focus('#devices-after');
  await page.keyboard.press('Enter');
  await waitFor(async () => (await names(page))[0] === name(50), 'the second page');
  await page.keyboard.press('Enter');
  await waitFor(async () => (await names(page)).length === COUNT - 100, 'the last page');
  assert.ok(await page.isDisabled('#devices-after'));
  await page.fill('#devices-search', 'SENSOR-07');
  await waitFor(async () => (await names(page)).length === 10, 'what was searched for');
  assert.deepEqual(await names(page), Array.from({ length: 10 }, (_, i) => name(70 + i)));
  await page.fill('#devices-search', 'nobody');
  await page.waitForSelector('#devices-empty:visible');
  assert.deepEqual(page.problems, [], 'nothing went wrong on the page');
  await page.context().close();
});

test('a device that falls silent is seen to go', { timeout: 6 * LIMIT }, async () => {
  const page = await open(chrome, pipeline.url);
  for (let i = 0; i < 5; i++) {
    appendFileSync(join(pipeline.directory, 'in.ndjson'), line('lamp'));
    const messages = async () => (await pipeline.get('/api/devices?search=lamp')).devices[0]?.messages;
    await waitFor(async () => (await messages()) === i + 1, 'a message');
    await new Promise((done) => setTimeout(done, 100));      // an interval that can be learned
  }
  await waitFor(async () => (await pipeline.get('/api/devices?status=offline')).total === 1, 'the device to go');
  await page.selectOption('#devices-status', 'offline');
  await waitFor(async () => (await names(page)).join() === 'lamp', 'the device that has gone');
  assert.equal(await page.textContent('#devices tr .badge'), 'offline');
  assert.match(await page.getAttribute('#devices tr .badge', 'title'), /silence$/);
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

for (const colorScheme of ['light', 'dark']) {
  test(`the table fits a phone, ${colorScheme}`, { timeout: 6 * LIMIT }, async () => {
    const page = await open(chrome, pipeline.url, { viewport: { width: 360, height: 740 }, colorScheme });
    await page.waitForSelector('#devices tr');
    const { wide, contrast } = await page.evaluate(() => {
      const luminance = (colour) => {
        const canvas = document.createElement('canvas').getContext('2d');
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((value) => (value / 255 <= 0.03928 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const badge = getComputedStyle(document.querySelector('#devices .badge'));
      const [a, b] = [luminance(badge.color), luminance(badge.backgroundColor)].sort((x, y) => y - x);
      return { wide: document.documentElement.scrollWidth, contrast: (a + 0.05) / (b + 0.05) };
    });
    assert.ok(wide <= 360, `the page is ${wide} wide`);
    assert.ok(contrast >= 4.5, `a badge's contrast is ${contrast}`);
    assert.equal(await page.getByLabel('Status of the devices').count(), 1);
    assert.equal(await page.getByLabel('Part of the device’s name').count(), 1);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
}

test('without devices there is no panel', { timeout: 6 * LIMIT }, async () => {
  const other = await Pipeline.start((config) => ({ server: config.server, data_sources: [{ name: 'sensors', type: 'sensors', rate: 5 }] }));
  const page = await open(chrome, other.url);
  await page.waitForResponse((response) => response.url().includes('/api/devices'));
  assert.ok(await page.locator('#devices-card').isHidden());
  await page.context().close();
  await other.stop();
});
