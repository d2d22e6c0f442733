// Starting and stopping over REST, the token, and short notes about what came of it.
import { byId, element } from './dom.js';

const TOKEN = 'stream-token';
const NOTE_TIME = 6000;

export function note(text, kind = 'info') {
  const toast = element('p', { class: 'toast', 'data-kind': kind, text });
  byId('toasts').append(toast);
  setTimeout(() => toast.remove(), NOTE_TIME);
}

// Asks for the token; resolves with it, or null when the person would rather not.
function askToken(wrong) {
  const dialog = byId('token-dialog');
  byId('token-text').textContent = wrong
    ? 'That token was not accepted. Try again.'
    : 'To change anything here needs this server’s token. It is kept until this tab is closed.';
  byId('token').value = '';
  dialog.showModal();
  return new Promise((resolve) => {
    byId('token-cancel').onclick = () => dialog.close('cancel');
    dialog.onclose = () => resolve(dialog.returnValue === 'cancel' || !byId('token').value ? null : byId('token').value);
    dialog.returnValue = 'cancel';
    dialog.querySelector('form').onsubmit = () => { dialog.returnValue = 'given'; };
  });
}

async function post(path, body) {
  const headers = { 'Content-Type': 'application/json' };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(path, { method: 'POST', headers, body: JSON.stringify(body) });
}

// A call that changes something; done: what to say when it has. Resolves with whether it has.
export async function change(path, body, done) {
  try {
    let answer = await post(path, body);
    while (answer.status === 401) {
      const token = await askToken(Boolean(sessionStorage.getItem(TOKEN)));
      if (token === null) {
        sessionStorage.removeItem(TOKEN);
        return false;
      }
      sessionStorage.setItem(TOKEN, token);
      answer = await post(path, body);
    }
    if (answer.ok) {
      note(done);
      return true;
    }
    const { error } = await answer.json();
    note(error?.message ?? `The server answered ${answer.status}.`, 'error');
  } catch {
    note('The server cannot be reached.', 'error');
  }
  return false;
}

// action: "start" or "stop"; source: a name, or null for all.
export const control = (action, source) =>
  change(`/api/stream/${action}`, source ? { source } : {}, `${action === 'start' ? 'Started' : 'Stopped'} ${source ?? 'all sources'}`);

// A button that starts or stops, marked busy until the answer is here.
export function wire(button, action, source) {
  button.addEventListener('click', async () => {
    if (button.getAttribute('aria-busy') === 'true') return;
    button.setAttribute('aria-busy', 'true');
    await control(typeof action === 'function' ? action() : action, source);
    button.removeAttribute('aria-busy');
  });
}
