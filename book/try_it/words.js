// Every text that the scripts of this page write, in one place.
"use strict";
(function (tryIt) {
  const number = (value, digits = 0) =>
    value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const percent = (share, digits = 0) => `${number(100 * share, digits)} %`;
  const answer = (top) => `${top.digit} (${percent(top.share)})`;

  tryIt.words = {
    number,
    percent,
    names: { original: "Original", pruned: "Pruned", quantized: "Quantized" },
    loading: "Unpacking the runtime and opening the networks …",
    noWebAssembly:
      "This browser cannot run the networks: it has no WebAssembly with vector instructions (SIMD), or it is " +
      "switched off. Chrome and Edge from version 91, Firefox from 89 and Safari from 16.4 have it.",
    noGunzip:
      "This browser cannot run the networks: it cannot unpack them (DecompressionStream is missing). Chrome and " +
      "Edge from version 80, Firefox from 113 and Safari from 16.4 can.",
    failed: (error) =>
      `The networks could not be started: ${error}. If this page was opened from the disk, serve the book instead: ` +
      "run “python -m http.server --directory _build/html” in the project's folder and open " +
      "http://localhost:8000/chapters/practice/try-it.html.",
    bar: (digit, share) => `digit ${digit}: ${percent(share, 1)}`,
    milliseconds: (times) => `${number(times.median, 3)} ms`,
    spread: (times) => `${times.rounds} rounds: ${number(times.least, 3)} to ${number(times.most, 3)} ms`,
    nothing: "Draw a digit, or pick an image.",
    picture: (digit) => `test image ${number(digit.index)}, a ${digit.label}`,
    answers: (source, tops) =>
      `${source}: ${Object.entries(tops).map(([name, top]) => `${tryIt.words.names[name]} says ${answer(top)}`).join(", ")}.`,
    drawing: "Your drawing",
    timing: "Measuring …",
    verdict: (one, many) =>
      "On this device the pruned network takes " +
      `${number(one.pruned.ratio, 1)} times as long as the original, the quantized one ` +
      `${number(one.quantized.ratio, 1)} times. A digit in a batch of ${many.batch}: ` +
      `${number(many.pruned.ratio, 1)} and ` +
      `${number(many.quantized.ratio, 1)} times.`,
    rung: (step, entry) => `Step ${step + 1}: ${entry.label}`,
    rungAnswer: (step, entry, top) => `${tryIt.words.rung(step, entry)}, answers ${answer(top)}`,
    rungFacts: (entry) =>
      `${percent(entry.accuracy, 1)} of the test images are right; the file has ${number(entry.bytes)} bytes` +
      (entry.packed
        ? ` (${number(entry.packed)} if packed: ${entry.bits}-bit codes are emulated, each in a byte of its own).`
        : "."),
    margin: (margin, span, same) =>
      `The margin of the original's answer is ${number(margin, 1)}, the span of the error ${number(span, 1)}: ` +
      (margin > span ? "the answer must hold." : `the answer may change, and here it ${same ? "holds" : "does"}.`),
    breaks: (broken, total) =>
      broken.length
        ? `This picture's answer changes at ${broken.length} of ${total} steps, first at step ${broken[0] + 1}.`
        : `No step changes the answer to this picture.`,
  };
})((globalThis.tryIt ??= {}));
