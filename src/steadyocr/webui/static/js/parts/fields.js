// Form fields with a label, a hint and a range.

import { h, label, show } from '../core/dom.js';
import { note } from './widgets.js';

/** A number with its label; `get()` gives the value, kept to the range and its steps, rounded by `round`. */
export function numberField({ id, name, hint, value, min, max, step = 1, round = Math.round }) {
  const input = h('input', { type: 'number', id, value: String(value), min: String(min), max: String(max), step: String(step), inputmode: 'decimal' });
  const field = wrap(id, name, input, hint);
  field.get = () => {
    const written = Number(input.value);
    const wished = Number.isFinite(written) && input.value !== '' ? written : value;
    const stepped = step === 'any' ? wished : round((wished - min) / step) * step + min;
    const kept = Math.min(max, Math.max(min, stepped));
    input.value = String(kept);
    return kept;
  };
  field.input = input;
  return field;
}

/** A choice; `setOptions` takes [value, text] pairs and keeps what was chosen. */
export function choiceField({ id, name, hint }) {
  const select = h('select', { id });
  const field = wrap(id, name, select, hint);
  field.setOptions = (pairs) => {
    const before = select.value;
    select.replaceChildren(...pairs.map(([value, text]) => h('option', { value }, text)));
    if (pairs.some(([value]) => value === before)) select.value = before;
  };
  field.get = () => select.value;
  field.input = select;
  return field;
}

/** A yes or no. */
export function checkField({ id, name, hint }) {
  const input = h('input', { type: 'checkbox', id });
  const field = h('div', { class: 'field' }, h('label', { class: 'check' }, input, h('span', { t: name })));
  if (hint) {
    field.append(h('small', { class: 'muted', id: `${id}-hint`, t: hint }));
    input.setAttribute('aria-describedby', `${id}-hint`);
  }
  field.get = () => input.checked;
  field.input = input;
  return field;
}

/** Show a tab's bench, or why there is no laboratory here; says which. */
export function openLab({ open, closed }, { available, reason }, title) {
  show(open, available);
  show(closed, !available);
  if (available) return true;
  closed.replaceChildren(h('h2', { t: title }), note('info', h('span', { t: 'lab.missing' }, h('small', { class: 'block muted' }, reason))));
  return false;
}

/** A few exclusive choices side by side; entries are [value, key]. */
export function segmentField({ name, entries, change }) {
  const buttons = entries.map(([value, key]) => h('button', { type: 'button', t: key, data: { value }, on: { click: () => set(value) } }));
  const group = h('div', { class: 'segment', role: 'group' }, ...buttons);
  label(group, name);
  const field = h('div', { class: 'field' }, h('span', { class: 'field-name', t: name }), group);
  let current = entries[0][0];
  function set(value) {
    current = value;
    for (const button of buttons) button.setAttribute('aria-pressed', String(button.dataset.value === value));
    change?.(value);
  }
  set(current);
  field.get = () => current;
  return field;
}

function wrap(id, name, input, hint) {
  const field = h('div', { class: 'field' }, h('label', { for: id, t: name }), input);
  if (hint) {
    field.append(h('small', { class: 'muted', id: `${id}-hint`, t: hint }));
    input.setAttribute('aria-describedby', `${id}-hint`);
  }
  return field;
}
