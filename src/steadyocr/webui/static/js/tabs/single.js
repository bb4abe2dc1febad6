// The first tab: one picture in, its text out.

import { ApiError, getJson, isAbort, post, request, upload } from '../core/api.js';
import { h, keepFocus, show, tell } from '../core/dom.js';
import { bytes, say } from '../core/i18n.js';
import { keepsHistory } from '../core/store.js';
import { dropZone } from '../parts/drop.js';
import { attempt, bar, failure, note, toast, Wait } from '../parts/widgets.js';
import { colourHeat } from '../parts/heat.js';
import '../parts/knobs.js';
import '../parts/result.js';

const STAGES = ['upload', 'queue', 'detect', 'recognise'];
const LOOK_MS = 600;
const SIDES = [960, 1280, 1920, 2560, 4096];

export class Single {
  #file = null;
  #url = null;
  #run = null;
  #texts = null;
  #mapId = null;
  #wanted = null;
  #applying = false;
  #defaults = null;
  #model = null;

  constructor(panel) {
    this.panel = panel;
    const example = h('button', { class: 'quiet', t: 'single.example', on: { click: () => attempt(() => this.#example()) } });
    this.drop = dropZone({ take: (files) => this.paste(files), title: 'single.title', hint: 'single.hint', extra: [example], target: panel });
    this.result = h('so-result');
    this.work = show(h('div', { class: 'work' }), false);
    panel.append(this.drop, this.work);
    this.work.append(this.result);
    this.#furnish();
  }

  /** Options and their defaults, from the server; asked for once it is known to be there, and for each model. */
  async #load() {
    const model = document.querySelector('so-health').info?.models?.detector?.sha256 ?? this.#model;
    if (this.#defaults && model === (this.#model ?? model)) {
      this.#model = model;
      return;
    }
    const { options } = await getJson('v1/options');
    const defaults = Object.fromEntries(options.map((option) => [option.name, option.default]));
    this.knobs.setDefaults(defaults);
    // Before an engine was ready the model's own values are unknown; then they are asked for again.
    if (defaults.bin_threshold === null) return;
    const again = this.#defaults;
    this.#model = model;
    this.#defaults = defaults;
    if (again) return;
    if (defaults.max_side && !SIDES.includes(defaults.max_side)) this.side.append(sideOption(defaults.max_side));
    this.side.value = String(defaults.max_side ?? 1280);
  }

  #furnish() {
    this.name = h('span', { class: 'file-name' });
    this.bar = bar('single.progress');
    this.steps = h('ol', { class: 'steps' }, ...STAGES.map((stage) => h('li', { t: `stage.${stage}`, data: { stage } })));
    this.queued = this.steps.children[1].firstChild;
    this.stop = h('button', { icon: 'stop', t: 'cancel', on: { click: () => this.#run?.abort() } });
    this.busy = show(h('div', { class: 'busy', role: 'status' }, this.bar, this.steps, this.stop), false);
    this.wait = new Wait();
    this.problem = h('div', { class: 'problem' });
    this.again = h('button', { class: 'primary', icon: 'upload', t: 'single.new', on: { click: () => this.drop.choose() } });
    const head = h('div', { class: 'stage-head' }, this.name, this.again);
    this.result.stage.prepend(head, this.busy, this.wait.element, this.problem);

    this.knobs = h('so-knobs');
    this.side = h('select', { id: 'max-side' }, ...SIDES.map(sideOption));
    this.tile = h('input', { type: 'checkbox', id: 'tile' });
    const reread = h('button', { icon: 'retry', t: 'single.reread', on: { click: () => this.read() } });
    this.more = h('details', { class: 'adjust' },
      h('summary', { icon: 'sliders', t: 'knobs.title' }),
      this.knobs,
      h('div', { class: 'size-row' },
        h('label', { for: 'max-side', t: 'single.side' }), this.side,
        h('label', { class: 'check' }, this.tile, h('span', { t: 'single.tile' })), reread));
    this.more.open = matchMedia('(min-width: 60rem) and (min-height: 46rem)').matches;
    this.result.bottom.append(this.more);
    this.result.addEventListener('knobs', (event) => this.#turn(event.detail.final));
  }

  /** Take a picture: show it and have it read, both at once. */
  async open(file) {
    this.#run?.abort();
    // What that ends was about the picture before.
    this.#run = null;
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#file = file;
    this.#url = URL.createObjectURL(file);
    this.#mapId = null;
    // Reading at full size was for the picture before.
    this.tile.checked = false;
    const focused = this.drop.contains(document.activeElement);
    show(this.drop, false);
    show(this.work, true);
    if (focused) this.again.focus();
    this.panel.dataset.state = 'open';
    this.result.classList.add('blank');
    this.name.textContent = file.name;
    this.name.title = `${file.name} · ${bytes(file.size)}`;
    this.problem.replaceChildren();
    this.result.notes.replaceChildren();
    say(this.result.facts, () => '');
    await Promise.all([this.#picture(this.#url), this.read()]);
  }

  async #picture(url) {
    const { viewer } = this.result;
    if (viewer.image.hidden) viewer.showWords(false);
    // On a white sheet the text shows where it stood.
    if ((await viewer.setPicture(url)) === false) viewer.showWords();
  }

  /** Take what was chosen, dropped or pasted: one picture. */
  paste([file, ...more]) {
    if (more.length) toast('single.left_out', { n: more.length });
    this.open(file);
  }

  /** Send the picture and show what comes back. */
  async read() {
    this.#run?.abort();
    this.#texts?.abort();
    const run = new AbortController();
    this.#run = run;
    this.panel.dataset.state = 'busy';
    this.problem.replaceChildren();
    show(this.busy, true);
    say(this.queued, 'stage.queue');
    this.#stage('upload', 0);
    try {
      const page = await this.wait.through(() => this.#send(run.signal), run.signal);
      run.signal.throwIfAborted();
      this.#show(page);
    } catch (error) {
      if (this.#run !== run) return;
      this.panel.dataset.state = 'failed';
      const stopped = isAbort(error);
      const box = stopped ? note('info', 'single.stopped', h('button', { icon: 'retry', t: 'again', on: { click: () => this.read() } })) : failure(error, () => this.read());
      this.problem.replaceChildren(box);
    } finally {
      const again = this.problem.querySelector('button');
      if (this.#run === run) keepFocus(this.busy, () => show(this.busy, false), again, this.again);
    }
  }

  async #send(signal) {
    await this.#load().catch(() => {});
    signal.throwIfAborted();
    const limit = document.querySelector('so-health').info?.settings?.limits?.max_bytes;
    if (limit && this.#file.size > limit) {
      throw new ApiError(413, { code: 'payload_too_large', max_bytes: limit, retryable: false });
    }
    // Tiles have no one map to keep; their sliders read again instead.
    const keeping = { keep_map: String(!this.tile.checked), keep: String(keepsHistory()) };
    const query = new URLSearchParams({ ...keeping, ...this.knobs.changed });
    if (this.#defaults && Number(this.side.value) !== this.#defaults.max_side) query.set('max_side', this.side.value);
    if (this.tile.checked) query.set('quality', 'tile');
    let looking = null;
    try {
      return await upload(`v1/ocr?${query}`, this.#file, {
        headers: { 'Content-Type': 'application/octet-stream' },
        signal,
        onProgress: (share) => {
          this.#stage(share < 1 ? 'upload' : 'queue', share < 1 ? share * 0.3 : 0.3);
          if (share === 1 && !looking) looking = setInterval(() => this.#look(signal), LOOK_MS);
        },
      });
    } finally {
      clearInterval(looking);
    }
  }

  /** While it takes long: where does the work stand? */
  async #look(signal) {
    const info = await getJson('v1/info', { signal }).catch(() => null);
    if (!info || signal.aborted) return;
    const waiting = info.queue?.waiting;
    say(this.queued, waiting ? ['stage.queued', { n: waiting }] : 'stage.queue');
    const working = info.engines.filter((engine) => engine.stage);
    // With several at work nobody knows whose picture is where.
    if (working.length === 1) this.#stage(working[0].stage === 'recognise' ? 'recognise' : 'detect', null);
  }

  #stage(name, share) {
    this.bar.set(share);
    const at = STAGES.indexOf(name);
    for (const [index, step] of [...this.steps.children].entries()) {
      step.className = index < at ? 'past' : index === at ? 'now' : '';
    }
  }

  #show(page) {
    this.#mapId = page.map_id ?? null;
    this.result.classList.remove('blank');
    const full = () => {
      this.tile.checked = true;
      this.read();
    };
    this.result.setPage(page, { name: this.#file.name, again: () => this.#drawnByServer(), full });
    this.result.setFacts(page);
    this.panel.dataset.state = 'done';
    this.#heat(page).catch(() => {});
    tell(this.panel, 'read', page);
  }

  async #heat(page) {
    const { viewer } = this.result;
    viewer.setHeat(null);
    const id = this.#mapId;
    if (!id) return;
    const answer = await request(`v1/maps/${id}/heat.png`);
    const map = await colourHeat(await answer.blob());
    if (this.#mapId !== id) return;
    const scale = page.degraded?.effective_scale ?? 1;
    viewer.setHeat(map, map.width / scale, map.height / scale);
  }

  /** The kept map of the page shown; none while another reading is on its way. */
  get #map() {
    return this.panel.dataset.state === 'busy' ? null : this.#mapId;
  }

  /** A knob was turned: new quads from the kept map; without one the picture is read again once the hand is off. */
  async #turn(final) {
    this.#texts?.abort();
    if (!this.#map) {
      if (final) this.read();
      return;
    }
    this.#wanted = { final };
    if (this.#applying) return;
    this.#applying = true;
    this.panel.dataset.applying = 'true';
    try {
      while (this.#wanted && this.#map) await this.#apply();
    } finally {
      this.#applying = false;
      delete this.panel.dataset.applying;
    }
  }

  async #apply() {
    const { final } = this.#wanted;
    this.#wanted = null;
    const id = this.#map;
    this.#texts = new AbortController();
    const { signal } = this.#texts;
    const ask = (recognise) => post(`v1/maps/${id}/lines`, { ...this.knobs.values, recognise }, recognise ? { signal } : {});
    try {
      // Quads come at once; what keeps them away, the second question meets too.
      const quads = await ask(false).catch((error) => {
        if (!final) throw error;
      });
      if (quads) this.#put(id, quads);
      // Reading takes seconds; the next turn calls it off. A wait takes the knobs as they are when it ends.
      if (final && !signal.aborted) this.#put(id, await this.wait.through(() => ask(true), signal));
    } catch (error) {
      if (isAbort(error) || this.#map !== id) return;
      if (error.status === 404) {
        // Kept maps go after a while; the picture is still here.
        this.#mapId = null;
        if (final || this.#wanted?.final) this.read();
      } else if (final || !error.waits) this.problem.replaceChildren(failure(error));
    }
  }

  #put(id, { lines, options }) {
    if (this.#map !== id) return;
    this.result.setLines(lines, options);
    this.problem.replaceChildren();
  }

  async #drawnByServer() {
    const { bin_threshold, box_threshold, unclip_ratio, max_side, quality } = this.result.page.options;
    const query = new URLSearchParams({ format: 'overlay.png', bin_threshold, box_threshold, unclip_ratio, max_side, quality });
    const headers = { 'Content-Type': 'application/octet-stream' };
    return (await request(`v1/ocr?${query}`, { method: 'POST', headers, body: this.#file })).blob();
  }

  async #example() {
    const { drawExample } = await import('../parts/example.js');
    await this.open(await drawExample());
  }
}

const sideOption = (side) => h('option', { value: String(side) }, `${side} px`);
