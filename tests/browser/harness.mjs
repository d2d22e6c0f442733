// Starts the real pipeline under streamctl and a real Chromium, and ends both.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync, openSync, existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const BIN = resolve(ROOT, process.env.STREAM_BIN ?? 'bin');
export const PATIENCE = Number(process.env.STREAM_PATIENCE ?? 1);
export const LIMIT = 30000 * PATIENCE; // ms, of every wait

export async function waitFor(condition, what, limit = LIMIT) {
  const end = Date.now() + limit;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${limit} ms in vain for ${typeof what === 'function' ? what() : what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

// Below the range that the kernel hands out for outgoing connections, so that it stays free.
async function freePort() {
  for (let port = 30000 + (process.pid % 2500); ; port++) {
    const server = createServer();
    const free = await new Promise((done) => server.once('error', () => done(false)).listen(port, '127.0.0.1', () => done(true)));
    if (!free) continue;
    await new Promise((done) => server.close(done));
    return port;
  }
}

export class Pipeline {
  static async start(change = (config) => config) {
    const pipeline = new Pipeline();
    pipeline.directory = mkdtempSync(join(tmpdir(), 'sb'));
    pipeline.port = await freePort();
    const config = JSON.parse(readFileSync(join(ROOT, 'pipelines/default.json'), 'utf8'));
    config.server = { ...config.server, port: pipeline.port };
    const path = join(pipeline.directory, 'default.json');
    writeFileSync(path, JSON.stringify(change(config, pipeline.directory)));
    pipeline.log = join(pipeline.directory, 'log');
    const log = openSync(pipeline.log, 'w');
    pipeline.process = spawn(join(BIN, 'streamctl'), ['run', path], {
      stdio: ['ignore', log, log],
      cwd: pipeline.directory,
      env: { ...process.env, XDG_RUNTIME_DIR: pipeline.directory },
    });
    pipeline.url = `http://localhost:${pipeline.port}`;
    pipeline.ended = new Promise((done) => pipeline.process.once('exit', done));
    await waitFor(() => pipeline.answers('/readyz'), () => `the pipeline; it says:\n${readFileSync(pipeline.log, 'utf8')}`);
    return pipeline;
  }

  async answers(path) {
    if (this.process.exitCode !== null) throw new Error(`streamctl has ended:\n${readFileSync(this.log, 'utf8')}`);
    return fetch(this.url + path).then((answer) => answer.ok, () => false);
  }

  async get(path) {
    return (await fetch(this.url + path)).json();
  }

  async stage(name) {
    return (await this.get('/api/stream/status')).stages.find((stage) => stage.name === name);
  }

  async sources() {
    return (await this.get('/api/sources')).sources.map((source) => source.name);
  }

  async stop() {
    if (this.process.exitCode === null) {
      this.process.kill('SIGTERM');
      const late = setTimeout(() => this.process.kill('SIGKILL'), LIMIT);
      await this.ended;
      clearTimeout(late);
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export function browser() {
  const found = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find((path) => existsSync(path));
  if (!found) throw new Error('no Chromium at /usr/bin/chromium: run tests/deps test, or name one in CHROMIUM');
  return chromium.launch({
    executablePath: found,
    timeout: LIMIT,
    args: ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
      '--disable-sync', ...(process.getuid() === 0 ? ['--no-sandbox'] : [])],
  });
}

// A page that collects what goes wrong in it. `allowed`: console messages that belong to the test.
export async function open(chrome, url, options = {}, allowed = []) {
  const context = await chrome.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(LIMIT);
  const page = await context.newPage();
  page.problems = [];
  page.on('console', (message) => {
    if (message.type() === 'error' && !allowed.some((pattern) => pattern.test(message.text()))) page.problems.push(message.text());
  });
  page.on('pageerror', (error) => page.problems.push(String(error.stack)));
  await page.goto(url);
  await page.waitForSelector('#connection[data-state="open"]');
  await page.waitForSelector('#stages tr');
  return page;
}
