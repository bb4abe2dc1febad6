// Elements from data. Texts are given as string keys and follow the language; nothing is ever parsed as HTML.

import { say } from './i18n.js';
import { icon } from './icons.js';

const SVG = 'http://www.w3.org/2000/svg';

/**
 * Make an HTML element.
 *
 * Special properties: `t` (key, or [key, values]) sets the text, `label` the accessible name,
 * `placeholder` likewise; `icon` puts an icon in front; `on` maps event names to listeners.
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 't') say(element.appendChild(document.createElement('span')), value);
    else if (name === 'label') label(element, value);
    else if (name === 'placeholder') say(element, value, 'placeholder');
    else if (name === 'icon') element.prepend(icon(value));
    else if (name === 'on') for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === 'data') Object.assign(element.dataset, value);
    else if (name in element && typeof value !== 'string') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Make an SVG element. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Give an element its accessible name, and a button a tooltip as well: on what is larger it would be in the way. */
export function label(element, key) {
  say(element, key, 'aria-label');
  if (element.matches('button')) say(element, key, 'title');
}

/** Make these the children, moving none that stays: it would lose the focus, or the click under way. */
export function arrange(parent, nodes) {
  for (const child of [...parent.children]) if (!nodes.includes(child)) child.remove();
  nodes.forEach((node, at) => node === parent.children[at] || parent.insertBefore(node, parent.children[at] ?? null));
}

const takesFocus = (element) => element?.isConnected && !element.disabled && element.checkVisibility();

/** Draw a part; when what had the focus in it is gone or off after that, the first of the others that can takes it. */
export function keepFocus(part, draw, ...others) {
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  draw();
  if (focused && !takesFocus(focused)) others.find(takesFocus)?.focus({ preventScroll: true });
}

/** Show or hide; returns the element. */
export function show(element, visible) {
  element.hidden = !visible;
  return element;
}

/** A listener's own message to whoever holds the element. */
export function tell(element, name, detail) {
  element.dispatchEvent(new CustomEvent(name, { detail, bubbles: true }));
}

/** Run at most once per frame, with the newest arguments. */
export function eachFrame(work) {
  let waiting = null;
  return (...args) => {
    if (waiting === null) {
      requestAnimationFrame(() => {
        const latest = waiting;
        waiting = null;
        work(...latest);
      });
    }
    waiting = args;
  };
}

/** The dialog on top, or the page: whatever lies below a modal one is neither seen nor heard. */
export const topmost = () => [...document.querySelectorAll('dialog:modal')].at(-1) ?? document.body;

export const calm = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
