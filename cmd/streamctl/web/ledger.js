// The ledger: what became of every event at each stage, whether it balances, what is on disk, and dead letters with a button that
// sends them again.
import { byId, element, setAttribute, setText } from './dom.js';
import { bytes, duration, milliseconds } from './format.js';
import { change, note } from './control.js';

const AGAIN = 5000; // ms
const VERDICTS = { balanced: 'balanced', moving: 'balanced, some under way', unknown: 'cannot be told', wrong: 'does not balance' };
const COLUMNS = [
  ['in', 'In'], ['created', 'Created'], ['out', 'Out'], ['filtered', 'Filtered'], ['late', 'Late'], ['dead', 'Dead'],
  ['dropped', 'Dropped'], ['held', 'Held'], ['log', 'Log'], ['snapshot', 'Snapshot'],
];

const whole = (value) => (Number.isFinite(value) ? value.toLocaleString('en').replaceAll(',', '\u2009') : '–');

export class Ledger {
  #body = byId('ledger');
  #rows = new Map();
  #replayed = null;

  constructor() {
    setInterval(() => document.hidden || document.body.hasAttribute('data-stale') || this.refresh(), AGAIN);
  }

  async refresh() {
    const [audit, letters] = await Promise.all(['/api/audit', '/api/dead-letters?limit=1'].map((path) =>
      fetch(path).then((answer) => (answer.ok ? answer.json() : null), () => null)));
    if (audit) this.#show(audit);
    if (letters) this.#letters(letters);
  }

  // What each stage has on disk, from the metrics.
  numbers(stages) {
    for (const { name, disk } of stages) {
      const cells = this.#rows.get(name)?.cells;
      if (!cells) continue;
      setText(cells.log, disk ? bytes(disk.log_bytes) : '–');
      setAttribute(cells.log, 'title', disk ? `${whole(disk.log_frames)} frames waiting; at most ${bytes(disk.log_limit_bytes)}` : 'kept in memory');
      setAttribute(cells.log, 'data-trouble', Boolean(disk?.trouble));
      const age = disk?.snapshot_age_seconds;
      setText(cells.snapshot, Number.isFinite(age) ? `${duration(age)} ago` : '–');
      setAttribute(cells.snapshot, 'title', Number.isFinite(age) ? `takes ${milliseconds(disk.snapshot_ms)}, ${bytes(disk.snapshot_bytes)}` : 'none');
    }
  }

  #show({ verdict, stages, links }) {
    const badge = byId('ledger-verdict');
    setText(badge, VERDICTS[verdict] ?? verdict);
    setAttribute(badge, 'data-verdict', verdict);
    const names = stages.map((stage) => stage.name);
    if (names.join('\u0000') !== [...this.#rows.keys()].join('\u0000')) {
      this.#rows = new Map(stages.map((stage) => [stage.name, this.#rows.get(stage.name) ?? this.#row(stage)]));
      this.#body.replaceChildren(...[...this.#rows.values()].map((row) => row.node));
    }
    for (const stage of stages) {
      const { cells } = this.#rows.get(stage.name);
      for (const [key] of COLUMNS.slice(0, 8)) setText(cells[key], whole(stage[key]));
      const link = links.find(({ to }) => to === stage.name || stage.name.startsWith(`${to}.`));
      const worse = [stage, link].find((each) => each?.verdict === 'wrong') ?? [link].find((each) => each && each.verdict !== 'balanced') ?? stage;
      setText(cells.balance, worse.verdict === 'moving' ? `${whole(worse.under_way)} under way` : VERDICTS[worse.verdict]);
      setAttribute(cells.balance, 'data-verdict', worse.verdict);
      setAttribute(cells.balance, 'title', worse.text || 'in + created = out + filtered + late + dead + dropped + held');
    }
  }

  #letters({ stages, total, replay }) {
    setText(byId('letter-count'), total ? `${whole(total)} dead letter${total === 1 ? '' : 's'}` : 'no dead letters');
    for (const { stage, letters, replayable, newest } of stages) {
      const cells = this.#rows.get(stage)?.cells;
      if (!cells) continue;
      const busy = replay?.state === 'running' && replay.stage === stage;
      setText(cells.letters, whole(letters));
      setAttribute(cells.letters, 'title', newest[0]?.reason ?? '');
      cells.replay.hidden = !letters || !replayable;
      setAttribute(cells.replay, 'aria-busy', busy);
    }
    const told = replay && `${replay.stage} ${replay.state} ${replay.message}`;
    if (replay && replay.state !== 'running' && this.#replayed !== null && told !== this.#replayed) note(replay.message, replay.state === 'failed' ? 'error' : 'info');
    this.#replayed = told ?? '';
  }

  #row(stage) {
    const cells = {};
    for (const [key, label] of COLUMNS) cells[key] = element('td', { class: 'num', 'data-label': label, text: '–' });
    cells.balance = element('span', { class: 'verdict' });
    cells.letters = element('td', { class: 'num', 'data-label': 'Dead letters', text: '–' });
    cells.replay = element('button', { type: 'button', class: 'button small', hidden: true, text: 'Replay', 'aria-label': `Replay the dead letters of ${stage.name}` });
    cells.replay.addEventListener('click', () => this.#replay(stage.name, cells.replay));
    const node = element('tr', { 'data-stage': stage.name },
      element('th', { scope: 'row' }, element('span', { class: 'stage-name', text: stage.name }), element('span', { class: 'stage-kind muted', text: stage.tool })),
      element('td', { 'data-label': 'Balance' }, cells.balance), ...COLUMNS.map(([key]) => cells[key]), cells.letters, element('td', { class: 'actions' }, cells.replay));
    return { node, cells };
  }

  async #replay(stage, button) {
    if (button.getAttribute('aria-busy') === 'true') return;
    setAttribute(button, 'aria-busy', true);
    this.#replayed ??= '';
    const begun = await change(`/api/dead-letters/${encodeURIComponent(stage)}/replay`, {}, `Sending the dead letters of ${stage} again`);
    if (!begun) setAttribute(button, 'aria-busy', false);
    setTimeout(() => this.refresh(), 700);
  }
}
