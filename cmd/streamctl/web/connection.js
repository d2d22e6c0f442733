// The WebSocket: one connection that comes back by itself, with growing pauses, and that notices a silent peer.
const PAUSE_FIRST = 400;
const PAUSE_MOST = 10000;
const SILENCE = 8000; // then the server is asked for a sign of life
const SIGN_MOST = 5000;

export class Connection extends EventTarget {
  #url;
  #socket = null;
  #attempt = 0;
  #timer = null;
  #watchdog = null;
  #streams = new Set();

  constructor(url) {
    super();
    this.#url = url;
    addEventListener('online', () => this.retry());
    document.addEventListener('visibilitychange', () => document.hidden || this.#socket || this.retry());
  }

  open() {
    this.#report('connecting');
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => {
      this.#attempt = 0;
      this.#report('open');
      this.#send({ subscribe: [...this.#streams] });
      this.#listen();
    };
    socket.onmessage = ({ data }) => {
      this.#listen();
      const message = JSON.parse(data);
      if (message.event) this.dispatchEvent(new CustomEvent(message.event, { detail: message }));
    };
    socket.onclose = () => this.#lost(socket);
  }

  // The streams whose events are wanted; told to the server as the difference.
  want(names) {
    const wanted = new Set(names);
    const subscribe = [...wanted].filter((name) => !this.#streams.has(name));
    const unsubscribe = [...this.#streams].filter((name) => !wanted.has(name));
    this.#streams = wanted;
    if (subscribe.length || unsubscribe.length) this.#send({ subscribe, unsubscribe });
  }

  retry() {
    if (this.#socket) return;
    clearTimeout(this.#timer);
    this.open();
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #listen() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      this.#send({ subscribe: [] }); // is always answered
      this.#watchdog = setTimeout(() => {
        const silent = this.#socket;
        silent?.close();
        this.#lost(silent);
      }, SIGN_MOST);
    }, SILENCE);
  }

  #lost(socket) {
    if (socket !== this.#socket) return; // told twice
    clearTimeout(this.#watchdog);
    this.#socket = null;
    const pause = Math.min(PAUSE_MOST, PAUSE_FIRST * 1.7 ** this.#attempt++) * (0.75 + Math.random() / 2);
    this.#report('lost', pause);
    this.#timer = setTimeout(() => this.open(), pause);
  }

  #report(state, pause) {
    this.dispatchEvent(new CustomEvent('state', { detail: { state, pause, attempt: this.#attempt } }));
  }
}
