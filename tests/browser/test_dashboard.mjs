// The dashboard in Chromium, over the real default pipeline.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { LIMIT, Pipeline, ROOT, browser, open, waitFor } from './harness.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const OFFLINE = [/WebSocket connection to/, /Failed to load resource/];
let pipeline;
let chrome;
let sources;

before(async () => {
  pipeline = await Pipeline.start();
  chrome = await browser();
  sources = await pipeline.sources();
}, { timeout: 3 * LIMIT });

after(async () => {
  await chrome?.close();
  await pipeline?.stop();
}, { timeout: 3 * LIMIT });

const withPage = (name, options, body, allowed) => test(name, { timeout: 6 * LIMIT }, async () => {
  const page = await open(chrome, pipeline.url, options, allowed);
  try {
    await body(page);
    assert.deepEqual(page.problems, [], 'nothing went wrong on the page');
  } finally {
    await page.context().close();
  }
});

const text = (page, selector) => page.locator(selector).first().textContent();
const row = (name) => `#stages tr[data-stage="${name}"]`;
const stateIs = (page, name, state) => page.waitForSelector(`${row(name)} .badge[data-state="${state}"]`);
// The painted chart, as text: changes when a line moves.
const painted = (page) => page.evaluate(() => document.querySelector('#chart canvas')?.toDataURL() ?? '');

withPage('the overview fills with live numbers', {}, async (page) => {
  await waitFor(async () => /^[1-9]/.test(await text(page, '[data-tile="rate"] .tile-value')), 'a rate of events');
  await waitFor(async () => /(µs|ms|s)$/.test(await text(page, '[data-tile="p99"] .tile-value')), 'a latency');
  assert.match(await text(page, '[data-tile="memory"] .tile-value'), /MiB$/);
  await waitFor(async () => await page.locator('[data-tile="rate"] .spark-line[d]').count(), 'a line of recent rates');
  assert.equal(await text(page, '#pipeline-state'), 'running');
});

withPage('the chart draws live data of the chosen stream, fields and group', {}, async (page) => {
  await page.waitForSelector('#chart canvas');
  for (let i = 0; i < 3; i++) {
    const before = await painted(page);
    await waitFor(async () => (await painted(page)) !== before, 'the chart to move');
  }
  const streams = await page.locator('#chart-stream option').allTextContents();
  assert.ok(streams.length >= sources.length, streams.join());
  await page.selectOption('#chart-stream', 'sensors');
  await page.waitForSelector('#chart-fields input');
  await waitFor(async () => (await page.locator('#chart-fields input:checked').count()) === 1, 'a field to be chosen');
  await page.locator('#chart-fields .chip', { hasText: 'humidity' }).click();
  await page.waitForSelector('#legend .legend-item:has-text("humidity")');
  await page.selectOption('#chart-key', '');
  await waitFor(async () => {
    const names = await page.locator('#legend .legend-item span').allTextContents();
    return names.length === 2 && names.includes('humidity');
  }, 'one line for each field');
  await page.selectOption('#chart-key', 'location');
  await waitFor(async () => (await page.locator('#legend .legend-item').count()) > 2, 'a line for each place');
  await page.getByRole('button', { name: '5 min', exact: true }).click();
  await page.waitForSelector('#legend .legend-item');
  const name = (await page.locator('#legend .legend-item span').first().textContent()).trim();   // by name: newcomers may come before it
  const chosen = page.locator('#legend .legend-item', { hasText: name }).first();
  await chosen.click();
  await waitFor(async () => (await chosen.getAttribute('aria-pressed')) === 'false', 'the line to be hidden');
  assert.match(await text(page, '#chart-summary'), /newest values/);
});

withPage('the pipeline is drawn with live rates along its links', {}, async (page) => {
  const { stages } = await pipeline.get('/api/stream/status');
  const shown = stages.filter((stage) => stage.role !== 'server');
  await page.waitForSelector('#graph .box');
  assert.deepEqual((await page.locator('#graph .box').evaluateAll((all) => all.map((box) => box.dataset.stage))).sort(), shown.map((s) => s.name).sort());
  assert.equal(await page.locator('#graph [data-link]').count(), shown.reduce((sum, stage) => sum + stage.inputs.length, 0));
  await waitFor(async () => (await page.locator('#graph [data-moving="true"]').count()) > 0, 'a link that moves');
  await waitFor(async () => (await page.locator('#graph .link-rate').allTextContents()).some((rate) => /\d/.test(rate)), 'a rate at a link');
  const label = await page.locator('#graph svg').getAttribute('aria-label');
  for (const stage of shown) assert.ok(label.includes(stage.name), label);
  await page.setViewportSize({ width: 400, height: 800 }); // drawn anew, from top to bottom: what is known stays
  await page.waitForFunction(() => document.querySelector('#graph svg').clientWidth < 500);
  assert.equal(await page.locator('#graph .box[data-state="unknown"]').count(), 0);
  assert.ok((await page.locator('#graph .box-rate').allTextContents()).every((rate) => /\d/.test(rate)));
});

withPage('a source is stopped and started by clicking', {}, async (page) => {
  const [name] = sources;
  await stateIs(page, name, 'running');
  await page.click(`${row(name)} button`);
  await stateIs(page, name, 'stopped');
  assert.equal((await pipeline.stage(name)).state, 'stopped');
  assert.equal(await text(page, `${row(name)} button`), 'Start');
  await page.waitForSelector(`#graph .box[data-stage="${name}"][data-state="stopped"]`);
  await page.waitForSelector('.toast:has-text("Stopped")');
  await page.click(`${row(name)} button`);
  await stateIs(page, name, 'running');
  assert.equal((await pipeline.stage(name)).state, 'running');
});

withPage('all sources are stopped and started at once', {}, async (page) => {
  await page.click('#stop-all');
  for (const name of sources) await stateIs(page, name, 'stopped');
  await page.click('#start-all');
  for (const name of sources) await stateIs(page, name, 'running');
});

withPage('recent events come in and stand still while paused', {}, async (page) => {
  await page.selectOption('#events-stream', 'sensors');
  await waitFor(async () => (await page.locator('#events tr').count()) > 3, 'events');
  const head = await page.locator('#events-head th').allTextContents();
  assert.equal(head[0], 'time');
  assert.ok(head.includes('temperature'));
  const newest = () => text(page, '#events tr td.time');
  const one = await newest();
  await waitFor(async () => (await newest()) !== one, 'a newer event');
  await page.click('#pause');
  const all = () => page.locator('#events').textContent();
  const still = await waitFor(async () => {
    const before = await all();
    await page.waitForTimeout(600); // longer than the table's redraw
    return (await all()) === before && before;
  }, 'the table to stand still');
  await page.waitForTimeout(1500);
  assert.equal(await all(), still);
  await page.click('#pause');
  await waitFor(async () => (await all()) !== still, 'the table to go on');
});

withPage('the ledger balances at every stage', {}, async (page) => {
  const { stages } = await pipeline.get('/api/audit');
  await page.waitForSelector('#ledger tr');
  assert.deepEqual(await page.locator('#ledger tr').evaluateAll((all) => all.map((each) => each.dataset.stage)), stages.map((stage) => stage.name));
  await waitFor(async () => ['balanced', 'moving'].includes(await page.locator('#ledger-verdict').getAttribute('data-verdict')), 'a balance');
  await waitFor(async () => (await page.locator('#ledger .verdict').evaluateAll((all) => all.map((mark) => mark.dataset.verdict)))
    .every((verdict) => ['balanced', 'moving'].includes(verdict)), 'every stage to balance');
  assert.match(await text(page, `#ledger tr[data-stage="${sources[0]}"] td[data-label="In"]`), /^[1-9]/);
  assert.equal(await page.locator('#ledger button:visible').count(), 0, 'nothing to be replayed');
});

withPage('a stage that dies raises an alert, comes back, and is announced', {}, async (page) => {
  const [name] = sources;
  await stateIs(page, name, 'running');
  const known = await page.locator('#alerts .alert').evaluateAll((all) => all.map((item) => item.dataset.id));
  process.kill((await pipeline.stage(name)).pid, 'SIGKILL');
  const fresh = await waitFor(() => page.locator('#alerts .alert').evaluateAll((all, [seen, stage]) =>
    all.filter((item) => !seen.includes(item.dataset.id) && item.textContent.includes(stage)).map((item) => item.textContent)[0], [known, name]), 'an alert');
  assert.match(fresh, new RegExp(name));
  await waitFor(async () => (await text(page, '#announcer')).length > 0, 'an announcement');
  await stateIs(page, name, 'running');
});

withPage('it reconnects by itself when the façade dies', {}, async (page) => {
  await page.evaluate(() => { window.marker = 'the same page'; });
  await page.waitForSelector('#chart canvas');
  process.kill((await pipeline.stage('facade')).pid, 'SIGKILL');
  await page.waitForSelector('#connection[data-state="lost"], #connection[data-state="connecting"]');
  await page.waitForSelector('#connection[data-state="open"]');
  await waitFor(() => page.locator('#lost').isHidden(), 'the notice to go');
  const before = await painted(page);
  await waitFor(async () => (await painted(page)) !== before, 'the chart to move again');
  assert.equal(await page.evaluate(() => window.marker), 'the same page');
}, OFFLINE);

for (const [width, height] of [[360, 740], [414, 896], [768, 1024], [1024, 768], [1920, 1080], [2560, 1440]]) {
  withPage(`nothing overflows at ${width} pixels`, { viewport: { width, height } }, async (page) => {
    await page.waitForSelector('#chart canvas');
    await page.waitForSelector('#graph .box');
    await waitFor(async () => (await page.locator('#events tr').count()) > 0, 'events');
    const { scroll, inner } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, inner: innerWidth }));
    assert.ok(scroll <= inner, `${scroll} > ${inner}`);
    const outside = await page.evaluate(() => [...document.querySelectorAll('button, select, .tile, .card')]
      .filter((node) => { const box = node.getBoundingClientRect(); return box.width && (box.left < -1 || box.right > innerWidth + 1) && !node.closest('.scroll, .graph'); })
      .map((node) => node.outerHTML.slice(0, 80)));
    assert.deepEqual(outside, []);
  });
}

withPage('everything is reached and used by keyboard', {}, async (page) => {
  const [name] = sources;
  await stateIs(page, name, 'running');
  await page.waitForSelector('#chart-fields input');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to content');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  const reached = new Set();
  for (let i = 0; i < 120; i++) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const node = document.activeElement;
      if (node === document.body) return null;
      const style = getComputedStyle(node.matches('.chip input') ? node.nextElementSibling : node);
      return { id: node.id || node.getAttribute('aria-label') || node.value || node.textContent, seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0 };
    });
    if (!at) break;
    assert.ok(at.seen, `the focus shows on ${at.id}`);
    reached.add(at.id);
  }
  for (const id of ['chart-stream', 'chart-key', 'events-stream', 'pause', 'alerts', `Stop ${name}`]) assert.ok(reached.has(id), `${id} of ${[...reached].join(', ')}`);
  await page.focus(`${row(name)} button`);
  await page.keyboard.press('Enter');
  await stateIs(page, name, 'stopped');
  await page.keyboard.press('Space');
  await stateIs(page, name, 'running');
});

for (const colorScheme of ['light', 'dark']) {
  for (const width of [390, 1440]) {
    withPage(`no accessibility rule is broken (${colorScheme}, ${width})`, { colorScheme, viewport: { width, height: 900 }, bypassCSP: true }, async (page) => {
      await page.waitForSelector('#chart canvas');
      await page.waitForSelector('#ledger tr');
      await waitFor(async () => (await page.locator('#events tr').count()) > 0, 'events');
      await page.addScriptTag({ content: axe });
      const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }));
      assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.html.slice(0, 120)} (${n.failureSummary})`).join(' | ')}`), []);
    });
  }
}

withPage('dark and light follow the system until one is chosen, which stays', { colorScheme: 'dark' }, async (page) => {
  const light = () => page.evaluate(() => {
    const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/[\d.]+/g).map(Number);
    return r + g + b > 380;
  });
  assert.equal(await light(), false);
  await page.emulateMedia({ colorScheme: 'light' });
  assert.equal(await light(), true);
  const toggle = page.locator('#theme');
  while ((await toggle.getAttribute('data-scheme')) !== 'dark') await toggle.click();
  assert.equal(await light(), false);
  await page.reload();
  await page.waitForSelector('#connection[data-state="open"]');
  assert.equal(await light(), false);
});

withPage('nothing moves by itself when less motion is wanted', { reducedMotion: 'reduce' }, async (page) => {
  await waitFor(async () => (await page.locator('#graph [data-moving="true"]').count()) > 0, 'a link that carries events');
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
});

test('the token is asked for, checked, and kept for this tab only', { timeout: 6 * LIMIT }, async () => {
  const { writeFileSync } = await import('node:fs');
  const guarded = await Pipeline.start((config, directory) => {
    writeFileSync(join(directory, 'token'), 'the-right-token\n', { mode: 0o600 });
    return { ...config, server: { ...config.server, token_file: join(directory, 'token') } };
  });
  try {
    const page = await open(chrome, guarded.url, {}, [/401/]);
    const [name] = await guarded.sources();
    await page.click(`${row(name)} button`);
    await page.waitForSelector('#token-dialog[open]');
    await page.fill('#token', 'a wrong one');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#token-text:has-text("not accepted")');
    assert.equal((await guarded.stage(name)).state, 'running');
    await page.fill('#token', 'the-right-token');
    await page.keyboard.press('Enter');
    await stateIs(page, name, 'stopped');
    await page.click(`${row(name)} button`);
    await stateIs(page, name, 'running');
    assert.equal(await page.evaluate(() => JSON.stringify(localStorage).includes('token')), false);
    assert.deepEqual(page.problems, []);
    const other = await open(chrome, guarded.url, {}, [/401/]);
    await other.click('#stop-all');
    await other.waitForSelector('#token-dialog[open]');
    await other.keyboard.press('Escape');
    await waitFor(async () => !(await other.locator('#token-dialog[open]').count()), 'the dialog to close');
    assert.equal((await guarded.stage(name)).state, 'running');
  } finally {
    await guarded.stop();
  }
});

// The README's picture. SCREENSHOT=man/dashboard.png keeps it, after a while that fills the chart and brings an alert.
test('a picture for the README', { timeout: 12 * LIMIT }, async () => {
  const page = await open(chrome, pipeline.url, { viewport: { width: 1440, height: 1080 }, colorScheme: 'light' });
  await page.selectOption('#chart-stream', 'sensors');
  await waitFor(async () => (await page.locator('#legend .legend-item').count()) > 1, 'several lines');
  if (process.env.SCREENSHOT) {
    await page.waitForTimeout(60000);
    await waitFor(() => page.locator('#alerts .alert').count(), 'an alert', 8 * LIMIT);
  }
  const path = join(ROOT, process.env.SCREENSHOT ?? 'build/dashboard.png');
  mkdirSync(join(path, '..'), { recursive: true });
  const picture = await page.screenshot({ path });
  assert.ok(picture.length > 50000, 'a picture with something on it');
  assert.deepEqual(page.problems, []);
  await page.context().close();
});
