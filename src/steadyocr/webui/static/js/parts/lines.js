// <so-lines>: the text lines as a list. Keys: up and down move, Enter centres, c copies, n goes to the next doubtful
// line. Tells its owner "line-hover", "line-pick" and "line-centre".

import { h, label, tell } from '../core/dom.js';
import { percent, say, t } from '../core/i18n.js';
import { copyOut } from './widgets.js';
import { isDoubtful } from './viewer.js';

/** Unmark a row and take it out of the keyboard's way. */
function leave(row) {
  row.classList.remove('picked');
  for (const button of row.querySelectorAll('button')) button.setAttribute('tabindex', '-1');
}

function explain({ firstChild, line: { score, text_score: sure } }) {
  say(firstChild, () => t('lines.scores', { box: percent(score), text: sure === null ? '–' : percent(sure ?? 0) }), 'title');
}

export class Lines extends HTMLElement {
  #rows = new Map();
  #ids = [];
  #current = null;

  connectedCallback() {
    if (this.list) return;
    this.list = h('ol', { class: 'lines', on: { keydown: (event) => this.#key(event) } });
    this.append(this.list);
    this.list.addEventListener('pointerover', (event) => tell(this, 'line-hover', this.#idAt(event)));
    this.list.addEventListener('pointerleave', () => tell(this, 'line-hover', null));
    this.list.addEventListener('focusin', (event) => {
      if (event.target.matches('.line')) this.#enter(this.#idAt(event));
    });
    this.list.addEventListener('click', (event) => this.#click(event));
  }

  setLines(lines) {
    const focused = this.list.contains(document.activeElement) ? this.#current : null;
    this.#ids = lines.map((line) => line.id);
    const before = [...this.#rows.values()];
    this.#rows = new Map(lines.map((line) => [line.id, this.#kept(line) ?? this.#row(line)]));
    const rows = [...this.#rows.values()];
    before.forEach(leave);
    // A slider moves quads and leaves most texts: a list that stays as it was is not laid out again.
    if (rows.length !== before.length || rows.some((row, at) => row !== before[at])) this.list.replaceChildren(...rows);
    this.#current = null;
    const first = this.#rows.get(focused) ?? this.#rows.get(this.#ids[0]);
    first?.querySelector('.line').setAttribute('tabindex', '0');
    if (focused === null || !first) return;
    first.querySelector('.line').focus();
    // Where it had the focus all along, nobody is told.
    if (this.#current === null) this.#enter(first.line.id);
  }

  hover(id) {
    this.list.querySelector('.hovered')?.classList.remove('hovered');
    this.#rows.get(id)?.classList.add('hovered');
  }

  /** Mark a line and scroll to it; with `focus` the keyboard goes there too. */
  pick(id, { focus = false } = {}) {
    const row = this.#rows.get(id);
    if (!row) return;
    this.#mark(id);
    row.scrollIntoView({ block: 'nearest' });
    if (focus) row.querySelector('.line').focus({ preventScroll: true });
  }

  /** Go to the next line that was read with little confidence, around the end. */
  nextDoubtful() {
    const start = this.#ids.indexOf(this.#current);
    const turned = [...this.#ids.slice(start + 1), ...this.#ids.slice(0, start + 1)];
    const next = turned.find((id) => this.#rows.get(id).classList.contains('doubtful'));
    if (next !== undefined) this.pick(next, { focus: true });
  }

  /** The row of this id where it shows the same. */
  #kept(line) {
    const row = this.#rows.get(line.id);
    if (!row || row.line.text !== line.text || row.line.text_score !== line.text_score) return null;
    if (line.text_score === null && row.line.score !== line.score) return null;
    row.line = line;
    explain(row);
    return row;
  }

  #row(line) {
    const doubtful = isDoubtful(line);
    const text = line.text
      ? h('span', { class: 'text', dir: 'auto' }, line.text)
      : h('span', { class: 'text none', t: line.text === '' && line.text_score !== null ? 'lines.empty' : 'lines.unread' });
    const score = line.text_score ?? line.score;
    const body = h('button', { class: 'line', tabindex: '-1', type: 'button' },
      h('span', { class: 'number', 'aria-hidden': 'true' }, String(line.id + 1)), text,
      h('span', { class: 'score' }, doubtful ? h('span', { class: 'visually-hidden', t: 'lines.doubtful' }) : null, percent(Math.floor(score * 100) / 100)));
    const take = h('button', { class: 'icon copy', icon: 'copy', tabindex: '-1', type: 'button' });
    label(take, 'lines.copy');
    const row = h('li', { 'data-line': String(line.id), class: doubtful ? 'doubtful' : '' }, body, line.text ? take : null);
    row.line = line;
    explain(row);
    return row;
  }

  #idAt(event) {
    const id = event.target.closest?.('li')?.dataset.line;
    return id === undefined ? null : Number(id);
  }

  #mark(id) {
    const before = this.#rows.get(this.#current);
    if (before) leave(before);
    this.#current = id;
    const row = this.#rows.get(id);
    row.classList.add('picked');
    for (const button of row.querySelectorAll('button')) button.setAttribute('tabindex', '0');
  }

  #enter(id) {
    for (const button of this.list.querySelectorAll('[tabindex="0"]')) button.setAttribute('tabindex', '-1');
    this.#mark(id);
    tell(this, 'line-pick', id);
  }

  #click(event) {
    const id = this.#idAt(event);
    if (id === null) return;
    if (event.target.closest('.copy')) this.#copy(id);
    else if (event.target.closest('.line')) tell(this, 'line-centre', id);
  }

  #copy(id) {
    const { text } = this.#rows.get(id).line;
    if (text) copyOut(text);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.#ids.indexOf(this.#current);
    const go = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.#ids.length - 1 }[event.key];
    if (go !== undefined) {
      if (this.#ids[go] !== undefined) this.pick(this.#ids[go], { focus: true });
    } else if (event.key === 'c') this.#copy(this.#current);
    else if (event.key === 'n') this.nextDoubtful();
    else return;
    event.preventDefault();
  }
}

customElements.define('so-lines', Lines);
