// A page in a large dialog: rows of a batch and entries of the history open in it.

import { objectUrl } from '../core/api.js';
import { h } from '../core/dom.js';
import './result.js';

/** Show a page with its picture, from a file at hand or from the server. */
export async function openReader(page, { name, file = null, image = null }) {
  const result = h('so-result');
  const close = h('button', { class: 'icon', icon: 'close', label: 'close' });
  const box = h('dialog', { class: 'reader', 'aria-label': name }, h('div', { class: 'stage-head' }, h('h2', { class: 'file-name' }, name), close), result);
  let url = null;
  close.addEventListener('click', () => box.close());
  box.addEventListener('close', () => {
    if (url) URL.revokeObjectURL(url);
    box.remove();
  });
  document.body.append(box);
  box.showModal();
  // A picture that is gone, or that the browser cannot draw, leaves the text where it stood.
  url = file ? URL.createObjectURL(file) : await objectUrl(image).catch(() => null);
  const drawn = await result.viewer.setPicture(url, page.image.width, page.image.height);
  result.setPage(page, { name });
  result.setFacts(page);
  if (!drawn) result.viewer.showWords();
  result.viewer.focus();
}
