// A page in a large dialog: rows of a batch and entries of the history open in it.

import { objectUrl } from '../core/api.js';
import { h } from '../core/dom.js';
import './result.js';

// Who asked last. A second click while the first one's page is on its way takes its place; so does leaving.
let asked = null;
addEventListener('hashchange', () => (asked = null));

/** Show a page, once it is loaded, with its picture: from a file at hand, or from the server, where `image` is its path. */
export async function openReader(load, { name, file, image }) {
  const mine = (asked = {});
  const page = await load();
  if (asked !== mine) return;
  const result = h('so-result');
  const close = h('button', { class: 'icon', icon: 'close', label: 'close' });
  const box = h('dialog', { class: 'reader', 'aria-label': name }, h('div', { class: 'stage-head' }, h('h2', { class: 'file-name' }, name), close), result);
  const closed = new AbortController();
  let url;
  close.addEventListener('click', () => box.close());
  box.addEventListener('close', () => {
    closed.abort();
    URL.revokeObjectURL(url);
    box.remove();
  });
  document.body.append(box);
  const { width, height } = page.image;
  // The text is there before the picture is.
  result.viewer.setPicture(null, width, height);
  result.setPage(page, { name });
  result.setFacts(page);
  box.showModal();
  result.viewer.focus();
  url = file ? URL.createObjectURL(file) : await objectUrl(image, closed.signal).catch(() => null);
  // A picture that is gone, or that the browser cannot draw, leaves the text where it stood.
  if ((await result.viewer.setPicture(url, width, height)) === false) result.viewer.showWords();
}
