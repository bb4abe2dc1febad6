// Runs as a worker, for one picture.
onmessage = async ({ data: { bitmap, options } }) => {
  try {
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    canvas.getContext('bitmaprenderer').transferFromImageBitmap(bitmap);
    postMessage(await canvas.convertToBlob(options));
  } catch {
    // A promise that fails is no event for the page.
    postMessage(null);
  }
};
