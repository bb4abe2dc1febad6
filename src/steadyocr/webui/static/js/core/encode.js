// A drawn picture as a file. Not on the page itself: there a browser encodes when it has nothing else to do, and waits
// for that as long as four seconds.

/** What is drawn on an OffscreenCanvas as a blob; the canvas is blank afterwards. */
export function encode(canvas, options) {
  const bitmap = canvas.transferToImageBitmap();
  const worker = new Worker(new URL('encoder.js', import.meta.url));
  const blob = new Promise((resolve, reject) => {
    const fail = () => reject(new Error('the picture cannot be encoded'));
    worker.onmessage = ({ data }) => (data ? resolve(data) : fail());
    worker.onerror = worker.onmessageerror = fail;
    worker.postMessage({ bitmap, options }, [bitmap]);
  });
  return blob.finally(() => worker.terminate());
}
