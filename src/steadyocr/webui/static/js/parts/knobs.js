// <so-knobs>: binarise, box score, unclip; with presets by scene. Tells its owner "knobs" with `final` true once the
// hand is off the slider.

import { h, tell } from '../core/dom.js';
import { number } from '../core/i18n.js';
import { keep, recall } from '../core/store.js';

const NAMES = ['bin_threshold', 'box_threshold', 'unclip_ratio'];
// The original's slider goes from 0 to 1; unclip above 3 only joins neighbours.
const RANGES = { bin_threshold: [0.02, 0.95, 0.01], box_threshold: [0, 0.95, 0.01], unclip_ratio: [0.5, 3, 0.05] };
const PRESETS = {
  print: { bin_threshold: 0.25, box_threshold: 0.5, unclip_ratio: 1.5 },
  screen: { bin_threshold: 0.2, box_threshold: 0.4, unclip_ratio: 1.6 },
  hand: { bin_threshold: 0.12, box_threshold: 0.25, unclip_ratio: 1.8 },
  busy: { bin_threshold: 0.38, box_threshold: 0.6, unclip_ratio: 1.5 },
};

export class Knobs extends HTMLElement {
  #sliders = {};
  #defaults = {};

  connectedCallback() {
    if (this.chips) return;
    this.chips = h('div', { class: 'chips', role: 'group', label: 'knobs.presets' });
    for (const name of ['standard', ...Object.keys(PRESETS)]) {
      this.chips.append(h('button', { class: 'chip', t: `knobs.${name}`, data: { preset: name }, on: { click: () => this.#choose(name) } }));
    }
    this.append(this.chips, ...NAMES.map((name) => this.#slider(name)));
  }

  /** The serving model's own values; what was kept from an earlier visit comes back. */
  setDefaults(defaults) {
    this.#defaults = Object.fromEntries(NAMES.map((name) => [name, defaults[name]]));
    let kept = {};
    try {
      kept = JSON.parse(recall('knobs', '{}'));
    } catch {
      // Not ours; leave it.
    }
    this.#set({ ...this.#defaults, ...kept });
  }

  get values() {
    return Object.fromEntries(NAMES.map((name) => [name, Number(this.#sliders[name].value)]));
  }

  /** Only what differs from the model's own values. */
  get changed() {
    const differs = ([name, value]) => typeof this.#defaults[name] === 'number' && value !== this.#defaults[name];
    return Object.fromEntries(Object.entries(this.values).filter(differs));
  }

  #slider(name) {
    const [min, max, step] = RANGES[name];
    const id = `knob-${name}`;
    const shown = h('output', { for: id });
    const input = h('input', { type: 'range', id, min: String(min), max: String(max), step: String(step), 'aria-describedby': `${id}-hint` });
    input.shown = shown;
    input.addEventListener('input', () => this.#moved(false));
    input.addEventListener('change', () => this.#moved(true));
    this.#sliders[name] = input;
    return h(
      'div',
      { class: 'knob' },
      h('label', { for: id, t: `knobs.${name}` }),
      shown,
      input,
      h('small', { class: 'muted', id: `${id}-hint`, t: `knobs.${name}_hint` }),
    );
  }

  #choose(name) {
    this.#set(name === 'standard' ? this.#defaults : PRESETS[name]);
    this.#moved(true);
  }

  #set(values) {
    for (const name of NAMES) if (values[name] !== undefined) this.#sliders[name].value = String(values[name]);
    this.#show();
  }

  #moved(final) {
    this.#show();
    if (final) {
      const { changed } = this;
      keep('knobs', Object.keys(changed).length ? JSON.stringify(changed) : null);
    }
    tell(this, 'knobs', { final });
  }

  #show() {
    const { values } = this;
    for (const name of NAMES) {
      const input = this.#sliders[name];
      input.shown.textContent = number(values[name], 2);
      const share = (values[name] - input.min) / (input.max - input.min);
      input.style.setProperty('--share', `${share * 100}%`);
    }
    const same = (preset) => NAMES.every((name) => Math.abs(preset[name] - values[name]) < 0.005);
    for (const chip of this.chips.children) {
      const { preset } = chip.dataset;
      chip.setAttribute('aria-pressed', String(same(preset === 'standard' ? this.#defaults : PRESETS[preset])));
    }
  }
}

customElements.define('so-knobs', Knobs);
