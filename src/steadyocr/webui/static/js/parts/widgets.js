// Small things that several tabs use: notes, waits, menus, dialogs, bars.

import { ApiError, isAbort, patiently } from '../core/api.js';
import { h, show, topmost } from '../core/dom.js';
import { icon } from '../core/icons.js';
import { say, t } from '../core/i18n.js';
import { copy } from '../core/save.js';

const TOAST_MS = 2600;

const toasts = document.getElementById('toasts');

function rise(element, ms) {
  // Into the dialog on top, if there is one; else it would lie below it.
  const top = topmost();
  if (toasts.parentElement !== top) top.append(toasts);
  toasts.append(element);
  setTimeout(() => element.remove(), ms);
}

/** Say something short and let it go. */
export const toast = (key, values) => rise(h('div', { class: 'toast' }, t(key, values)), TOAST_MS);

/** Copy a text and say how that went. */
export const copyOut = async (text) => toast((await copy(text)) ? 'copied' : 'copy_failed');

/** A box with a sentence: kind is info, warn or bad. */
export function note(kind, what, ...actions) {
  const text = what instanceof Node ? what : h('span', { t: what });
  const box = h('div', { class: `note ${kind}`, role: kind === 'bad' ? 'alert' : 'status' }, icon(kind === 'info' ? 'info' : 'warn'), h('div', { class: 'note-text' }, text));
  if (actions[0]) box.append(h('div', { class: 'actions' }, ...actions));
  return box;
}

/** What went wrong, for a person, with the id that the log has; retry if that may help. */
export function failure(error, retry) {
  const known = error instanceof ApiError;
  const words = () => (known ? error.sentence : t('error.unexpected'));
  const sentence = words();
  if (!known) console.error(error);
  const id = error.body?.request_id;
  // The server's own words, where the page has a shorter sentence, may name the number that matters.
  // A sentence with the numbers in it needs no other.
  const own = known && !/\d/.test(sentence) && error.message;
  const detail = own && own !== sentence ? h('small', { class: 'block muted' }, own) : null;
  const text = h('span', { t: words }, detail, id ? h('small', { class: 'id' }, ` ${id.slice(0, 12)}`) : null);
  const again = retry && (!known || error.retryable) ? [h('button', { icon: 'retry', t: 'again', on: { click: retry } })] : [];
  const box = note('bad', text, ...again);
  box.dataset.code = error.code ?? '';
  return box;
}

/** Say in its place what went wrong, once however often it is met: who listens hears each note that comes. */
export function complain(place, error) {
  if (place.firstElementChild?.dataset.code !== (error.code ?? '')) place.replaceChildren(failure(error));
}

/** Run something a click started; tell what goes wrong in a toast. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (isAbort(error)) return undefined;
    const known = error instanceof ApiError;
    if (!known) console.error(error);
    rise(h('div', { class: 'toast bad', role: 'alert' }, known ? error.sentence : t('error.unexpected')), TOAST_MS * 2);
    return undefined;
  }
}

/** A button that does something, a double click too once; what goes wrong is told in a toast. */
export const act = (icon, key, work, kind) => h('button', { icon, t: key, class: kind, on: { click: ({ detail }) => detail < 2 && attempt(work) } });

/** A wait that counts down: the server is busy, and this goes on by itself. */
export class Wait {
  #timer = null;
  #waiting = new Set();

  constructor() {
    this.text = h('span');
    this.element = show(note('info', this.text), false);
    this.element.classList.add('wait');
  }

  /** Do something as soon as the server can. Several may wait at once; it is over when none of them does. */
  async through(work, signal) {
    const owner = {};
    const stop = () => this.#waiting.delete(owner) && this.#waiting.size === 0 && this.stop();
    const onWait = (error, seconds) => {
      this.#waiting.add(owner);
      this.start(error, seconds);
    };
    try {
      return await patiently(() => (stop(), work()), { signal, onWait });
    } finally {
      stop();
    }
  }

  start(error, seconds) {
    this.stop();
    let left = Math.ceil(seconds);
    const tick = () => {
      const key = error.status === 0 ? 'wait.lost' : error.code === 'not_ready' ? 'wait.starting' : 'wait.busy';
      say(this.text, [key, { n: Math.max(left, 0) }]);
      left -= 1;
    };
    tick();
    this.#timer = setInterval(tick, 1000);
    show(this.element, true);
  }

  stop() {
    clearInterval(this.#timer);
    show(this.element, false);
  }
}

/** A button that opens a list of actions: entries are [key, action]. */
export function menu(name, key, entries) {
  const list = h('div', { class: 'menu', popover: 'auto', role: 'menu' });
  const button = h('button', { icon: name, t: key, 'aria-haspopup': 'menu', 'aria-expanded': 'false' });
  for (const [entry, action] of entries) {
    const item = h('button', { role: 'menuitem', t: entry, on: { click: () => { list.hidePopover(); action(); } } });
    list.append(item);
  }
  // The press that closes the list would else be one beside it, and the click open it again.
  button.popoverTargetElement = list;
  list.addEventListener('toggle', (event) => {
    const open = event.newState === 'open';
    button.setAttribute('aria-expanded', String(open));
    if (!open) return;
    const box = button.getBoundingClientRect();
    const above = box.bottom + list.offsetHeight > innerHeight - 8;
    list.style.top = `${above ? box.top - list.offsetHeight - 6 : box.bottom + 6}px`;
    list.style.left = `${Math.max(8, Math.min(box.left, innerWidth - list.offsetWidth - 8))}px`;
    list.firstElementChild.focus();
  });
  list.addEventListener('keydown', (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const items = [...list.children];
    items.at((items.indexOf(document.activeElement) + step) % items.length).focus();
    event.preventDefault();
  });
  return h('div', { class: 'menu-holder' }, button, list);
}

/** A dialog with a title; closes by its button, Escape or a click beside it. */
export function dialog(key, ...content) {
  const close = h('button', { class: 'icon', icon: 'close', label: 'close' });
  const title = h('h2', { t: key });
  const box = h('dialog', {}, h('div', { class: 'dialog-head' }, title, close), h('div', { class: 'dialog-body' }, ...content));
  title.id = `dialog-${key.replaceAll('.', '-')}`;
  box.setAttribute('aria-labelledby', title.id);
  close.addEventListener('click', () => box.close());
  // A press that begins inside and ends beside selects text, and the second click of two was for what opened this.
  let beside = false;
  box.addEventListener('pointerdown', (event) => (beside = event.target === box && !covers(box, event)));
  box.addEventListener('click', (event) => beside && event.target === box && event.detail < 2 && box.close());
  document.body.append(box);
  return box;
}

/** Whether an element lies where the pointer is; a dialog's backdrop counts as the dialog itself. */
function covers(element, { clientX: x, clientY: y }) {
  const { left, right, top, bottom } = element.getBoundingClientRect();
  return x >= left && x <= right && y >= top && y <= bottom;
}

/** Ask before doing what a button says; whether to do it. */
export function sure(name, question) {
  const { promise, resolve } = Promise.withResolvers();
  const yes = h('button', { class: 'danger', t: name, on: { click: () => resolve(true) } });
  const no = h('button', { t: 'cancel', on: { click: () => resolve(false) } });
  const box = dialog(name, h('p', { t: question }), h('div', { class: 'actions' }, yes, no));
  box.addEventListener('close', () => resolve(false));
  promise.then(() => {
    // Taken away open, it would not give the focus back.
    box.close();
    box.remove();
  });
  box.showModal();
  return promise;
}

/** A progress bar; `set(null)` shows that work goes on but not how far it is. */
export function bar(key) {
  const fill = h('div', { class: 'fill' });
  const element = h('div', { class: 'progress', role: 'progressbar', label: key, 'aria-valuemin': '0', 'aria-valuemax': '100' }, fill);
  element.set = (share) => {
    element.classList.toggle('unknown', share === null);
    fill.style.transform = share === null ? '' : `scaleX(${Math.min(1, Math.max(0, share))})`;
    if (share === null) element.removeAttribute('aria-valuenow');
    else element.setAttribute('aria-valuenow', String(Math.round(share * 100)));
  };
  element.set(0);
  return element;
}

/** A state as a coloured word. */
export function badge(state) {
  return h('span', { class: `badge ${state}`, t: `state.${state}` });
}
