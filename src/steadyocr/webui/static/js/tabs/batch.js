// The second tab: many pictures as one job. The job lives on the server; the page only looks at it.

import { ApiError, getJson, isAbort, post, request, upload } from '../core/api.js';
import { arrange, h, keepFocus, show, topmost } from '../core/dom.js';
import { bytes, duration, moment, number, onLanguage, percent, say, sentenceOf, t } from '../core/i18n.js';
import { follow } from '../core/live.js';
import { saveFrom } from '../core/save.js';
import { dropZone } from '../parts/drop.js';
import { openReader } from '../parts/reader.js';
import { act, attempt, badge, bar, complain, failure, sure, toast, Wait } from '../parts/widgets.js';

const PAGE = 50;
const RECENT = 20;
const BAD = ['failed', 'dead', 'expired'];
const PICTURE = /\.(jpe?g|png|webp|bmp|tiff?|gif|zip)$/i;

/** Whether anything of a job is still under way. */
const isOpen = (job) => job.finished_at === null || job.finished_at === undefined;
const badOf = (job) => BAD.reduce((sum, state) => sum + (job[state] ?? 0), 0);
/** Where the last page of so many rows begins. */
const lastPage = (count) => Math.max(0, Math.ceil(count / PAGE) - 1) * PAGE;
const endedOf = (job) => badOf(job) + job.done + (job.cancelled ?? 0);

export class Batch {
  #job = null;
  #jobId = null;
  #items = [];
  #offset = 0;
  #onlyBad = false;
  #watch = null;
  #followed = null;
  #sending = null;
  #queue = Promise.resolve();
  #unsent = 0;
  #recent = [];
  // The files of the job sent last, by position, so that their pictures need not come back from the server.
  #sent = { id: null, files: [] };

  constructor(panel) {
    this.panel = panel;
    this.drop = dropZone({ take: (files) => attempt(() => this.send(files)), title: 'batch.title', hint: 'batch.hint', many: true, target: panel });
    this.recent = h('ul', { class: 'cards' });
    this.recentBox = h('section', { class: 'column' }, h('h2', { t: 'batch.recent' }), this.recent);
    this.start = h('div', { class: 'batch-start' }, this.drop, this.recentBox);
    this.#furnishUpload();
    this.#furnishJob();
    panel.append(this.upload, this.problems, this.start, this.detail);
    onLanguage(() => {
      this.#drawRecent();
      // Else the rows would be kept as they are.
      this.rows.replaceChildren();
      if (this.#job) this.#draw();
    });
  }

  async enter(jobId) {
    this.#watch?.abort();
    this.#watch = new AbortController();
    if (jobId !== this.#jobId) this.#forget();
    this.#jobId = jobId || null;
    const focused = [this.start, this.detail].find((part) => part.contains(document.activeElement));
    show(this.start, !jobId);
    show(this.detail, Boolean(jobId));
    // What was opened by keyboard goes on by keyboard.
    if (focused?.hidden) (jobId ? this.detail.firstElementChild : this.drop.querySelector('button')).focus();
    if (jobId) await this.#follow(jobId, this.#watch.signal);
    else await this.#list(this.#watch.signal);
  }

  leave() {
    this.#watch?.abort();
  }

  paste(files) {
    attempt(() => this.send(files));
  }

  #furnishUpload() {
    this.uploadBar = bar('batch.sending');
    this.uploadText = h('span');
    this.wait = new Wait();
    const stop = h('button', { icon: 'stop', t: 'cancel', on: { click: () => this.#sending?.abort() } });
    this.problems = h('div', { class: 'problem' });
    this.upload = show(h('section', { class: 'column sending', role: 'status' }, h('div', { class: 'row' }, this.uploadText, stop), this.uploadBar, this.wait.element), false);
  }

  /** Send files as one job, after those that are being sent. */
  send(chosen) {
    const files = chosen.filter((file) => PICTURE.test(file.name) || file.type.startsWith('image/'));
    if (files.length < chosen.length) toast('batch.left_out', { n: chosen.length - files.length });
    if (!files.length) return;
    this.problems.replaceChildren();
    if (!this.upload.hidden) toast('batch.sent_next');
    this.#line(files);
  }

  /** Until they are sent they go with the page, so the browser asks before it leaves. */
  #line(files) {
    this.#unsent += 1;
    addEventListener('beforeunload', stay);
    const sent = () => {
      this.#unsent -= 1;
      // Only then: a page that listens is not kept by browsers to be gone back to.
      if (!this.#unsent) removeEventListener('beforeunload', stay);
    };
    this.#queue = this.#queue.then(() => attempt(() => this.#send(files))).then(sent);
  }

  /** Send files as one job, then go and watch it. */
  async #send(files) {
    const sending = new AbortController();
    this.#sending = sending;
    const form = new FormData();
    for (const file of files) form.append('files', file, nameOf(file));
    // The same try again must not make a second job.
    const headers = { 'Idempotency-Key': `${Date.now()}-${Math.random().toString(36).slice(2)}` };
    show(this.upload, true);
    try {
      refuseTooMuch(files);
      const job = await this.wait.through(() => this.#post(form, files, headers, sending.signal), sending.signal);
      this.#sent = { id: job.id, files };
      // Whoever looks at something else meanwhile is not fetched back.
      if (this.panel.hidden || topmost() !== document.body) toast('batch.sent');
      else location.hash = `batch/${job.id}`;
    } catch (error) {
      if (isAbort(error)) return;
      const problem = failure(error, () => {
        problem.remove();
        this.#line(files);
      });
      this.problems.append(problem);
    } finally {
      show(this.upload, false);
    }
  }

  #post(form, files, headers, signal) {
    const size = sizeOf(files);
    const onProgress = (share) => {
      this.uploadBar.set(share < 1 ? share : null);
      say(this.uploadText, ['batch.sending_files', { n: files.length, size: bytes(size), share: percent(share) }]);
    };
    onProgress(0);
    return upload('v1/jobs', form, { headers, signal, onProgress });
  }

  /** List the batches, and go on looking while one of them is under way. */
  async #list(signal) {
    const refresh = async () => {
      ({ jobs: this.#recent } = await getJson(`v1/jobs?limit=${RECENT}`, { signal }));
      this.#drawRecent();
      return !this.#recent.some(isOpen);
    };
    if (!(await refresh())) follow({ signal, refresh });
  }

  #drawRecent() {
    show(this.recentBox, this.#recent.length > 0);
    // A card that is there already stays, and with it the focus.
    const seen = new Map([...this.recent.children].map((card) => [card.dataset.key, card]));
    arrange(this.recent, this.#recent.map((job) => cardOf(job, seen.get(job.id))));
  }

  #furnishJob() {
    this.heading = h('h2');
    this.state = h('span');
    this.bar = bar('batch.progress');
    this.counts = h('p', { class: 'muted', 'aria-live': 'polite' });
    this.cancel = act('stop', 'batch.cancel', () => this.#do('cancel'));
    this.retry = act('retry', 'batch.retry', () => this.#do('retry'));
    this.archive = act('download', 'batch.archive', () => saveFrom(`v1/jobs/${this.#jobId}/archive.zip`, `batch-${this.#jobId.slice(0, 8)}.zip`), 'primary');
    this.remove = act('trash', 'delete', () => this.#delete(), 'danger');
    this.all = h('button', { t: 'batch.all', 'aria-pressed': 'true', on: { click: () => this.#filter(false) } });
    this.bad = h('button', { t: 'batch.only_bad', 'aria-pressed': 'false', on: { click: () => this.#filter(true) } });
    this.rows = h('tbody');
    const turn = (by) => attempt(() => this.#turn(this.#offset + by));
    this.range = h('span', { class: 'muted' });
    this.before = h('button', { class: 'icon', icon: 'back', label: 'batch.previous', on: { click: () => turn(-PAGE) } });
    this.after = h('button', { class: 'icon', icon: 'open', label: 'batch.next', on: { click: () => turn(PAGE) } });
    this.pager = h('div', { class: 'pager' }, this.range, this.before, this.after);
    this.problem = h('div');
    this.doing = new Wait();
    const head = h('div', { class: 'row wrap' }, h('div', { class: 'titles' }, this.heading, this.state), h('div', { class: 'actions' }, this.cancel, this.retry, this.remove, this.archive));
    const tools = h('div', { class: 'row' }, h('div', { class: 'segment', role: 'group', label: 'batch.filter' }, this.all, this.bad), this.pager);
    this.table = h('table', { class: 'items' },
      h('thead', {}, h('tr', {}, ...['file', 'state', 'lines', 'size', 'time', 'actions'].map((name) => h('th', { scope: 'col', t: `batch.${name}` })))),
      this.rows);
    this.parts = [head, this.bar, this.counts, tools, this.table];
    this.detail = show(
      h('section', { class: 'column job' },
        h('a', { class: 'back', href: '#batch', icon: 'back', t: 'batch.back' }),
        head, this.bar, this.counts, this.doing.element, this.problem, tools, this.table),
      false,
    );
  }

  /** Show nothing of a job: it is another one, or it is gone. */
  #forget() {
    this.#job = null;
    this.#items = [];
    this.#offset = 0;
    this.#show(false);
    this.rows.replaceChildren();
    delete this.panel.dataset.job;
    for (const part of this.parts) show(part, false);
  }

  #follow(jobId, signal) {
    this.problem.replaceChildren();
    this.#followed = signal;
    const over = () => this.#followed === signal && (this.#followed = null);
    follow({ events: `v1/jobs/${jobId}/events`, signal, refresh: () => this.#refresh(jobId, signal) }).then(over);
  }

  async #refresh(jobId, signal) {
    try {
      const [offset, onlyBad] = [this.#offset, this.#onlyBad];
      const query = new URLSearchParams({ offset, limit: PAGE });
      if (onlyBad) query.set('state', BAD.join(','));
      // In this order: the items of a job that has ended do not change any more, and nobody asks again.
      const job = await getJson(`v1/jobs/${jobId}`, { signal });
      const { items } = await getJson(`v1/jobs/${jobId}/items?${query}`, { signal });
      if (signal.aborted) return true;
      // Other rows are on their way.
      if (offset !== this.#offset || onlyBad !== this.#onlyBad) return false;
      // What failed may be read again: then there are fewer rows, and this page of them may be gone.
      if (offset && !items.length) {
        this.#offset = Math.min(offset - PAGE, lastPage(this.#countOf(job)));
        return await this.#refresh(jobId, signal);
      }
      this.#job = job;
      this.#items = items;
      this.problem.replaceChildren();
      const turning = this.pager.contains(document.activeElement) ? [this.before, this.after] : [];
      keepFocus(this.detail, () => this.#draw(), ...turning, this.detail.firstElementChild);
      return !isOpen(job);
    } catch (error) {
      if (isAbort(error) || error.waits) throw error;
      if (error.status === 404) this.#forget();
      complain(this.problem, error);
      // The batch goes on, and so does the look at it.
      if (error.passes) throw error;
      return true;
    }
  }

  #draw() {
    const job = this.#job;
    const open = isOpen(job);
    for (const part of this.parts) show(part, true);
    say(this.heading, ['batch.heading', { when: moment(job.created_at) }]);
    this.state.replaceChildren(badge(job.state));
    this.panel.dataset.job = open ? 'open' : 'ended';
    this.bar.set(job.total ? endedOf(job) / job.total : 0);
    const parts = [t('batch.done_of', { done: number(endedOf(job)), n: job.total })];
    if (badOf(job)) parts.push(t('batch.bad', { n: badOf(job) }));
    if (job.cancelled) parts.push(t('batch.cancelled', { n: job.cancelled }));
    if (open && job.eta_s) parts.push(t('batch.left', { time: duration(job.eta_s) }));
    if (!open && job.started_at) parts.push(t('batch.took', { time: duration(job.finished_at - job.started_at) }));
    this.counts.textContent = parts.join(' · ');
    show(this.cancel, open);
    show(this.retry, badOf(job) > 0);
    show(this.remove, !open);
    show(this.archive, job.done > 0);
    this.table.classList.toggle('without-lines', !this.#items.some((item) => Number.isInteger(item.lines)));
    const seen = new Map([...this.rows.children].map((row) => [row.dataset.key, row]));
    // A row is made again only when something about it changed, so that focus and pictures stay.
    arrange(this.rows, this.#items.map((item) => seen.get(keyOf(item)) ?? this.#row(item)));
    this.#page();
  }

  #row(item) {
    const file = this.#fileOf(item);
    const open = () => attempt(() => this.#open(item));
    const ready = item.state === 'done' && item.kind !== 'expand';
    const name = ready ? h('button', { class: 'link', on: { click: open } }, shortName(item)) : h('span', {}, shortName(item));
    const seconds = item.finished_at && item.started_at ? duration(item.finished_at - item.started_at) : '';
    return h('tr', { data: { key: keyOf(item), state: item.state } },
      h('td', { class: 'file' }, thumbnail(file), h('div', { class: 'file-cell' }, name, item.error ? h('small', { class: 'why' }, sentenceOf(item.error.code, item.error.details) ?? item.error.message) : null)),
      h('td', {}, badge(item.state)),
      h('td', { class: 'figure' }, Number.isInteger(item.lines) ? number(item.lines) : ''),
      h('td', { class: 'figure' }, item.size_bytes ? bytes(item.size_bytes) : ''),
      h('td', { class: 'figure' }, seconds),
      h('td', { class: 'last' },
        ready ? h('button', { class: 'icon', icon: 'open', label: 'batch.open', on: { click: open } }) : null,
        // What was refused for what it is stays so.
        ['dead', 'expired'].includes(item.state) ? h('button', { class: 'icon', icon: 'retry', label: 'again', on: { click: () => attempt(() => this.#do('retry', { positions: [item.position] })) } }) : null));
  }

  #page() {
    const total = this.#countOf(this.#job);
    const last = Math.min(this.#offset + PAGE, total);
    this.range.textContent = `${number(this.#offset + 1)}–${number(last)} / ${number(total)}`;
    this.before.disabled = this.#offset === 0;
    this.after.disabled = last >= total;
    show(this.pager, total > PAGE);
  }

  /** How many rows there are, of those that are wanted. */
  #countOf(job) {
    return this.#onlyBad ? badOf(job) : job.total;
  }

  async #turn(offset) {
    this.#offset = Math.max(0, offset);
    const { signal } = this.#watch;
    await this.doing.through(() => this.#refresh(this.#jobId, signal), signal);
    // It had ended, and has been taken up again elsewhere.
    if (!this.#followed && !signal.aborted && this.#job && isOpen(this.#job)) this.#follow(this.#jobId, signal);
  }

  #filter(onlyBad) {
    this.#show(onlyBad);
    attempt(() => this.#turn(0));
  }

  /** Which rows are wanted. */
  #show(onlyBad) {
    this.#onlyBad = onlyBad;
    this.all.setAttribute('aria-pressed', String(!onlyBad));
    this.bad.setAttribute('aria-pressed', String(onlyBad));
  }

  async #do(verb, body = {}) {
    const { signal } = this.#watch;
    await this.doing.through(() => post(`v1/jobs/${this.#jobId}/${verb}`, body, { signal }), signal);
    await this.enter(this.#jobId);
  }

  async #delete() {
    const { id, total } = this.#job;
    if (!(await sure('delete', ['batch.delete_sure', { n: total }]))) return;
    const { signal } = this.#watch;
    await request(`v1/jobs/${id}`, { method: 'DELETE' });
    if (!signal.aborted) location.hash = 'batch';
  }

  #fileOf(item) {
    return this.#sent.id === this.#jobId && item.parent === null ? this.#sent.files[item.position] : undefined;
  }

  async #open(item) {
    const path = `v1/jobs/${this.#jobId}/items/${item.position}`;
    await openReader(() => getJson(`${path}/result`), { name: shortName(item), file: this.#fileOf(item), image: `${path}/image` });
  }
}

const nameOf = (file) => file.path || file.webkitRelativePath || file.name;
const sizeOf = (files) => files.reduce((sum, file) => sum + file.size, 0);
const shortName = (item) => item.name || `#${item.position + 1}`;
const keyOf = (item) => `${item.position}/${item.state}/${item.attempts ?? 0}`;

const stay = (event) => event.preventDefault();

/** Refuse what the server is known to refuse before gigabytes of it travel. */
function refuseTooMuch(files) {
  const { max_files: limit, max_upload_bytes: most } = document.querySelector('so-health').info?.settings?.jobs ?? {};
  const no = (code, body) => {
    throw new ApiError(413, { code, retryable: false, ...body });
  };
  if (files.length > limit) no('payload_too_large', { limit });
  if (sizeOf(files) > most) no('upload_too_large', { limit_bytes: most });
}

/** The card of a batch, or the one that it has, with what is to be said now. */
function cardOf(job, card = h('li', { data: { key: job.id } }, h('a', { class: 'card', href: `#batch/${job.id}` }))) {
  const bad = badOf(job);
  const line = bar('batch.progress');
  line.set(job.total ? endedOf(job) / job.total : 0);
  card.firstElementChild.replaceChildren(
    h('span', { class: 'card-title' }, moment(job.created_at), badge(job.state)),
    h('span', { class: 'muted' }, t('batch.count', { n: job.total }), bad ? ` · ${t('batch.bad', { n: bad })}` : ''),
    line,
  );
  return card;
}

/** A small picture of a file that is at hand; nothing after a reload, when it is not. */
function thumbnail(file) {
  if (!file?.type.startsWith('image/')) return null;
  const image = h('img', { class: 'thumb', alt: '', loading: 'lazy' });
  const url = URL.createObjectURL(file);
  const free = () => URL.revokeObjectURL(url);
  image.addEventListener('load', free, { once: true });
  // A format that the browser does not know, or no picture at all.
  image.addEventListener('error', () => image.remove(), { once: true });
  image.addEventListener('error', free, { once: true });
  image.src = url;
  return image;
}
