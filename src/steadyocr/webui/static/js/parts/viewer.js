// <so-viewer>: a picture with its quads. Zooms and pans by wheel, drag, pinch and keys; shows the heat map and the
// text where it was read. Tells its owner "line-hover" and "line-pick".

import { calm, eachFrame, h, label, s, tell } from '../core/dom.js';
import { say } from '../core/i18n.js';

export const LOW_SCORE = 0.8;
const MAX_ZOOM = 16;
const STEP = 1.3;
const PAN_PX = 60;
const MARGIN_PX = 20;
// The toolbar floats over the lower edge; a fitted picture stays clear of it.
const TOOLBAR_PX = 64;

/** Whether a line was read with little confidence. */
export const isDoubtful = (line) => line.text_score !== null && line.text_score !== undefined && line.text_score < LOW_SCORE;

export class Viewer extends HTMLElement {
  #size = { width: 1, height: 1 };
  #view = { k: 1, x: 0, y: 0 };
  #atFit = true;
  #fingers = new Map();
  #lines = [];
  #marks = new Map();
  #picked = null;
  #hovered = null;
  #settle = null;

  connectedCallback() {
    if (this.image) return;
    this.tabIndex = 0;
    this.setAttribute('role', 'group');
    label(this, 'viewer.name');
    this.image = h('img', { alt: '', draggable: 'false', hidden: true });
    this.sheet = h('div', { class: 'sheet' }, this.image);
    this.heat = h('canvas', { class: 'heat', hidden: true });
    this.sheet.append(this.heat);
    this.quads = s('g', { class: 'quads' });
    this.words = s('g', { class: 'words' });
    this.layer = s('g', {}, this.words, this.quads);
    this.svg = s('svg', { class: 'marks', role: 'img' }, this.layer);
    this.append(this.sheet, this.svg, this.#toolbar());
    this.#listen();
    new ResizeObserver(() => this.#atFit && this.fit()).observe(this);
  }

  /**
   * Show a picture; `url` may be null when the browser cannot draw it. Where its size is known, so are its lines: they
   * stay. Says whether it is drawn; null when another one came meanwhile.
   */
  async setPicture(url, width, height) {
    const size = this.#size;
    this.image.hidden = true;
    this.setHeat(null);
    if (!width) this.setLines([]);
    if (url) {
      this.image.src = url;
      const drawable = await this.image.decode().then(() => true, () => false);
      if (this.image.src !== url) return null;
      if (drawable && !width) ({ naturalWidth: width, naturalHeight: height } = this.image);
      this.image.hidden = !drawable;
    } else this.image.removeAttribute('src');
    // Whoever said the size meanwhile knows it better.
    if (this.#size !== size) ({ width, height } = this.#size);
    if (width) this.resize(width, height);
    return !this.image.hidden;
  }

  /** Say how large the picture is, in pixels as viewed. */
  resize(width, height) {
    this.#size = { width, height };
    this.sheet.style.width = `${width}px`;
    this.sheet.style.height = `${height}px`;
    // A browser that does not turn a picture as it says (Chromium, WebP) would show it squeezed.
    if (!this.image.hidden && this.image.naturalWidth > this.image.naturalHeight !== width > height) {
      this.image.hidden = true;
      this.showWords();
    }
    this.classList.toggle('without-picture', this.image.hidden);
    this.fit();
  }

  setLines(lines) {
    this.#lines = lines;
    this.#marks = new Map(
      lines.map((line) => {
        const mark = s('polygon', { points: line.quad.map((point) => point.join(',')).join(' '), 'data-line': line.id });
        if (isDoubtful(line)) mark.classList.add('doubtful');
        return [line.id, mark];
      }),
    );
    this.quads.replaceChildren(...this.#marks.values());
    say(this.svg, ['viewer.lines', { n: lines.length }], 'aria-label');
    this.#picked = null;
    this.#hovered = null;
    if (this.classList.contains('with-words')) this.#write();
  }

  /** Show the probability map: a canvas that covers `width` x `height` picture pixels; null takes it away. */
  setHeat(source, width, height) {
    this.classList.toggle('has-heat', source !== null);
    if (!source) {
      this.heat.hidden = true;
      this.heatButton?.setAttribute('aria-pressed', 'false');
      return;
    }
    this.heat.width = source.width;
    this.heat.height = source.height;
    this.heat.getContext('2d').drawImage(source, 0, 0);
    this.heat.style.width = `${width}px`;
    this.heat.style.height = `${height}px`;
  }

  hover(id) {
    this.#marks.get(this.#hovered)?.classList.remove('hovered');
    this.#hovered = id;
    this.#raise(id, 'hovered');
  }

  /** Mark a line and bring it into view. */
  pick(id, { centre = false } = {}) {
    this.#marks.get(this.#picked)?.classList.remove('picked');
    this.#picked = id;
    this.#raise(id, 'picked');
    const line = this.#lines.find((one) => one.id === id);
    if (line) this.#reveal(line.quad, centre);
  }

  fit() {
    const { clientWidth, clientHeight } = this;
    if (!clientWidth) return;
    this.#atFit = true;
    this.#moveTo(this.#fitted(clientWidth, clientHeight));
  }

  zoom(factor, x = this.clientWidth / 2, y = this.clientHeight / 2) {
    const { k } = this.#view;
    const smallest = Math.min(this.#fitted(this.clientWidth, this.clientHeight).k, 1) / 2;
    const next = Math.min(MAX_ZOOM, Math.max(smallest, k * factor));
    this.#atFit = false;
    this.#moveTo({ k: next, x: x - ((x - this.#view.x) * next) / k, y: y - ((y - this.#view.y) * next) / k });
  }

  #fitted(width, height) {
    const free = Math.max(height - TOOLBAR_PX, height * 0.7);
    const room = (side) => Math.max(side - 2 * MARGIN_PX, side * 0.8);
    const k = Math.min(room(width) / this.#size.width, (free - MARGIN_PX) / this.#size.height, 4);
    return { k, x: (width - this.#size.width * k) / 2, y: MARGIN_PX / 2 + (free - this.#size.height * k) / 2 };
  }

  #moveTo(view) {
    this.#view = view;
    const { k, x, y } = view;
    this.sheet.style.transform = `translate(${x}px, ${y}px) scale(${k})`;
    this.layer.setAttribute('transform', `translate(${x} ${y}) scale(${k})`);
    this.classList.toggle('fitted', this.#atFit);
    this.classList.toggle('close-up', k > 3);
    if (this.scaleText) this.scaleText.textContent = `${Math.round(k * 100)}%`;
  }

  #raise(id, name) {
    const mark = this.#marks.get(id);
    if (!mark) return;
    mark.classList.add(name);
    this.quads.append(mark);
  }

  #reveal(quad, centre) {
    const { k, x, y } = this.#view;
    const mid = (axis) => quad.reduce((sum, point) => sum + point[axis], 0) / 4;
    const [left, top] = [mid(0) * k + x, mid(1) * k + y];
    const seen = left > 40 && top > 40 && left < this.clientWidth - 40 && top < this.clientHeight - 40;
    if (seen && !centre) return;
    const height = Math.hypot(quad[3][0] - quad[0][0], quad[3][1] - quad[0][1]);
    const width = Math.hypot(quad[1][0] - quad[0][0], quad[1][1] - quad[0][1]);
    const good = Math.min((this.clientWidth * 0.8) / width, 36 / height);
    const next = centre ? Math.min(MAX_ZOOM, Math.max(k, good)) : k;
    this.#atFit = false;
    this.#glide({ k: next, x: this.clientWidth / 2 - mid(0) * next, y: this.clientHeight / 2 - mid(1) * next });
  }

  #glide(view) {
    clearTimeout(this.#settle);
    if (!calm()) {
      this.classList.add('gliding');
      this.#settle = setTimeout(() => this.classList.remove('gliding'), 260);
    }
    this.#moveTo(view);
  }

  #toolbar() {
    const button = (name, key, work, toggle = false) => {
      const made = h('button', { class: 'icon', icon: name, label: key, on: { click: () => work(made) } });
      if (toggle) made.setAttribute('aria-pressed', 'false');
      return made;
    };
    this.scaleText = h('span', { class: 'scale', 'aria-hidden': 'true' });
    const quads = button('quads', 'viewer.quads', (made) => {
      made.setAttribute('aria-pressed', String(!this.classList.toggle('without-quads')));
    });
    quads.setAttribute('aria-pressed', 'true');
    this.wordsButton = button('text', 'viewer.words', () => this.showWords(!this.classList.contains('with-words')), true);
    this.heatButton = button('heat', 'viewer.heat', () => this.toggleHeat(), true);
    this.heatButton.classList.add('heat-button');
    return h(
      'div',
      { class: 'toolbar', role: 'toolbar', label: 'viewer.tools' },
      quads,
      this.wordsButton,
      this.heatButton,
      h('span', { class: 'gap' }),
      button('minus', 'viewer.out', () => this.zoom(1 / STEP)),
      this.scaleText,
      button('plus', 'viewer.in', () => this.zoom(STEP)),
      button('fit', 'viewer.fit', () => this.fit()),
    );
  }

  /** Show the text where it stands in the picture. */
  showWords(on = true) {
    this.classList.toggle('with-words', on);
    this.wordsButton.setAttribute('aria-pressed', String(on));
    if (on) this.#write();
  }

  toggleHeat() {
    const on = this.heat.hidden;
    this.heat.hidden = !on;
    this.heatButton.setAttribute('aria-pressed', String(on));
  }

  /** Write each line's text where it stands, as large as its quad. */
  #write() {
    this.words.replaceChildren(
      ...this.#lines.filter((line) => line.text).map((line) => {
        const [a, b, , d] = line.quad;
        const [width, height] = [Math.hypot(b[0] - a[0], b[1] - a[1]), Math.hypot(d[0] - a[0], d[1] - a[1])];
        const upright = height > width * 1.5 && [...line.text].length > 1;
        const [along, across] = upright ? [height, width] : [width, height];
        const turn = (Math.atan2(b[1] - a[1], b[0] - a[0]) * 180) / Math.PI;
        const text = s('text', {
          x: upright ? across / 2 : 0,
          y: upright ? 0 : across * 0.78,
          'font-size': across * 0.76,
          textLength: along,
          lengthAdjust: 'spacingAndGlyphs',
        });
        if (upright) text.classList.add('upright');
        text.textContent = line.text;
        const paper = s('rect', { width, height, rx: Math.min(width, height) * 0.08 });
        return s('g', { transform: `translate(${a[0]} ${a[1]}) rotate(${turn})` }, paper, text);
      }),
    );
  }

  #listen() {
    const lineOf = (event) => {
      const id = event.target.dataset?.line;
      return id === undefined ? null : Number(id);
    };
    this.svg.addEventListener('pointerover', (event) => tell(this, 'line-hover', lineOf(event)));
    this.svg.addEventListener('pointerleave', () => tell(this, 'line-hover', null));
    this.addEventListener('wheel', (event) => {
      event.preventDefault();
      const box = this.getBoundingClientRect();
      const speed = event.ctrlKey ? 0.01 : 0.0015;
      this.zoom(Math.exp(-event.deltaY * speed), event.clientX - box.left, event.clientY - box.top);
    });
    this.svg.addEventListener('pointerdown', (event) => this.#down(event));
    this.svg.addEventListener('pointermove', eachFrame((event) => this.#drag(event)));
    for (const end of ['pointerup', 'pointercancel']) this.svg.addEventListener(end, (event) => this.#up(event));
    this.svg.addEventListener('dblclick', () => this.fit());
    this.addEventListener('keydown', (event) => this.#key(event));
  }

  #down(event) {
    if (event.button > 0) return;
    this.svg.setPointerCapture(event.pointerId);
    this.#fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.#fingers.size === 1) this.press = { x: event.clientX, y: event.clientY, line: event.target.dataset?.line };
    else this.press = null;
  }

  #drag(event) {
    const finger = this.#fingers.get(event.pointerId);
    if (!finger) return;
    const others = [...this.#fingers.entries()].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    const [dx, dy] = [event.clientX - finger.x, event.clientY - finger.y];
    const before = { ...finger };
    finger.x = event.clientX;
    finger.y = event.clientY;
    if (others.length) {
      const [still] = others;
      const box = this.getBoundingClientRect();
      const spread = (point) => Math.hypot(point.x - still.x, point.y - still.y) || 1;
      this.zoom(spread(finger) / spread(before), (still.x + finger.x) / 2 - box.left, (still.y + finger.y) / 2 - box.top);
      return;
    }
    if (event.pointerType === 'touch' && this.#atFit) return;
    if (this.press && Math.hypot(finger.x - this.press.x, finger.y - this.press.y) > 4) this.press = null;
    if (this.press) return;
    this.#atFit = false;
    this.classList.add('dragging');
    this.#moveTo({ ...this.#view, x: this.#view.x + dx, y: this.#view.y + dy });
  }

  #up(event) {
    this.#fingers.delete(event.pointerId);
    this.classList.remove('dragging');
    if (this.press?.line !== undefined && event.type === 'pointerup') tell(this, 'line-pick', Number(this.press.line));
    this.press = null;
  }

  #key(event) {
    if (event.target !== this || event.ctrlKey || event.metaKey || event.altKey) return;
    const pan = { ArrowLeft: [PAN_PX, 0], ArrowRight: [-PAN_PX, 0], ArrowUp: [0, PAN_PX], ArrowDown: [0, -PAN_PX] }[event.key];
    const work = {
      '+': () => this.zoom(STEP),
      '=': () => this.zoom(STEP),
      '-': () => this.zoom(1 / STEP),
      0: () => this.fit(),
      1: () => this.zoom(1 / this.#view.k),
    }[event.key];
    if (pan) {
      this.#atFit = false;
      this.#moveTo({ ...this.#view, x: this.#view.x + pan[0], y: this.#view.y + pan[1] });
    } else if (work) work();
    else return;
    event.preventDefault();
  }
}

customElements.define('so-viewer', Viewer);
