// Where pictures come in: choose, drop, folder, camera. Pasting is the page's business, see main.js.

import { h, show } from '../core/dom.js';
import { dialog, attempt, toast } from './widgets.js';

const ACCEPT = 'image/*,.tif,.tiff,.bmp,.webp';
// A dropped folder is walked this far and no further; a batch takes far fewer.
const MAX_FILES = 100_000;
const PHOTO_TYPE = 'image/jpeg';
const PHOTO_QUALITY = 0.92;

/** A hidden file input behind a button of our own: the native one speaks the browser's language, not the page's. */
function picker(attributes, take) {
  const input = h('input', { type: 'file', hidden: true, ...attributes });
  input.addEventListener('change', () => {
    const files = [...input.files];
    // Else choosing the same file again would be no change.
    input.value = '';
    if (files.length) take(files);
  });
  return input;
}

/**
 * Build a drop zone.
 *
 * Options: `take(files)`; `title` and `hint` keys; `many` allows several files, archives and folders; `extra` more
 * buttons; `target` is the element on which a drop counts.
 */
export function dropZone({ take, title, hint, many = false, extra = [], target }) {
  const files = picker({ accept: many ? `${ACCEPT},.zip` : ACCEPT, multiple: many, 'data-role': 'files' }, take);
  const shot = picker({ accept: 'image/*', capture: 'environment' }, take);
  const buttons = [h('button', { class: 'primary', icon: 'upload', t: many ? 'drop.choose_many' : 'drop.choose', on: { click: () => files.click() } })];
  const inputs = [files];
  if (many) {
    const folder = picker({ webkitdirectory: true, 'data-role': 'folder' }, take);
    inputs.push(folder);
    buttons.push(h('button', { icon: 'folder', t: 'drop.folder', on: { click: () => folder.click() } }));
  } else {
    inputs.push(shot);
    buttons.push(h('button', { icon: 'camera', t: 'drop.camera', on: { click: () => attempt(() => photograph(shot, take)) } }));
  }
  const touch = matchMedia('(pointer: coarse)').matches;
  const zone = h(
    'div',
    { class: 'drop' },
    h('div', { class: 'drop-art', 'aria-hidden': 'true' }, h('span'), h('span'), h('span')),
    h('h2', { t: touch && !many ? 'drop.title_touch' : title }),
    h('p', { class: 'muted', t: touch && !many ? 'drop.hint_touch' : hint }),
    h('div', { class: 'actions' }, ...buttons, ...extra),
    ...inputs,
  );
  acceptDrops(target ?? zone, take, many);
  zone.choose = () => files.click();
  return zone;
}

/** Let files be dropped on an element. */
function acceptDrops(target, take, many) {
  let depth = 0;
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    target.classList.toggle('dropping', depth > 0);
  };
  target.addEventListener('dragenter', (event) => {
    event.preventDefault();
    mark(1);
  });
  target.addEventListener('dragleave', () => mark(-1));
  target.addEventListener('dragover', (event) => event.preventDefault());
  target.addEventListener('drop', async (event) => {
    event.preventDefault();
    depth = 0;
    mark(0);
    const items = [...event.dataTransfer.items].filter((item) => item.kind === 'file');
    const entries = items.map((item) => item.webkitGetAsEntry?.());
    const folders = entries.filter((entry) => entry?.isDirectory).length;
    // A folder comes as a file too, one that cannot be read.
    const loose = items.map((item) => item.getAsFile()).filter((file, at) => file && !entries[at]?.isDirectory);
    const [files, lost] = many && folders ? await walk(entries) : [loose, folders];
    if (lost) toast('drop.left_out', { n: lost });
    if (files.length) take(files);
  });
}

/** The files of dropped folders, all levels, in the order of their names; and how many files and folders refuse. */
async function walk(entries) {
  const files = [];
  let lost = 0;
  const waiting = entries.filter(Boolean);
  for (const entry of waiting) {
    if (files.length >= MAX_FILES) break;
    try {
      if (entry.isFile) {
        const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
        // The browser itself fills this in for chosen folders only (webkitRelativePath, which cannot be set).
        file.path = entry.fullPath.slice(1);
        files.push(file);
      } else waiting.push(...(await children(entry)));
    } catch {
      lost += 1;
    }
  }
  return [files, lost];
}

async function children(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) return found.sort((a, b) => a.name.localeCompare(b.name));
    found.push(...part);
  }
}

/** Take a photograph: a phone's own camera application, or a viewfinder in a dialog. */
async function photograph(fallback, take) {
  if (matchMedia('(pointer: coarse)').matches || !navigator.mediaDevices?.getUserMedia) {
    fallback.click();
    return;
  }
  const view = h('video', { autoplay: true, muted: true, playsInline: true });
  const refused = show(h('p', { class: 'muted', t: 'camera.refused' }), false);
  const shoot = h('button', { class: 'primary', icon: 'camera', t: 'camera.shoot', disabled: true });
  const box = dialog('camera.title', view, refused, h('div', { class: 'actions' }, shoot));
  let stream = null;
  box.addEventListener('close', () => {
    stream?.getTracks().forEach((track) => track.stop());
    box.remove();
  });
  const snap = async () => {
    const canvas = new OffscreenCanvas(view.videoWidth, view.videoHeight);
    canvas.getContext('2d').drawImage(view, 0, 0);
    box.close();
    const { encode } = await import('../core/encode.js');
    const photo = await encode(canvas, { type: PHOTO_TYPE, quality: PHOTO_QUALITY });
    take([new File([photo], 'camera.jpg', { type: PHOTO_TYPE })]);
  };
  shoot.addEventListener('click', () => attempt(snap));
  box.showModal();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment', width: { ideal: 1920 } } });
    if (!box.open) stream.getTracks().forEach((track) => track.stop());
    view.srcObject = stream;
    view.addEventListener('loadeddata', () => (shoot.disabled = false), { once: true });
  } catch {
    show(view, false);
    show(refused, true);
  }
}
