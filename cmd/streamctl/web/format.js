// Numbers, sizes and times as people read them. Pure functions.
const EMPTY = '–';
const known = (value) => typeof value === 'number' && Number.isFinite(value);

// 3 significant digits, thousands as k and M.
export function count(value) {
  if (!known(value)) return EMPTY;
  const size = Math.abs(value);
  if (size >= 999.5e6) return `${digits(value / 1e9)} G`;
  if (size >= 999.5e3) return `${digits(value / 1e6)} M`;
  if (size >= 9999.5) return `${digits(value / 1e3)} k`;
  return size >= 100 ? String(Math.round(value)) : String(Number(value.toFixed(size < 0.1 ? 2 : 1)));
}

function digits(value) {
  const size = Math.abs(value);
  return size >= 99.95 ? value.toFixed(0) : size >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}

export const rate = (value) => (known(value) && value > 0 && value < 0.01 ? '<0.01' : count(value));

export function bytes(value) {
  if (!known(value)) return EMPTY;
  if (value < 1024) return `${Math.round(value)} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  let size = value;
  let unit = -1;
  do {
    size /= 1024;
    unit++;
  } while (size >= 1023.5 && unit < units.length - 1);
  return `${digits(size)} ${units[unit]}`;
}

export function milliseconds(value) {
  if (!known(value)) return EMPTY;
  if (value < 1) return `${Math.round(value * 1000)} µs`;
  if (value < 1000) return `${digits(value)} ms`;
  return `${digits(value / 1000)} s`;
}

export const percent = (value) => (known(value) ? `${value < 9.95 ? value.toFixed(1) : Math.round(value)} %` : EMPTY);

export function duration(seconds) {
  if (!known(seconds)) return EMPTY;
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function clock(time, withMilliseconds = false) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return EMPTY;
  const two = (number) => String(number).padStart(2, '0');
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return withMilliseconds ? `${text}.${String(date.getMilliseconds()).padStart(3, '0')}` : text;
}

// A value of an event, in a table's cell.
export function cell(value) {
  if (value === null || value === undefined) return EMPTY;
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(7)));
  if (typeof value === 'object') return JSON.stringify(value);
  return String(value);
}
