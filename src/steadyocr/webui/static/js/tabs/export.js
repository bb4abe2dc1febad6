// The fourth tab: take a model away as ONNX or OpenVINO, with the proof that it is the same network.

import { getJson, isAbort, pause, post } from '../core/api.js';
import { arrange, h, show } from '../core/dom.js';
import { bytes, moment, number, onLanguage, say, t } from '../core/i18n.js';
import { saveFrom } from '../core/save.js';
import { checkField, choiceField, numberField, openLab, segmentField } from '../parts/fields.js';
import { act, attempt, badge, bar, complain, failure, note, Wait } from '../parts/widgets.js';

// Sides of the network's input are multiples of 32; what is not becomes the next larger one, as on the server.
const SIDE = { value: 800, min: 320, max: 1536, step: 32, round: Math.ceil };
const POLL_S = 1.5;
const OPEN_STATES = ['running', 'stopping'];

export class Export {
  #watch = null;
  #exports = [];
  #cards = new Map();
  #models = [[], []];
  #names = new Map();

  constructor(panel) {
    this.panel = panel;
    this.closed = show(h('div', { class: 'column' }), false);
    this.wait = new Wait();
    this.fault = h('div');
    this.list = h('ul', { class: 'exports' });
    this.blank = h('div', { class: 'blank-state muted' }, h('p', { t: 'export.none' }));
    this.open = h('div', { class: 'bench' }, h('div', { class: 'bench-form' }, this.#furnishForm()),
      h('div', { class: 'bench-view' }, this.wait.element, this.fault, this.blank, this.list));
    panel.append(this.closed, this.open);
    onLanguage(() => {
      this.#nameModels();
      this.#cards.clear();
      this.#draw();
    });
  }

  async enter(model) {
    this.#watch?.abort();
    this.#watch = new AbortController();
    const { signal } = this.#watch;
    const lab = await getJson('v1/lab', { signal });
    if (!openLab(this, lab, 'export.title')) return;
    const { runs } = await getJson('v1/lab/runs', { signal });
    this.#models = [runs.filter((run) => run.usable), lab.base_models];
    this.#nameModels();
    if (this.#names.has(model)) this.model.input.value = model;
    this.#follow(signal).catch((error) => isAbort(error) || complain(this.fault, error));
  }

  #nameModels() {
    const [runs, bases] = this.#models;
    const tuned = runs.map((run) => [run.id, `${run.params.dataset} · ${moment(run.created_at)}`]);
    this.#names = new Map([...tuned, ...bases.map((name) => [name, name])]);
    this.model.setOptions([...this.#names]);
  }

  leave() {
    this.#watch?.abort();
  }

  #furnishForm() {
    this.model = choiceField({ id: 'export-model', name: 'export.model' });
    this.format = segmentField({ name: 'export.format', entries: [['onnx', 'export.onnx'], ['openvino', 'export.openvino']], change: (kind) => this.#formatIs(kind) });
    this.sizing = segmentField({ name: 'export.sizing', entries: [['dynamic', 'export.dynamic'], ['fixed', 'export.fixed']], change: (kind) => this.#sizingIs(kind) });
    this.height = numberField({ id: 'export-height', name: 'export.height', ...SIDE });
    this.width = numberField({ id: 'export-width', name: 'export.width', ...SIDE });
    this.snapped = h('p', { class: 'muted hint', 'aria-live': 'polite', t: 'export.snap' });
    this.sides = show(h('div', {}, h('div', { class: 'fields two' }, this.height, this.width), this.snapped), false);
    let snapped = null;
    for (const field of [this.height, this.width]) {
      field.input.addEventListener('change', () => {
        const from = field.input.value;
        const to = String(field.get());
        if (from !== to) say(this.snapped, ['export.snapped', { from, to }]);
        else if (snapped === field) say(this.snapped, 'export.snap');
        if (from !== to) snapped = field;
      });
    }
    this.int8 = checkField({ id: 'export-int8', name: 'export.int8', hint: 'export.int8_hint' });
    this.problem = h('div');
    this.go = h('button', { class: 'primary', icon: 'box', t: 'export.start', type: 'submit' });
    const form = h('form', { class: 'block' }, h('h2', { t: 'export.title' }), h('p', { class: 'muted', t: 'export.intro' }),
      this.model, this.format, this.sizing, this.sides, this.int8, this.problem, h('div', { class: 'actions' }, this.go));
    form.noValidate = true;
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      attempt(() => this.#start());
    });
    return form;
  }

  #sizingIs(kind) {
    if (!this.int8) return;
    show(this.sides, kind === 'fixed');
    this.#offerInt8();
  }

  /** Only ONNX comes in fixed sizes. */
  #formatIs(kind) {
    if (!this.int8) return;
    show(this.sizing, kind === 'onnx');
    show(this.sides, kind === 'onnx' && this.sizing.get() === 'fixed');
    this.#offerInt8();
  }

  /** An INT8 file is ONNX and takes all sizes. */
  #offerInt8() {
    show(this.int8, this.format.get() === 'onnx' && this.sizing.get() === 'dynamic');
  }

  async #start() {
    this.problem.replaceChildren();
    const order = { model: this.model.get(), format: this.format.get(), int8: !this.int8.hidden && this.int8.get() };
    if (order.format === 'onnx' && this.sizing.get() === 'fixed') Object.assign(order, { height: this.height.get(), width: this.width.get() });
    this.go.disabled = true;
    const { signal } = this.#watch;
    try {
      await post('v1/lab/exports', order);
      // Whoever has gone on to something else is not to be followed.
      if (!signal.aborted) await this.enter(order.model);
    } catch (error) {
      if (!isAbort(error)) this.problem.replaceChildren(failure(error));
    } finally {
      this.go.disabled = false;
    }
  }

  async #follow(signal) {
    for (;;) {
      try {
        ({ exports: this.#exports } = await this.wait.through(() => getJson('v1/lab/exports', { signal }), signal));
        this.fault.replaceChildren();
        this.#draw();
        if (!this.#exports.some((one) => OPEN_STATES.includes(one.state))) return;
      } catch (error) {
        // Exports go on, and so does the look at them.
        if (!error.passes) throw error;
        complain(this.fault, error);
      }
      await pause(POLL_S, signal);
    }
  }

  async #cancel(one) {
    const { signal } = this.#watch;
    await post(`v1/lab/exports/${one.id}/cancel`);
    if (!signal.aborted) await this.enter();
  }

  #draw() {
    show(this.blank, this.#exports.length === 0);
    // A card is made again only when something about it changed.
    const known = this.#cards;
    this.#cards = new Map(this.#exports.map((one) => [JSON.stringify(one), one]));
    for (const [key, one] of this.#cards) this.#cards.set(key, known.get(key) ?? this.#card(one));
    arrange(this.list, [...this.#cards.values()]);
  }

  #card(one) {
    const open = OPEN_STATES.includes(one.state);
    const shape = one.size ? `${one.size.height} × ${one.size.width}` : t('export.dynamic');
    const { model, format, int8 } = one.params;
    const kinds = [t(`export.${format}`), format === 'onnx' ? shape : null, int8 ? 'INT8' : null].filter(Boolean).join(' · ');
    const progress = open ? bar('export.progress') : null;
    progress?.set(null);
    const done = one.state === 'finished';
    const save = act('download', 'result.download', () => saveFrom(`v1/lab/exports/${one.id}/file`, one.file), 'primary');
    const stop = act('stop', 'cancel', () => this.#cancel(one));
    return h('li', { class: 'export-card' },
      h('div', { class: 'row wrap' }, h('div', { class: 'titles' }, h('h3', {}, this.#names.get(model) ?? model), badge(one.state)), done ? save : one.state === 'running' ? stop : null),
      h('p', { class: 'muted' }, `${kinds} · ${moment(one.created_at)}`),
      progress,
      one.reason ? note(one.state === 'failed' ? 'bad' : 'info', h('span', {}, one.reason)) : null,
      done ? verdict(one) : null,
      done ? h('dl', { class: 'figures' }, figure('export.size', bytes(one.bytes)), ...parityFigures(one.parity)) : null);
  }
}

const figure = (key, value) => h('div', {}, h('dt', { t: key }), h('dd', {}, value));

/** What the figures of the proof mean. */
function verdict({ parity, params }) {
  const { same, allowed } = parity ?? {};
  if (params.int8) return note('info', 'export.rounded');
  if (same === undefined) return null;
  return note(same ? 'info' : 'warn', [same ? 'export.same' : 'export.differs', { allowed: number(allowed, 3) }]);
}

/** The figures of the proof: how far the outputs are apart from the original network's, by inference library. */
function parityFigures(parity) {
  const small = (value) => (value === 0 || value >= 0.01 ? number(value, 3) : value.toExponential(1));
  return Object.entries(parity?.max_abs_difference ?? {}).map(([library, value]) => figure(['export.difference', { library }], small(value)));
}
