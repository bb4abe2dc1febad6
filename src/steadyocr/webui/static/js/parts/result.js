// <so-result>: a page beside its picture. The viewer and the list know nothing of each other; here they are joined.

import { h, show } from '../core/dom.js';
import { renderers, withLines } from '../core/formats.js';
import { duration, percent, say } from '../core/i18n.js';
import { annotate, saveBlob, stem } from '../core/save.js';
import { attempt, copyOut, menu, note, toast } from './widgets.js';
import './lines.js';
import './viewer.js';
import { isDoubtful } from './viewer.js';

export class Result extends HTMLElement {
  #page = null;
  #name = 'picture';
  #again = null;

  connectedCallback() {
    if (this.viewer) return;
    this.viewer = h('so-viewer');
    this.list = h('so-lines');
    this.count = h('h2', { class: 'count' });
    this.doubts = h('button', { class: 'chip warn', hidden: true, on: { click: () => this.#doubt() } });
    this.facts = h('p', { class: 'facts muted' });
    this.notes = h('div', { class: 'notes' });
    this.raw = h('pre', { class: 'json', role: 'group', tabindex: '0', hidden: true, label: 'result.json' });
    this.asText = h('button', { t: 'result.text', 'aria-pressed': 'true', on: { click: () => this.#view(false) } });
    this.asJson = h('button', { t: 'result.json', 'aria-pressed': 'false', on: { click: () => this.#view(true) } });
    this.copy = h('button', { icon: 'copy', t: 'result.copy', on: { click: () => copyOut(this.#page.text) } });
    this.take = h('div', { class: 'take' },
      this.copy,
      menu('download', 'result.download', [
        ...Object.keys(renderers).map((kind) => [`format.${kind}`, () => this.#save(kind)]),
        ['format.png', () => attempt(() => this.#savePicture())],
      ]));
    this.bottom = h('div', { class: 'bottom' });
    this.stage = h('div', { class: 'stage' }, this.viewer);
    this.side = h('aside', { class: 'side', label: 'result.side' },
      h('div', { class: 'side-head' }, h('div', { class: 'titles' }, this.count, this.doubts), this.take),
      h('div', { class: 'side-sub' }, this.facts, h('div', { class: 'segment', role: 'group', label: 'result.view' }, this.asText, this.asJson)),
      this.notes, h('div', { class: 'scroll' }, this.list, this.raw), this.bottom);
    this.append(this.stage, this.side);
    this.#join();
  }

  get page() {
    return this.#page;
  }

  /**
   * Show a page. `again` fetches the server's annotated picture where the browser cannot draw the format, `full` reads
   * at full size what was shrunk.
   */
  setPage(page, { name = 'picture', again = null, full } = {}) {
    this.#page = page;
    this.#name = name;
    this.#again = again;
    const { degraded, image } = page;
    this.viewer.resize(image.width, image.height);
    this.notes.replaceChildren();
    if (degraded) {
      const key = degraded.reason === 'memory_pressure' ? 'single.short_of_memory' : 'single.shrunk';
      this.notes.append(note('warn', [key, { share: percent(degraded.effective_scale) }], full && h('button', { t: 'single.full', on: { click: full } })));
    }
    if (image.frames > 1) this.notes.append(note('info', ['single.frames', { n: image.frames }]));
    this.setLines(page.lines);
  }

  /** Show other lines, found with these options. */
  setLines(lines, options) {
    this.#page = withLines(this.#page, lines, options);
    this.copy.disabled = !this.#page.text;
    this.viewer.setLines(lines);
    this.list.setLines(lines);
    const doubtful = lines.filter(isDoubtful).length;
    say(this.count, ['result.lines', { n: lines.length }]);
    say(this.doubts, ['result.doubtful', { n: doubtful }]);
    show(this.doubts, doubtful > 0);
    if (!this.raw.hidden) this.raw.textContent = JSON.stringify(this.#page, null, 2);
    show(this.list, this.raw.hidden);
    this.emptyNote?.remove();
    this.emptyNote = lines.length ? null : note('info', 'result.nothing');
    if (this.emptyNote) this.notes.append(this.emptyNote);
  }

  #join() {
    const pick = (id, options) => {
      this.viewer.pick(id, options?.viewer);
      this.list.pick(id, options?.list);
    };
    this.addEventListener('line-hover', (event) => {
      this.viewer.hover(event.detail);
      this.list.hover(event.detail);
    });
    this.viewer.addEventListener('line-pick', (event) => pick(event.detail, { list: { focus: true } }));
    this.list.addEventListener('line-pick', (event) => this.viewer.pick(event.detail));
    this.list.addEventListener('line-centre', (event) => this.viewer.pick(event.detail, { centre: true }));
    this.viewer.addEventListener('keydown', (event) => event.key === 'n' && this.#doubt());
  }

  /** Go to the next doubtful line, in the list of lines. */
  #doubt() {
    this.#view(false);
    this.list.nextDoubtful();
  }

  #view(json) {
    this.asJson.setAttribute('aria-pressed', String(json));
    this.asText.setAttribute('aria-pressed', String(!json));
    if (json) this.raw.textContent = JSON.stringify(this.#page, null, 2);
    show(this.raw, json);
    show(this.list, !json);
  }

  #save(kind) {
    const { suffix, type, render } = renderers[kind];
    saveBlob(new Blob([render(this.#page)], { type: `${type};charset=utf-8` }), `${stem(this.#name)}.${suffix}`);
  }

  async #savePicture() {
    const drawn = this.viewer.image.hidden ? await this.#again?.() : await annotate(this.viewer.image, this.#page);
    if (drawn) saveBlob(drawn, `${stem(this.#name)}.annotated.png`);
    else toast('result.no_picture');
  }

  /** One line about how it went: size, time, model. */
  setFacts(page) {
    const total = Object.values(page.timings_ms ?? {}).reduce((sum, value) => sum + value, 0);
    const size = `${page.image.width} × ${page.image.height}`;
    say(this.facts, () => (total ? `${size} · ${duration(total / 1000)}` : size));
    this.facts.title = Object.entries(page.timings_ms ?? {}).map(([stage, ms]) => `${stage}: ${ms} ms`).join('\n');
  }
}

customElements.define('so-result', Result);
