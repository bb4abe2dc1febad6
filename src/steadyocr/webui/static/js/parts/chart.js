// <so-chart>: one curve, drawn as it grows. The figure under the pointer is read out beside the title.

import { h, s } from '../core/dom.js';
import { number, say, t } from '../core/i18n.js';

const [WIDTH, HEIGHT] = [600, 220];
const PAD = { left: 58, right: 12, top: 12, bottom: 26 };
const TICKS = 4;

export class Chart extends HTMLElement {
  #points = [];

  connectedCallback() {
    if (this.svg) return;
    this.readout = h('output', { class: 'readout' });
    this.heading = h('h3', { t: this.dataset.title });
    this.grid = s('g', { class: 'grid' });
    this.area = s('path', { class: 'area' });
    this.line = s('path', { class: 'curve' });
    this.dot = s('circle', { class: 'point', r: 4 });
    this.svg = s('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img' }, this.grid, this.area, this.line, this.dot);
    this.empty = h('p', { class: 'muted none', t: 'chart.none' });
    this.append(h('div', { class: 'row' }, this.heading, this.readout), this.svg, this.empty);
    this.svg.addEventListener('pointermove', (event) => this.#read(event));
    this.svg.addEventListener('pointerleave', () => this.#point(this.#points.at(-1)));
  }

  /** Draw points `{x, y}` in rising order of x. */
  setPoints(points) {
    this.#points = points;
    this.empty.hidden = points.length > 0;
    this.svg.toggleAttribute('data-empty', points.length === 0);
    if (!points.length) {
      say(this.readout, () => '');
      return;
    }
    const ys = points.map((point) => point.y);
    this.low = Number(this.dataset.low ?? Math.min(...ys));
    this.high = niceAbove(Number(this.dataset.high ?? Math.max(...ys)), this.low);
    this.first = points[0].x;
    this.last = Math.max(points.at(-1).x, this.first + 1);
    const path = points.map((point, at) => `${at ? 'L' : 'M'}${this.#x(point.x).toFixed(1)} ${this.#y(point.y).toFixed(1)}`).join('');
    const floor = HEIGHT - PAD.bottom;
    this.line.setAttribute('d', path);
    this.area.setAttribute('d', `${path}L${this.#x(points.at(-1).x).toFixed(1)} ${floor}L${this.#x(this.first).toFixed(1)} ${floor}Z`);
    this.#drawGrid();
    this.#point(points.at(-1));
    const name = () => t('chart.name', { title: t(this.dataset.title), value: number(points.at(-1).y, 3), n: points.length });
    say(this.svg, name, 'aria-label');
  }

  #x(x) {
    return PAD.left + ((x - this.first) / (this.last - this.first)) * (WIDTH - PAD.left - PAD.right);
  }

  #y(y) {
    return HEIGHT - PAD.bottom - ((y - this.low) / (this.high - this.low)) * (HEIGHT - PAD.top - PAD.bottom);
  }

  #drawGrid() {
    const rows = Array.from({ length: TICKS + 1 }, (_, at) => this.low + ((this.high - this.low) * at) / TICKS);
    const digits = this.high - this.low < 0.2 ? 3 : 2;
    const written = (x, y, anchor, text) => {
      const element = s('text', { x, y, 'text-anchor': anchor });
      element.textContent = text;
      return element;
    };
    this.grid.replaceChildren(
      ...rows.flatMap((value) => {
        const y = this.#y(value);
        return [s('path', { d: `M${PAD.left} ${y}H${WIDTH - PAD.right}` }), written(PAD.left - 8, y + 4, 'end', number(value, digits))];
      }),
      written(PAD.left, HEIGHT - 6, 'start', number(this.first)),
      written(WIDTH - PAD.right, HEIGHT - 6, 'end', number(this.last)),
    );
  }

  #read(event) {
    const box = this.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDTH;
    const near = (point) => Math.abs(this.#x(point.x) - x);
    this.#point(this.#points.reduce((best, point) => (best && near(best) <= near(point) ? best : point), null));
  }

  #point(point) {
    if (!point) return;
    this.dot.setAttribute('cx', this.#x(point.x));
    this.dot.setAttribute('cy', this.#y(point.y));
    say(this.readout, ['chart.at', { value: number(point.y, 3), step: point.x }]);
  }
}

/** A round number at or above the top of the curve. */
function niceAbove(top, low) {
  const span = Math.max(top - low, 1e-6);
  const unit = 10 ** Math.floor(Math.log10(span));
  return low + Math.ceil((span / unit) * 2) * (unit / 2);
}

customElements.define('so-chart', Chart);
