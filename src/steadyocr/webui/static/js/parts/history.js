// The history drawer: what was read before, one by one and in batches. All of it is on the server, for a while.

import { getJson, isAbort, objectUrl, request } from '../core/api.js';
import { h, show } from '../core/dom.js';
import { duration, moment, number, say, t } from '../core/i18n.js';
import { keep, keepsHistory } from '../core/store.js';
import { openReader } from './reader.js';
import { act, attempt, badge, dialog, failure, sure, Wait } from './widgets.js';

export class History {
  #asking;

  constructor() {
    this.readings = h('ul', { class: 'entries' });
    this.jobs = h('ul', { class: 'entries' });
    this.problem = h('div');
    this.none = show(h('p', { class: 'muted', t: 'history.none' }), false);
    this.keeping = h('input', { type: 'checkbox', id: 'keep-history' });
    this.keeping.addEventListener('change', () => keep('history', this.keeping.checked ? null : 'off'));
    this.switch = h('label', { class: 'check' }, this.keeping, h('span', { t: 'history.keep' }));
    this.who = h('p', { class: 'muted' });
    this.wait = new Wait();
    const clear = act('trash', 'history.delete_all', () => this.#clear(), 'danger');
    this.box = dialog('history.title', this.switch, this.who, this.wait.element, this.problem, this.none,
      h('section', {}, h('div', { class: 'row' }, h('h3', { t: 'tab.single' }), clear), this.readings), h('section', {}, h('h3', { t: 'tab.batch' }), this.jobs));
    this.box.classList.add('drawer');
    this.box.addEventListener('close', () => this.#asking?.abort());
  }

  async open() {
    this.keeping.checked = keepsHistory();
    this.box.showModal();
    await this.#fill();
  }

  async #fill() {
    this.#asking = new AbortController();
    this.problem.replaceChildren();
    show(this.none, false);
    const counts = await Promise.all([
      this.#load(this.readings, 'v1/history?limit=1000', (history) => this.#rules(history)),
      this.#load(this.jobs, 'v1/jobs?limit=40', ({ jobs }) => jobs.map((job) => this.#job(job))),
    ]);
    show(this.none, counts.every((count) => count === 0));
  }

  /** Fill one list; the other one may work where this one does not. */
  async #load(list, path, rowsOf) {
    try {
      const { signal } = this.#asking;
      const rows = rowsOf(await this.wait.through(() => getJson(path, { signal }), signal));
      this.#put(list, rows);
      return rows.length;
    } catch (error) {
      this.#put(list, []);
      if (!isAbort(error)) this.problem.append(failure(error));
      return null;
    }
  }

  /** Who sees the readings and for how long; returns their rows. */
  #rules({ enabled, shared, keep_s: keepS, entries }) {
    show(this.switch, enabled);
    say(this.who, () => t(enabled ? (shared ? 'history.shared' : 'history.own') : 'history.off', { time: duration(keepS) }));
    return entries.map((entry) => this.#reading(entry));
  }

  async #clear() {
    if (!(await sure('delete', 'history.delete_sure'))) return;
    await request('v1/history', { method: 'DELETE' });
    await this.#fill();
  }

  #put(list, rows) {
    list.replaceChildren(...rows);
    show(list.parentElement, rows.length > 0);
  }

  #reading(entry) {
    const thumb = h('span', { class: 'thumb' });
    const name = () => entry.first_line || moment(entry.at);
    const facts = () => `${moment(entry.at)} · ${t('result.lines', { n: entry.lines })} · ${entry.width} × ${entry.height}`;
    if (entry.thumb_url) this.#thumbnail(thumb, entry.thumb_url);
    const open = h('button', { class: 'entry', on: { click: () => attempt(() => this.#show(entry)) } }, thumb,
      h('span', { class: 'entry-text' }, h('span', { class: 'file-name', dir: 'auto', t: name }),
        h('small', { class: 'muted', t: facts })));
    const row = h('li', {}, open, h('button', { class: 'icon', icon: 'trash', label: 'delete', on: { click: (event) => {
      // The second click of two meets the row that came up in its place.
      if (event.detail < 2) attempt(() => this.#delete(entry, row));
    } } }));
    return row;
  }

  async #delete(entry, row) {
    try {
      await request(`v1/history/${entry.id}`, { method: 'DELETE' });
    } catch (error) {
      // Deleted in another tab.
      if (error.status !== 404) throw error;
    }
    const next = row.nextElementSibling ?? row.previousElementSibling;
    const focused = row.contains(document.activeElement);
    row.remove();
    if (!next) await this.#fill();
    else if (focused) next.querySelector('.icon').focus();
  }

  #job(job) {
    // A bare fragment below the fold of a fixed box passes for a skip link that leads nowhere; a whole address does not.
    const link = h('a', { class: 'entry', href: new URL(`#batch/${job.id}`, location) }, h('span', { class: 'entry-text' },
      h('span', { t: () => moment(job.created_at) }),
      h('small', { class: 'muted', t: () => `${number(job.done)} / ${t('batch.count', { n: job.total })}` })), badge(job.state));
    link.addEventListener('click', () => this.box.close());
    return h('li', {}, link);
  }

  /** A thumbnail comes when it is scrolled to: all of a long list at once would hold up what is clicked. */
  #thumbnail(holder, path) {
    new IntersectionObserver(async (looks, eye) => {
      if (!looks.at(-1).isIntersecting) return;
      eye.disconnect();
      const url = await objectUrl(path).catch(() => null);
      // What is shown once stays shown.
      if (url) holder.replaceWith(h('img', { class: 'thumb', alt: '', src: url, on: { load: () => URL.revokeObjectURL(url) } }));
    }).observe(holder);
  }

  async #show(entry) {
    const path = `v1/history/${entry.id}`;
    await openReader(() => getJson(path), { name: entry.first_line || moment(entry.at), image: `${path}/image` });
  }
}
