// A drawing becomes what MNIST's pictures are: at most 20 x 20 pixels of ink, its centre of mass in the middle of 28 x 28.
"use strict";
(function (tryIt) {
  const SIDE = 28; // of the picture
  const BOX = 20; // the ink fits this square
  const CENTRE = SIDE / 2; // the pixel on which the centre of mass lands
  const INK = 0.1; // fainter pixels, at the rim of a stroke, do not count for the box

  /** First and last row and column with ink; null for an empty drawing. `ink` has `width` values a row, in [0, 1]. */
  function boundingBox(ink, width) {
    const box = { left: Infinity, right: -1, top: Infinity, bottom: -1 };
    ink.forEach((value, i) => {
      if (value < INK) return;
      const [column, row] = [i % width, Math.floor(i / width)];
      box.left = Math.min(box.left, column);
      box.right = Math.max(box.right, column);
      box.top = Math.min(box.top, row);
      box.bottom = Math.max(box.bottom, row);
    });
    return box.right < 0 ? null : box;
  }

  /** Mean of `values` over `size` equal stretches of [first, last]: a pixel cut by a border counts with its part. */
  function shrink(values, first, last, size) {
    const stretch = (last - first + 1) / size;
    return Array.from({ length: size }, (_, k) => {
      const [from, to] = [first + k * stretch, first + (k + 1) * stretch];
      let sum = 0;
      for (let i = Math.floor(from); i < to; i++) sum += (Math.min(i + 1, to) - Math.max(i, from)) * (values[i] ?? 0);
      return sum / stretch;
    });
  }

  /** The drawing's box, averaged down (or up) so that its longer side has 20 pixels: an array of rows. */
  function fit(ink, width, box) {
    const [wide, high] = [box.right - box.left + 1, box.bottom - box.top + 1];
    const scale = BOX / Math.max(wide, high);
    const columns = Math.max(1, Math.round(wide * scale));
    const rows = Math.max(1, Math.round(high * scale));
    const narrow = []; // full height, final width
    for (let row = box.top; row <= box.bottom; row++) {
      narrow.push(shrink(ink.subarray(row * width, (row + 1) * width), box.left, box.right, columns));
    }
    const upright = Array.from({ length: columns }, (_, c) => shrink(narrow.map((row) => row[c]), 0, high - 1, rows));
    return Array.from({ length: rows }, (_, r) => upright.map((column) => column[r]));
  }

  /** Row and column of the centre of mass of an array of rows. */
  function centreOfMass(rows) {
    let [mass, down, across] = [0, 0, 0];
    rows.forEach((row, r) =>
      row.forEach((value, c) => {
        mass += value;
        down += value * r;
        across += value * c;
      }),
    );
    return [down / mass, across / mass];
  }

  /** 28 * 28 bytes, as in MNIST's files: 0 is paper, 255 is ink; null for an empty drawing. */
  function toMnist(ink, width) {
    const box = boundingBox(ink, width);
    if (!box) return null;
    const small = fit(ink, width, box);
    const [down, across] = centreOfMass(small).map((at) => Math.round(CENTRE - at)); // whole pixels, no second blur
    const picture = new Uint8Array(SIDE * SIDE);
    small.forEach((row, r) =>
      row.forEach((value, c) => {
        const [y, x] = [r + down, c + across];
        if (y >= 0 && y < SIDE && x >= 0 && x < SIDE) picture[y * SIDE + x] = Math.round(255 * value);
      }),
    );
    return picture;
  }

  Object.assign(tryIt, { SIDE, toMnist });
})((globalThis.tryIt ??= {}));
