// The chart's data: values of a stream's fields, by key, averaged into time steps that all series share. Bounded in steps and
// in series. Pure: no DOM.
export const SERIES_MOST = 10;
const STEPS = 400;

export class SeriesStore {
  constructor(windowSeconds) {
    this.window = windowSeconds * 1000;
    this.step = this.window / STEPS;
    this.series = new Map(); // "field\u0000key" → { field, key, steps: Map(step → {sum, n, last}) }
    this.hidden = 0; // keys that came when all series were taken
    this.hiddenKeys = new Set();
    this.newest = -Infinity;
  }

  add(time, field, key, value) {
    if (!Number.isFinite(time) || !Number.isFinite(value)) return;
    const name = `${field}\u0000${key}`;
    let series = this.series.get(name);
    if (!series) {
      if (this.series.size >= SERIES_MOST) {
        if (this.hiddenKeys.size < 1000) this.hiddenKeys.add(name);
        this.hidden = this.hiddenKeys.size;
        return;
      }
      series = { field, key, steps: new Map(), last: null };
      this.series.set(name, series);
    }
    const index = Math.floor(time / this.step);
    const step = series.steps.get(index);
    if (step) {
      step.sum += value;
      step.n++;
    } else {
      series.steps.set(index, { sum: value, n: 1 });
    }
    series.last = value;
    this.newest = Math.max(this.newest, time);
  }

  // Where the chart ends: now, unless the stream's own time is far from it (old data played again).
  end(now) {
    const near = this.newest > now - this.window && this.newest < now + 60000;
    return near || this.newest === -Infinity ? Math.max(now, near ? this.newest : now) : this.newest;
  }

  // Forgets what is older than the window.
  trim(now) {
    const oldest = Math.floor((this.end(now) - this.window) / this.step) - 1;
    for (const [name, series] of this.series) {
      for (const index of series.steps.keys()) {
        if (index < oldest) series.steps.delete(index);
      }
      if (!series.steps.size) this.series.delete(name);
    }
  }

  // { times (seconds, rising), lines: [{field, key, last, values}] } for uPlot; null where a series has no value.
  aligned(now) {
    this.trim(now);
    const all = new Set();
    for (const series of this.series.values()) for (const index of series.steps.keys()) all.add(index);
    const steps = [...all].sort((a, b) => a - b);
    const lines = [...this.series.values()]
      .sort((a, b) => a.field.localeCompare(b.field) || String(a.key).localeCompare(String(b.key), undefined, { numeric: true }))
      .map(({ field, key, last, steps: own }) => ({
        field,
        key,
        last,
        values: steps.map((index) => {
          const step = own.get(index);
          return step ? step.sum / step.n : null;
        }),
      }));
    return { times: steps.map((index) => ((index + 0.5) * this.step) / 1000), lines };
  }
}

// A record's fields by what a chart can do with them: numeric ones are drawn, text and whole numbers can group.
export function fieldsOf(records) {
  const numeric = new Set();
  const keys = new Set();
  for (const record of records) {
    for (const [name, value] of Object.entries(record ?? {})) {
      if (typeof value === 'number') numeric.add(name);
      if (typeof value === 'string' || typeof value === 'boolean' || Number.isInteger(value)) keys.add(name);
    }
  }
  return { numeric: [...numeric], keys: [...keys] };
}

// What to show first: measurements rather than identifiers and counters.
export function firstField(numeric) {
  const score = (name) => (/temp|cpu|avg|value|rate|latency|load|percent/i.test(name) ? 2 : 0) - (/(^|_)(id|seq|ts|time|pid|count)$|^id/i.test(name) ? 3 : 0);
  return [...numeric].sort((a, b) => score(b) - score(a))[0];
}

export function firstKey(keys, records) {
  const texts = keys.filter((name) => records.some((record) => typeof record?.[name] === 'string'));
  const score = (name) => (/device|sensor|host|source|name|site|type/i.test(name) ? 2 : 0) - (/session|page|url|message|time|start|end/i.test(name) ? 4 : 0);
  const best = texts.sort((a, b) => score(b) - score(a))[0];
  return best && score(best) >= 0 ? best : '';
}
