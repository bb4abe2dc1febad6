// The page: tabs, language, theme, key, banner; each tab's own work is in its module.

import { apiKey, getJson, late, signals } from './core/api.js';
import { h, show } from './core/dom.js';
import { adopt, currentLanguage, say, setLanguage } from './core/i18n.js';
import { icon } from './core/icons.js';
import { keep, recall } from './core/store.js';
import './parts/health.js';
import { attempt, dialog, note, Wait } from './parts/widgets.js';
import { Single } from './tabs/single.js';

const TABS = ['single', 'batch', 'tune', 'export'];
const THEMES = ['auto', 'light', 'dark'];
const panels = {};
// What most visits do not need is loaded when it is.
const makers = {
  single: async (panel) => new Single(panel),
  batch: async (panel) => new (await late(() => import('./tabs/batch.js'))).Batch(panel),
  tune: async (panel) => new (await late(() => import('./tabs/tune.js'))).Tune(panel),
  export: async (panel) => new (await late(() => import('./tabs/export.js'))).Export(panel),
};

const byId = (id) => document.getElementById(id);
const tabButton = (name) => byId(`tab-${name}`);
const panelOf = (name) => byId(`panel-${name}`);

/** Where the address points: [tab, rest]. */
function place() {
  const [tab, ...rest] = location.hash.slice(1).split('/');
  return TABS.includes(tab) ? [tab, rest.join('/')] : ['single', ''];
}

const wait = new Wait();
let opening = null;

/** Show the tab that the address names; when the server cannot fill it now, as soon as it can. */
async function open() {
  opening?.abort();
  opening = new AbortController();
  const { signal } = opening;
  const [name, rest] = place();
  for (const tab of TABS) {
    const chosen = tab === name;
    tabButton(tab).setAttribute('aria-selected', String(chosen));
    tabButton(tab).tabIndex = chosen ? 0 : -1;
    show(panelOf(tab), chosen);
    if (!chosen) panels[tab]?.then((panel) => panel.leave?.(), () => {});
  }
  document.body.dataset.tab = name;
  // The first tab asks for nothing until it has a picture.
  if (name === 'single') return;
  panelOf(name).prepend(wait.element);
  await wait.through(async () => {
    panels[name] ??= makers[name](panelOf(name));
    const panel = await panels[name].catch((error) => {
      delete panels[name];
      throw error;
    });
    if (!signal.aborted) await panel.enter(rest);
  }, signal);
}

/** Close what lies on top: it was about something else. Only the key is asked for anywhere. */
function uncover() {
  for (const box of document.querySelectorAll('dialog:modal:not(#key-dialog)')) box.close();
  document.querySelector(':popover-open')?.hidePopover();
}

function furnishTabs() {
  for (const name of TABS) tabButton(name).addEventListener('click', () => (location.hash = name));
  document.querySelector('.tabs').addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = TABS.at((TABS.indexOf(place()[0]) + step) % TABS.length);
    location.hash = next;
    tabButton(next).focus();
  });
  // Its own address would be that of the first tab.
  document.querySelector('.skip').addEventListener('click', (event) => {
    event.preventDefault();
    byId('main').focus();
  });
  addEventListener('hashchange', () => {
    uncover();
    attempt(open);
  });
}

function furnishTheme() {
  byId('theme-button').addEventListener('click', () => {
    const now = recall('theme', 'auto');
    const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
    keep('theme', next === 'auto' ? null : next);
    if (next === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    say(byId('theme-button'), `theme.${next}`, 'title');
  });
}

function furnishLanguage() {
  const mark = () => (byId('language-name').textContent = currentLanguage() === 'zh' ? 'EN' : '中');
  mark();
  byId('language-button').addEventListener('click', () =>
    attempt(async () => {
      const next = currentLanguage() === 'zh' ? 'en' : 'zh';
      await late(() => setLanguage(next));
      keep('language', next);
      mark();
    }),
  );
}

/** The key field comes up when the server asks for one. It stays in this tab's session and nowhere else. */
function furnishKey() {
  const field = h('input', { type: 'password', id: 'key-field', autocomplete: 'off', autofocus: true, spellcheck: false, required: true });
  const wrong = show(note('bad', 'error.unauthorized'), false);
  const form = h('form', {}, h('p', { class: 'muted', t: 'key.hint' }), h('label', { for: 'key-field', t: 'key.field' }), field, wrong,
    h('div', { class: 'actions' }, h('button', { class: 'primary', type: 'submit', t: 'key.use' })));
  const box = dialog('key.title', form);
  box.id = 'key-dialog';
  let closed = false;
  const ask = (refused) => {
    show(wrong, refused);
    show(byId('key-button'), true);
    if (!closed && !box.open) box.showModal();
  };
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const key = field.value.trim();
    // No key of a server's has other characters, and no request takes them: each would look like a server that is gone.
    show(wrong, !/^[ -~]+$/.test(key));
    if (!wrong.hidden) return;
    apiKey.set(key);
    // A wrong key is refused while the form is there to say so.
    const error = await getJson('v1/info').catch((reason) => reason);
    if (error.status === 401) return;
    box.close();
    signals.dispatchEvent(new CustomEvent('key-given'));
    attempt(open);
  });
  // Once closed it stays so until somebody does something that needs a key.
  box.addEventListener('close', () => (closed = true));
  for (const deed of ['click', 'change', 'drop', 'paste', 'hashchange']) addEventListener(deed, () => (closed = false), true);
  signals.addEventListener('key', () => ask(Boolean(apiKey.get())));
  byId('key-button').addEventListener('click', () => ask(false));
  show(byId('key-button'), Boolean(apiKey.get()));
}

function furnishBanner() {
  // Until now it said that the page had not loaded.
  const banner = show(byId('banner'), false);
  signals.addEventListener('lost', () => {
    say(banner, 'shell.lost');
    show(banner, true);
  });
  signals.addEventListener('found', () => show(banner, false));
}

function furnishHistory() {
  let drawer = null;
  byId('history-button').addEventListener('click', () =>
    attempt(async () => {
      const { History } = await late(() => import('./parts/history.js'));
      (drawer ??= new History()).open();
    }),
  );
}

function furnishPaste() {
  document.addEventListener('paste', async (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    uncover();
    const tab = await panels[place()[0]];
    if (tab?.paste) tab.paste(files);
    else {
      location.hash = 'single';
      (await panels.single).paste(files);
    }
  });
  // A file dropped beside the target must not replace the page.
  for (const name of ['dragover', 'drop']) addEventListener(name, (event) => event.preventDefault());
}

for (const button of document.querySelectorAll('[data-icon]')) button.prepend(icon(button.dataset.icon));
adopt(document.body);
panels.single = makers.single(panelOf('single'));
furnishTabs();
furnishTheme();
furnishLanguage();
furnishKey();
furnishBanner();
furnishHistory();
furnishPaste();
document.documentElement.dataset.ready = 'true';
attempt(open);
