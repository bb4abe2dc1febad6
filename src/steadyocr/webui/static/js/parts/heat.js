// The colours of the heat map.

/** Colour a grey probability map: see-through where there is no text, then blue, violet, red, yellow. */
export async function colourHeat(blob) {
  const bitmap = await createImageBitmap(blob);
  const canvas = document.createElement('canvas');
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const pen = canvas.getContext('2d');
  pen.drawImage(bitmap, 0, 0);
  const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
  const table = heatTable();
  const words = new Uint32Array(pixels.data.buffer);
  for (let at = 0; at < words.length; at += 1) words[at] = table[words[at] & 0xff];
  pen.putImageData(pixels, 0, 0);
  return canvas;
}

function heatTable() {
  const stops = [[0, 59, 130, 246], [0.35, 99, 70, 229], [0.65, 219, 39, 119], [0.85, 249, 115, 22], [1, 253, 224, 71]];
  return Uint32Array.from({ length: 256 }, (_, value) => {
    const share = value / 255;
    const above = Math.max(1, stops.findIndex((stop) => stop[0] >= share));
    const [low, high] = [stops[above - 1], stops[above]];
    const mix = (share - low[0]) / (high[0] - low[0]);
    const [red, green, blue] = [1, 2, 3].map((part) => Math.round(low[part] + (high[part] - low[part]) * mix));
    const alpha = Math.round(230 * Math.min(1, share * 1.4));
    return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
}
