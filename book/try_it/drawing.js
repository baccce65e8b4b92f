// The sheet of paper: mouse, finger and pen leave ink on a canvas.
"use strict";
(function (tryIt) {
  const WIDTH = 26; // of the pen, in pixels of a canvas of 280: two to three pixels of the 28, as in MNIST

  /** Let the reader draw on `canvas`; `changed()` is called while ink flows, `ended()` when the pen is lifted. */
  function paper(canvas, { changed, ended }) {
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    let last = null; // where the pen is, while it is down

    const at = (event) => {
      const frame = canvas.getBoundingClientRect();
      return [
        ((event.clientX - frame.left) * canvas.width) / frame.width,
        ((event.clientY - frame.top) * canvas.height) / frame.height,
      ];
    };
    const draw = (to) => {
      pen.lineWidth = WIDTH;
      pen.lineCap = pen.lineJoin = "round";
      pen.strokeStyle = "#fff";
      pen.beginPath();
      pen.moveTo(...last);
      pen.lineTo(to[0] + 0.01, to[1]); // a line of no length would leave no ink: a tap is a dot
      pen.stroke();
      last = to;
    };

    canvas.addEventListener("pointerdown", (event) => {
      if (!event.isPrimary || event.button !== 0) return; // a second finger, the right button
      canvas.setPointerCapture(event.pointerId); // a stroke may leave the sheet and come back
      last = at(event);
      draw(last);
      changed();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last || !event.isPrimary) return;
      const steps = event.getCoalescedEvents?.() ?? []; // what a fast pen did between two frames
      for (const step of steps.length ? steps : [event]) draw(at(step));
      changed();
    });
    const lift = (event) => {
      if (!last || !event.isPrimary) return;
      last = null;
      ended();
    };
    canvas.addEventListener("pointerup", lift);
    canvas.addEventListener("pointercancel", lift);

    return {
      clear: () => pen.clearRect(0, 0, canvas.width, canvas.height),
      /** Ink of every pixel, in [0, 1]. */
      ink() {
        const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
        return Float32Array.from({ length: data.length / 4 }, (_, i) => data[4 * i + 3] / 255);
      },
    };
  }

  /** Show 28 * 28 bytes on a canvas of that size, ink white on black. */
  function show(canvas, pixels) {
    const image = new ImageData(tryIt.SIDE, tryIt.SIDE);
    for (let i = 0; i < tryIt.SIDE ** 2; i++) {
      const value = pixels ? pixels[i] : 0;
      image.data.set([value, value, value, 255], 4 * i);
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  Object.assign(tryIt, { paper, show });
})((globalThis.tryIt ??= {}));
