// A picture to try: drawn here, so that nothing has to be downloaded.

import { encode } from '../core/encode.js';

const ROWS = [
  ['600 44px', '山间书店', 70, 110],
  ['400 24px', 'Mountain Bookshop · 收据 Receipt', 70, 155],
  ['400 24px', '2026-11-24   18:42   No. 00731', 70, 190],
  ['400 28px', '《长安的荔枝》', 70, 275],
  ['400 28px', '¥ 45.00', 560, 275],
  ['400 28px', 'The Art of Reading', 70, 325],
  ['400 28px', '¥ 68.50', 560, 325],
  ['400 28px', '牛皮纸书签 × 2', 70, 375],
  ['400 28px', '¥ 12.00', 560, 375],
  ['600 34px', '合计 Total', 70, 465],
  ['600 34px', '¥ 125.50', 536, 465],
  ['400 24px', '谢谢惠顾，欢迎再来', 70, 545],
  ['400 24px', 'Thank you, see you again!', 70, 582],
];
const FONT = '"Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif';

/** Draw a receipt in two languages; resolves to a PNG file. */
export async function drawExample() {
  const canvas = new OffscreenCanvas(760, 660);
  const pen = canvas.getContext('2d');
  pen.fillStyle = '#e7e2d8';
  pen.fillRect(0, 0, 760, 660);
  pen.translate(380, 330);
  pen.rotate(-0.015);
  pen.translate(-380, -330);
  pen.shadowColor = 'rgb(60 50 30 / 30%)';
  pen.shadowBlur = 24;
  pen.fillStyle = '#fffdf8';
  pen.fillRect(36, 36, 688, 588);
  pen.shadowBlur = 0;
  pen.strokeStyle = '#b9b2a3';
  pen.setLineDash([6, 6]);
  for (const y of [220, 410, 500]) {
    pen.beginPath();
    pen.moveTo(70, y);
    pen.lineTo(690, y);
    pen.stroke();
  }
  pen.fillStyle = '#2a2620';
  for (const [font, text, x, y] of ROWS) {
    pen.font = `${font} ${FONT}`;
    pen.fillText(text, x, y);
  }
  return new File([await encode(canvas)], 'example.png', { type: 'image/png' });
}
