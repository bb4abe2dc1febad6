// <so-health>: how the service is, in a pill; the details behind it. Asks the cheap routes, only while it is looked at.

import { ApiError, apiKey, getJson, request, signals } from '../core/api.js';
import { h } from '../core/dom.js';
import { bytes, duration, number, onLanguage, say, t } from '../core/i18n.js';
import { icon } from '../core/icons.js';

const EVERY_MS = 5000;
const ANSWER_MS = 8000;
const WORDS = [['not started', 'starting'], ['engine is ready', 'starting'], ['shutting down', 'stopping']];

export class Health extends HTMLElement {
  #info = null;
  #state = 'unknown';
  #locked = false;

  connectedCallback() {
    if (this.button) return;
    this.word = h('span', { class: 'word' });
    this.button = h('button', { class: 'pill unknown', 'aria-haspopup': 'dialog' }, h('span', { class: 'dot' }), this.word);
    this.details = h('div', { class: 'menu health', popover: 'auto', role: 'dialog', label: 'health.title' });
    this.append(this.button, this.details);
    this.button.popoverTargetElement = this.details;
    this.details.addEventListener('toggle', (event) => {
      if (event.newState !== 'open') return;
      const box = this.button.getBoundingClientRect();
      this.details.style.top = `${box.bottom + 8}px`;
      this.details.style.left = `${Math.max(8, Math.min(box.right, innerWidth - 8) - this.details.offsetWidth)}px`;
    });
    onLanguage(() => this.#show());
    document.addEventListener('visibilitychange', () => !document.hidden && this.ask());
    signals.addEventListener('lost', () => this.#is('lost'));
    signals.addEventListener('key-given', () => this.ask());
    setInterval(() => !document.hidden && this.ask(), EVERY_MS);
    this.ask();
  }

  /** What the service last said about itself; null before it said anything. */
  get info() {
    return this.#info;
  }

  async ask() {
    const signal = AbortSignal.timeout(ANSWER_MS);
    try {
      await request('readyz', { signal });
      if (this.#locked && (await refused(signal))) {
        this.#is('locked');
        return;
      }
      this.#info = await getJson('v1/info', { signal });
      this.#locked = false;
      this.#is(this.#info.memory?.pressure && this.#info.memory.pressure !== 'full' ? 'pressed' : 'ready');
    } catch (error) {
      if (!(error instanceof ApiError)) this.#is('lost');
      else if (error.status === 401) {
        this.#locked = true;
        this.#is('locked');
      } else if (error.status !== 0) this.#is(WORDS.find(([part]) => error.message.includes(part))?.[1] ?? 'starting');
    }
  }

  #is(state) {
    this.#state = state;
    this.#show();
  }

  #show() {
    const waiting = this.#info?.queue?.waiting ?? 0;
    const ready = this.#state === 'ready';
    this.button.className = `pill ${this.#state}`;
    say(this.word, ready && waiting ? ['health.waiting', { n: waiting }] : `health.${this.#state}`);
    this.button.setAttribute('aria-label', `${t('health.title')}: ${this.word.textContent}`);
    this.details.replaceChildren(...(this.#info ? this.#rows() : [h('p', { class: 'muted', t: `health.${this.#state}` })]));
  }

  #rows() {
    const { version, started_at: since, models, engines, queue, memory } = this.#info;
    const used = engines.reduce((sum, engine) => sum + engine.rss_bytes, 0);
    const restarts = engines.reduce((sum, engine) => sum + engine.restarts, 0);
    const row = (key, value, state) => h('div', { class: `fact ${state ?? ''}` }, h('dt', { t: key }), h('dd', {}, value));
    const rows = [
      row('health.state', t(`health.${this.#state}`), this.#state),
      row('health.queue', `${number(queue.waiting)} / ${number(queue.max_size)}`),
      row('health.done', number(queue.completed)),
      row('health.engines', engines.map((engine) => t(`engine.${engine.state}`)).join(', ')),
      row('health.restarts', number(restarts)),
      row('health.memory', `${bytes(used)}${memory.budget_bytes ? ` / ${bytes(memory.budget_bytes)}` : ''}`),
      ...Object.values(models).map((model) => row('health.model', h('span', {}, model.name, h('small', { class: 'muted' }, ` ${model.backend} · ${model.sha256.slice(0, 8)}`)))),
      row('health.since', duration(Math.max(0, Date.now() / 1000 - since))),
      row('health.version', version),
    ];
    return [h('h2', {}, icon('info'), h('span', { t: 'health.title' })), h('dl', {}, ...rows)];
  }
}

/** Whether the key is still missing. Asked past request(), which would bring up the key's dialog every few seconds. */
async function refused(signal) {
  const headers = { Authorization: `Bearer ${apiKey.get()}` };
  return (await fetch('v1/info', { headers, signal })).status === 401;
}

customElements.define('so-health', Health);
