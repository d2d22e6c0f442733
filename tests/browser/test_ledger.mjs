// The dashboard's ledger over a pipeline with a state_dir: what is on disk, and dead letters that a button sends again.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { LIMIT, Pipeline, browser, open, waitFor } from './harness.mjs';

const COUNT = 200;
let pipeline;
let chrome;

// One statement in the database; its rows. (Node has no SQLite of its own yet, Python has.)
const PYTHON = 'import json, sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=20); print(json.dumps(c.execute(sys.argv[2]).fetchall())); c.commit()';
const sql = (directory, statement) => JSON.parse(execFileSync('/usr/bin/python3', ['-c', PYTHON, join(directory, 'out.db'), statement]));

// A database that refuses half of the events until its trigger has gone.
before(async () => {
  pipeline = await Pipeline.start((config, directory) => {
    writeFileSync(join(directory, 'in.ndjson'), Array.from({ length: COUNT }, (_, seq) => `{"seq":${seq}}\n`).join(''));
    sql(directory, 'create table events (ts text, stream text, seq integer)');
    sql(directory, "create trigger refuse before insert on events when new.seq % 2 begin select raise(abort, 'odd'); end");
    return {
      server: config.server,
      state_dir: 'state',
      data_sources: [{ name: 'log', path: 'in.ndjson', follow: true }, { name: 'sensors', type: 'sensors', rate: 50 }],
      pipelines: [{ name: 'sums', from: 'sensors', program: 'window tumbling 1s by sensor_id: count() as n' }],
      sinks: [{ type: 'sqlite', path: 'out.db', from: 'log', name: 'base' }],
      delivery: { snapshot: '200ms' },
    };
  });
  chrome = await browser();
}, { timeout: 3 * LIMIT });

after(async () => {
  await chrome?.close();
  await pipeline?.stop();
}, { timeout: 3 * LIMIT });

test('logs, snapshots, and dead letters that a button sends again', { timeout: 6 * LIMIT }, async () => {
  const page = await open(chrome, pipeline.url);
  const cell = (stage, label) => page.locator(`#ledger tr[data-stage="${stage}"] td[data-label="${label}"]`).first().textContent();
  await page.waitForSelector('#ledger tr');
  await waitFor(async () => /^\d.*B$/.test(await cell('sensors', 'Log')), 'the size of a log');
  await waitFor(async () => /ago$/.test(await cell('sums', 'Snapshot')), 'the age of a snapshot');
  await waitFor(async () => (await cell('broadcast', 'Dead letters')) === String(COUNT / 2), 'dead letters');
  assert.equal(await page.locator('#ledger button:visible').count(), 1, 'only who has letters has a button');

  sql(pipeline.directory, 'drop trigger refuse');
  await page.click('#ledger tr[data-stage="broadcast"] button');
  await waitFor(async () => (await cell('broadcast', 'Dead letters')) === '0', 'no dead letters');
  await waitFor(async () => (await page.locator('#ledger button:visible').count()) === 0, 'the button to go');
  assert.deepEqual(sql(pipeline.directory, 'select count(*), count(distinct seq) from events'), [[COUNT, COUNT]]);
  assert.deepEqual(page.problems, [], 'nothing went wrong on the page');
  await page.context().close();
});
