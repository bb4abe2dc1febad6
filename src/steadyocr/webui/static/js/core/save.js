// Taking things away: files, the clipboard, the annotated picture.

import { apiKey, request } from './api.js';
import { topmost } from './dom.js';

const MAX_SIDE = 4096;
const COLOURS = ['#4f46e5', '#0d7a5f'];

/** Hand a blob to the browser's download. */
export function saveBlob(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Download from the server; with a key it has to pass through the page, without one it streams to the disk. */
export async function saveFrom(path, name) {
  if (apiKey.get()) {
    saveBlob(await (await request(path)).blob(), name);
    return;
  }
  const link = document.createElement('a');
  link.href = path;
  link.download = name;
  link.click();
}

/** Copy a text; says whether it did. On plain http from another machine there is no clipboard: the old way remains. */
export async function copy(text) {
  const done = await navigator.clipboard?.writeText(text).then(() => true, () => false);
  if (done) return true;
  const focused = document.activeElement;
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'visually-hidden';
  // Below a modal dialog nothing can be selected.
  topmost().append(area);
  area.select();
  const copied = document.execCommand('copy');
  area.remove();
  focused?.focus({ preventScroll: true });
  return copied;
}

/** The picture with its quads and numbers drawn in, as a PNG blob; at most 4096 pixels on its longer side. */
export async function annotate(image, page) {
  const { width, height } = page.image;
  const scale = Math.min(1, MAX_SIDE / Math.max(width, height));
  const canvas = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale));
  const pen = canvas.getContext('2d');
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  const thick = Math.max(1, Math.max(canvas.width, canvas.height) / 800);
  pen.lineWidth = thick;
  pen.font = `600 ${Math.round(11 * thick)}px sans-serif`;
  pen.textBaseline = 'bottom';
  page.lines.forEach((line, index) => {
    const points = line.quad.map(([x, y]) => [x * scale, y * scale]);
    pen.strokeStyle = pen.fillStyle = COLOURS[index % COLOURS.length];
    pen.beginPath();
    points.forEach(([x, y]) => pen.lineTo(x, y));
    pen.closePath();
    pen.stroke();
    const name = String(line.id + 1);
    const [x, y] = [points[0][0], Math.max(points[0][1], 13 * thick)];
    pen.fillRect(x, y - 13 * thick, pen.measureText(name).width + 6 * thick, 13 * thick);
    pen.fillStyle = '#fff';
    pen.fillText(name, x + 3 * thick, y);
  });
  const { encode } = await import('./encode.js');
  return encode(canvas);
}

/** A file name's stem, harmless on every system. */
export const stem = (name) => name.replace(/\.[a-z]\w*$/i, '').replace(/[\\/:*?"<>|\s]+/g, '_') || 'picture';
