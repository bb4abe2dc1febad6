// Runs as a worker, for one picture.
onmessage = async ({ data: { bitmap, options } }) => {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext('bitmaprenderer').transferFromImageBitmap(bitmap);
  try {
    postMessage(await canvas.convertToBlob(options));
  } catch (error) {
    // A promise that fails is no event for the page.
    setTimeout(() => {
      throw error;
    });
  }
};
