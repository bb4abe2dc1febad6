// Two string files, one function. An element remembers its key, so a change of language reaches it at once.

// Dates follow the reader's own English, where the browser speaks one.
const LOCALES = { en: navigator.language.startsWith('en') ? navigator.language : 'en-GB', zh: 'zh-CN' };
const spoken = new WeakMap();
const listeners = new Set();
// Making one takes a hundred times as long as using it; each language has a few.
const formats = new Map();

function format(Kind, options) {
  const key = `${locale()} ${Kind.name} ${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, new Kind(locale(), options));
  return formats.get(key);
}

let language = window.steadyocr.language;
let strings = await window.steadyocr.strings;

/** The text of a key in the present language; `{name}` is filled in, `{n}` chooses between one and other. */
export function t(key, values = {}) {
  let text = strings[key];
  if (text === undefined) return key;
  if (typeof text === 'object') text = text[format(Intl.PluralRules).select(values.n)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return typeof value === 'number' ? format(Intl.NumberFormat).format(value) : (value ?? whole);
  });
}

export const locale = () => LOCALES[language];
export const currentLanguage = () => language;

/**
 * Set an element's text, or one attribute, from a key, [key, values] or a function that makes it; it follows the
 * language from now on.
 */
export function say(element, what, attribute = 'text') {
  const kept = spoken.get(element) ?? {};
  kept[attribute] = Array.isArray(what) ? what : [what];
  spoken.set(element, kept);
  element.toggleAttribute('data-said', true);
  write(element, attribute, kept[attribute]);
}

function write(element, attribute, [key, values]) {
  const text = typeof key === 'function' ? key() : t(key, values);
  if (attribute === 'text') element.textContent = text;
  else element.setAttribute(attribute, text);
}

/** Register what the page's own markup says: `data-t` for text, `data-t-label` for names. */
export function adopt(root) {
  for (const element of root.querySelectorAll('[data-t]')) say(element, element.dataset.t);
  for (const element of root.querySelectorAll('[data-t-label]')) {
    say(element, element.dataset.tLabel, 'aria-label');
    if (element.matches('button')) say(element, element.dataset.tLabel, 'title');
  }
}

/** Change the language of the whole page. */
export async function setLanguage(wanted) {
  const answer = await fetch(new URL(`../../i18n/${wanted}.json`, import.meta.url));
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  strings = await answer.json();
  language = wanted;
  document.documentElement.lang = locale();
  for (const element of document.querySelectorAll('[data-said]')) {
    for (const [attribute, what] of Object.entries(spoken.get(element) ?? {})) write(element, attribute, what);
  }
  for (const listener of listeners) listener();
}

/** Be told of a change of language, to draw again what holds numbers or dates. */
export const onLanguage = (listener) => listeners.add(listener);

export const percent = (share) => format(Intl.NumberFormat, { style: 'percent' }).format(share);

export const number = (value, digits = 0) =>
  format(Intl.NumberFormat, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);

/** Bytes for people. */
export function bytes(count) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let step = 0;
  let value = count;
  while (value >= 1000 && step < units.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${number(value, step && value < 10 ? 1 : 0)} ${units[step]}`;
}

/** What an error's code means, with its limits as people write them; null where the server's own words say more. */
export function sentenceOf(code, details = {}) {
  const size = details.max_bytes ?? details.limit_bytes;
  const limit = size ? bytes(size) : details.limit;
  const text = t(`error.${code === 'payload_too_large' && details.limit ? 'too_many' : code}`, { ...details, limit });
  return text.startsWith('error.') || text.includes('{') ? null : text;
}

/** Seconds for people: 0.42 s, 3 min 5 s, 2 h 10 min. */
export function duration(seconds) {
  if (seconds < 10) return t('unit.seconds', { n: Number(seconds.toFixed(seconds < 1 ? 2 : 1)) });
  if (seconds < 90) return t('unit.seconds', { n: Math.round(seconds) });
  const minutes = Math.round(seconds / 60);
  if (seconds < 600) return t('unit.minutes_seconds', { m: Math.floor(seconds / 60), n: Math.floor(seconds % 60) });
  if (minutes < 90) return t('unit.minutes', { n: minutes });
  if (minutes > 2880) return t('unit.days', { n: Math.round(minutes / 1440) });
  return t('unit.hours', { h: Math.floor(minutes / 60), n: minutes % 60 });
}

/** A moment (seconds since 1970), short. */
export function moment(at) {
  const date = new Date(at * 1000);
  const today = date.toDateString() === new Date().toDateString();
  const day = today ? {} : { month: 'short', day: 'numeric' };
  return date.toLocaleString(locale(), { ...day, hour: '2-digit', minute: '2-digit' });
}
