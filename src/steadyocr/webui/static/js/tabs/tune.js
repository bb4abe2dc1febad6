// The third tab: fine-tune the detector on one's own pictures. Training is a process of its own on the server.

import { getJson, isAbort, post } from '../core/api.js';
import { arrange, h, keepFocus, show } from '../core/dom.js';
import { duration, moment, number, onLanguage, percent, say, t } from '../core/i18n.js';
import { follow } from '../core/live.js';
import '../parts/chart.js';
import { choiceField, numberField, openLab } from '../parts/fields.js';
import { act, attempt, badge, bar, complain, failure, note, sure } from '../parts/widgets.js';

// The original's defaults and ranges.
const BATCH = { value: 8, min: 1, max: 32 };
const EPOCHS = { value: 5, min: 1, max: 100 };
const CROP = { value: 640, min: 128, max: 1024, step: 32 };
const CROPS = { value: 4, min: 1, max: 64 };
const RATE = { value: 0.007, min: 0.0001, max: 0.1, step: 'any' };
const SHOWN_PROBLEMS = 50;
const OPEN_STATES = ['running', 'stopping'];
const USING_STATES = ['importing', 'swapping'];

const isUsing = (run) => USING_STATES.includes(run.use?.state);

export class Tune {
  #watch = null;
  #run = null;
  #reportOf = null;
  #report = null;
  #runs = [];
  #models = '';

  constructor(panel) {
    this.panel = panel;
    this.closed = show(h('div', { class: 'column' }), false);
    this.form = this.#furnishForm();
    this.list = h('ul', { class: 'cards' });
    this.runs = show(h('section', { class: 'block' }, h('h2', { t: 'tune.runs' }), this.list), false);
    this.detail = this.#furnishRun();
    this.blank = h('div', { class: 'blank-state muted' }, h('p', { t: 'tune.none' }));
    this.open = h('div', { class: 'bench' }, h('div', { class: 'bench-form' }, this.form, this.runs), h('div', { class: 'bench-view' }, this.blank, this.detail));
    panel.append(this.closed, this.open);
    onLanguage(() => {
      this.#drawReport();
      this.#drawRuns();
      if (this.#run) this.#draw(this.#run);
    });
  }

  async enter(runId) {
    this.#watch?.abort();
    this.#watch = new AbortController();
    const { signal } = this.#watch;
    const lab = await getJson('v1/lab', { signal });
    if (!openLab(this, lab, 'tune.title')) return;
    this.place = lab.datasets_dir;
    this.#offerModels(lab);
    await Promise.all([this.#loadDatasets(signal), this.#loadRuns(signal, runId)]);
  }

  /** What was chosen stays, unless there is something else to choose from. */
  #offerModels({ base_models: models, base_model: usual }) {
    const offered = [usual, ...models].join();
    if (offered === this.#models) return;
    this.#models = offered;
    this.model.setOptions(models.map((name) => [name, name]));
    this.model.input.value = usual;
  }

  leave() {
    this.#watch?.abort();
  }

  #furnishForm() {
    this.dataset = choiceField({ id: 'tune-dataset', name: 'tune.dataset', hint: 'tune.dataset_hint' });
    this.dataset.input.addEventListener('change', () => attempt(() => this.#check()));
    this.report = h('div', { class: 'report' });
    this.model = choiceField({ id: 'tune-model', name: 'tune.model' });
    this.batch = numberField({ id: 'tune-batch', name: 'tune.batch', hint: 'tune.batch_hint', ...BATCH });
    this.epochs = numberField({ id: 'tune-epochs', name: 'tune.epochs', hint: 'tune.epochs_hint', ...EPOCHS });
    this.rate = numberField({ id: 'tune-rate', name: 'tune.rate', hint: 'tune.rate_hint', ...RATE });
    this.crop = numberField({ id: 'tune-crop', name: 'tune.crop', hint: 'tune.crop_hint', ...CROP });
    this.crops = numberField({ id: 'tune-crops', name: 'tune.crops', hint: 'tune.crops_hint', ...CROPS });
    this.go = h('button', { class: 'primary', icon: 'play', t: 'tune.start', type: 'submit', disabled: true });
    this.problem = h('div');
    const form = h('form', { class: 'block' },
      h('h2', { t: 'tune.title' }), h('p', { class: 'muted', t: 'tune.intro' }),
      this.dataset, this.report,
      h('div', { class: 'fields' }, this.batch, this.epochs, this.rate),
      h('details', { class: 'more' }, h('summary', { t: 'tune.more' }), h('div', { class: 'block' }, this.model, h('div', { class: 'fields two' }, this.crop, this.crops))),
      this.problem, h('div', { class: 'actions' }, this.go));
    form.noValidate = true;
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      attempt(() => this.#start());
    });
    return form;
  }

  async #loadDatasets(signal) {
    const { datasets } = await getJson('v1/lab/datasets', { signal });
    this.dataset.setOptions(datasets.map((set) => [set.name, set.name]));
    show(this.dataset, datasets.length > 0);
    this.go.disabled = true;
    if (datasets.length) attempt(() => this.#check());
    else this.report.replaceChildren(...this.#howTo());
  }

  /** Where data sets belong, what one looks like, and a command that makes one. */
  #howTo() {
    const lines = ['NAME/train_list.txt: 1.jpg', 'NAME/train_images/1.jpg', 'NAME/train_gts/1.txt: x1,y1,…,x4,y4,text', '', `steadyocr synth --out ${this.place}/synthetic --count 500`];
    return [note('info', ['tune.no_datasets', { place: this.place }]), h('pre', { class: 'log' }, lines.join('\n'))];
  }

  /** What the server finds in the chosen folder, before anything starts. */
  async #check() {
    const name = this.dataset.get();
    this.#reportOf = name;
    this.#report = null;
    this.report.replaceChildren(h('p', { class: 'muted', t: 'tune.checking' }));
    this.go.disabled = true;
    let report;
    try {
      // All its files are looked at.
      report = await getJson(`v1/lab/datasets/${encodeURIComponent(name)}/report`, { limitS: 0, signal: this.#watch.signal });
    } catch (error) {
      if (!isAbort(error) && this.#reportOf === name) this.report.replaceChildren(failure(error, () => attempt(() => this.#check())));
      return;
    }
    if (this.#reportOf !== name) return;
    this.#report = report;
    this.#drawReport();
    this.go.disabled = !report.usable;
  }

  #drawReport() {
    if (!this.#report) return;
    const { pictures, errors: bad, problems, left_out: leftOut } = this.#report;
    const remarks = problems.length + leftOut;
    const summary = h('span', {}, t('tune.report', { n: pictures }));
    const verdict = h('small', { class: 'block' }, remarks ? t(bad ? 'tune.errors' : 'tune.remarks', { n: bad || remarks }) : t('tune.clean'));
    summary.append(verdict);
    this.report.replaceChildren(note(bad ? 'bad' : problems.length ? 'warn' : 'info', summary));
    if (problems.length) this.report.append(problemList(problems, remarks));
  }

  async #start() {
    this.problem.replaceChildren();
    const order = { dataset: this.dataset.get(), batch_size: this.batch.get(), epochs: this.epochs.get(), lr: this.rate.get(), base_model: this.model.get(), crop_size: this.crop.get(), crops_per_picture: this.crops.get() };
    this.go.disabled = true;
    try {
      const run = await post('v1/lab/runs', order, { limitS: 0 });
      // Whoever looks at something else meanwhile is not fetched back.
      if (!this.panel.hidden) location.hash = `tune/${run.id}`;
    } catch (error) {
      this.problem.replaceChildren(failure(error));
    } finally {
      this.go.disabled = !this.#report?.usable;
    }
  }

  async #loadRuns(signal, runId) {
    ({ runs: this.#runs } = await getJson('v1/lab/runs', { signal }));
    const chosen = runId || this.#runs[0]?.id;
    this.#drawRuns(chosen);
    if (chosen !== this.#run?.id) this.#forget();
    show(this.blank, !chosen);
    show(this.detail, Boolean(chosen));
    if (!chosen) return;
    const path = `v1/lab/runs/${chosen}`;
    follow({ events: `${path}/events`, signal, refresh: () => this.#refresh(path, signal) });
  }

  #drawRuns(chosen = this.#run?.id) {
    const focused = this.list.contains(document.activeElement);
    show(this.runs, this.#runs.length > 0);
    this.list.replaceChildren(...this.#runs.map((run) => h('li', {},
      h('a', { class: 'card', href: `#tune/${run.id}`, 'aria-current': run.id === chosen ? 'true' : null },
        h('span', { class: 'card-title' }, run.params.dataset, h('span', { data: { run: run.id } }, badge(run.state))),
        h('span', { class: 'muted' }, moment(run.created_at))))));
    // What was opened by keyboard goes on by keyboard.
    if (focused) this.#card()?.focus();
  }

  /** The card of the run that is shown. */
  #card() {
    return this.list.querySelector('[aria-current]');
  }

  async #refresh(path, signal) {
    try {
      const run = await getJson(path, { signal });
      if (signal.aborted) return true;
      keepFocus(this.detail, () => this.#draw(run), this.#card());
      return !OPEN_STATES.includes(run.state) && !isUsing(run);
    } catch (error) {
      if (isAbort(error) || error.waits) throw error;
      if (error.status === 404) this.#forget();
      complain(this.runProblem, error);
      // The run goes on, and so does the look at it.
      if (error.passes) throw error;
      return true;
    }
  }

  #furnishRun() {
    this.heading = h('h2');
    this.state = h('span');
    this.bar = bar('tune.progress');
    this.facts = h('p', { class: 'muted' });
    this.stop = act('stop', 'cancel', () => this.#do('cancel'));
    this.resume = act('play', 'tune.resume', () => this.#do('resume'));
    this.use = act('check', 'tune.use', () => this.#use(), 'primary');
    this.back = act('back', 'tune.back', () => this.#do('back'));
    this.take = act('box', 'tune.export', () => (location.hash = `export/${this.#run.id}`));
    this.runProblem = h('div', { class: 'remarks' });
    this.loss = h('so-chart', { data: { title: 'tune.loss', low: '0' } });
    this.hmean = h('so-chart', { data: { title: 'tune.hmean', low: '0', high: '1' } });
    this.log = h('pre', { class: 'log', role: 'log', tabindex: '0', label: 'tune.log' });
    const head = h('div', { class: 'row wrap' }, h('div', { class: 'titles' }, this.heading, this.state), h('div', { class: 'actions' }, this.stop, this.resume, this.back, this.take, this.use));
    const rest = [h('div', { class: 'charts' }, this.loss, this.hmean), h('h3', { t: 'tune.log' }), this.log];
    this.parts = [head, this.bar, this.facts, ...rest];
    return show(h('section', { class: 'run' }, head, this.bar, this.facts, this.runProblem, ...rest), false);
  }

  /** Show nothing of a run: it is another one, or it is gone. */
  #forget() {
    this.#run = null;
    delete this.panel.dataset.run;
    this.runProblem.replaceChildren();
    for (const part of this.parts) show(part, false);
  }

  #draw(run) {
    this.#run = run;
    this.panel.dataset.run = run.state;
    for (const part of this.parts) show(part, true);
    const open = OPEN_STATES.includes(run.state);
    const { params } = run;
    this.heading.textContent = params.dataset;
    this.state.replaceChildren(badge(run.state));
    this.list.querySelector(`[data-run="${CSS.escape(run.id)}"]`)?.replaceChildren(badge(run.state));
    this.bar.set(run.progress ?? (open ? null : 1));
    const facts = [percent(run.progress ?? 0)];
    if (open && run.eta_s) facts.push(t('batch.left', { time: duration(run.eta_s) }));
    if (run.best_hmean !== null) facts.push(t('tune.best', { value: number(run.best_hmean, 3) }));
    facts.push(t('tune.facts', { batch: params.batch_size, n: params.epochs, lr: number(params.lr, 4) }));
    this.facts.textContent = facts.join(' · ');
    this.runProblem.replaceChildren(...remarks(run));
    show(this.stop, run.state === 'running');
    show(this.resume, run.resumable);
    show(this.back, run.undoable);
    say(this.back.lastChild, ['tune.back', { model: run.use?.before }]);
    for (const button of [this.use, this.take]) show(button, run.usable);
    this.use.disabled = isUsing(run);
    const curve = (name) => run.curve.filter((point) => typeof point[name] === 'number').map((point) => ({ x: point.step, y: point[name] }));
    this.loss.setPoints(curve('loss'));
    this.hmean.setPoints(curve('hmean'));
    const atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 30;
    roll(this.log, run.log);
    if (atEnd) this.log.scrollTop = this.log.scrollHeight;
  }

  async #do(verb) {
    const { signal } = this.#watch;
    await post(`v1/lab/runs/${this.#run.id}/${verb}`);
    // Whoever has gone on to something else is not to be followed.
    if (!signal.aborted) await this.enter(this.#run.id);
  }

  async #use() {
    const worse = worsening(this.#run);
    if (worse && !(await sure('tune.use', ['tune.worse', worse]))) return;
    await this.#do('use');
  }
}

/** The H-mean before training and the best after it, where that is no better; the weights are then those of before. */
function worsening(run) {
  const measured = run.curve.filter((point) => typeof point.hmean === 'number');
  const first = measured.find((point) => point.step === 0)?.hmean;
  const best = Math.max(...measured.filter((point) => point.step > 0).map((point) => point.hmean));
  return best < first && { first: number(first, 3), best: number(best, 3) };
}

/** What there is to say about a run besides its figures: why it ended, how its taking into use goes. */
function remarks(run) {
  const said = [];
  if (run.reason) said.push(note(run.state === 'failed' ? 'bad' : 'info', h('span', {}, run.reason)));
  const worse = run.usable && worsening(run);
  if (worse) said.push(note('warn', ['tune.worse', worse]));
  if (run.use) {
    const { state, model, reason } = run.use;
    const text = h('span', {}, t(`tune.use_${state}`, { model }), reason ? h('small', { class: 'block muted' }, reason) : null);
    said.push(note(state === 'failed' ? 'bad' : 'info', text));
  }
  return said;
}

function problemList(problems, count) {
  const rows = problems.slice(0, SHOWN_PROBLEMS).map((problem) =>
    h('li', { data: { severity: problem.severity } }, h('code', {}, `${problem.file}${problem.line ? `:${problem.line}` : ''}`), ` ${problem.message}`));
  const list = h('details', { class: 'problems' }, h('summary', { t: ['tune.show_problems', { n: count }] }), h('ul', {}, ...rows));
  if (count > rows.length) list.append(h('p', { class: 'muted', t: ['tune.more_problems', { n: count - rows.length }] }));
  return list;
}

/** Let a log say these lines. Those that it says already stay: they may be selected, and are not read out again. */
function roll(log, lines) {
  const said = [...log.children];
  let gone = 0;
  while (said.slice(gone).some((line, at) => line.textContent !== `${lines[at]}\n`)) gone += 1;
  arrange(log, lines.map((line, at) => said[gone + at] ?? h('span', {}, `${line}\n`)));
}
