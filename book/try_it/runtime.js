// The networks: unpack ONNX Runtime Web, open the ONNX files, run them, time them.
"use strict";
(function (tryIt) {
  const ROUND = 12; // ms that a network runs in one round of a measurement
  // A WebAssembly module that uses one vector instruction: valid only where there are vector instructions.
  const VECTOR = [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
  ];

  /** The text to show where this browser cannot run the networks, or null. */
  function missing() {
    if (typeof WebAssembly !== "object" || !WebAssembly.validate(new Uint8Array(VECTOR))) return tryIt.words.noWebAssembly;
    if (typeof DecompressionStream !== "function") return tryIt.words.noGunzip;
    return null;
  }

  function fromBase64(text) {
    const characters = atob(text);
    const bytes = new Uint8Array(characters.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
    return bytes;
  }

  async function gunzip(text) {
    const stream = new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /** Hand the runtime its two files from memory: a page on a disk could not fetch them. */
  async function start() {
    const module = new Blob([await gunzip(ortFiles.module)], { type: "text/javascript" });
    ort.env.logLevel = "error";
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = await gunzip(ortFiles.wasm);
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(module) };
  }

  let turn = Promise.resolve(); // the runtime does one thing at a time
  const inTurn = (job) => (turn = turn.then(job, job));

  /** Open an ONNX file, given as base64; returns a function: pixels (batch * 784 bytes) -> logits (batch * 10). */
  async function open(file) {
    const session = await inTurn(() => ort.InferenceSession.create(fromBase64(file), { executionProviders: ["wasm"] }));
    const [input, output] = [session.inputNames[0], session.outputNames[0]];
    return (pixels) =>
      inTurn(async () => {
        const shape = [pixels.length / tryIt.SIDE ** 2, 1, tryIt.SIDE, tryIt.SIDE];
        const x = Float32Array.from(pixels, (byte) => byte / 255); // as in training: [0, 1] and nothing else
        const answer = await session.run({ [input]: new ort.Tensor("float32", x, shape) });
        return Array.from(answer[output].data);
      });
  }

  /** Logits to probabilities; the largest is taken off first, so that no power overflows. */
  function softmax(logits) {
    const largest = Math.max(...logits);
    const powers = logits.map((logit) => Math.exp(logit - largest));
    const sum = powers.reduce((total, power) => total + power, 0);
    return powers.map((power) => power / sum);
  }

  /** The likeliest digit and its probability. */
  function top(shares) {
    const share = Math.max(...shares);
    return { digit: shares.indexOf(share), share };
  }

  /**
   * Milliseconds a digit, for each network: median, least and most over `rounds`, and `ratio`, the median of its time
   * divided by the first network's in the same round.
   *
   * A browser's clock ticks every 0.1 ms, in some every 1 ms, so one run cannot be timed: a round repeats it for 12 ms.
   * The networks take turns within a round, so that what slows the device down slows all of them. Null when `stopped()`.
   */
  async function time(networks, pixels, { batch = 1, rounds = 15, stopped = () => false } = {}) {
    const input = new Uint8Array(batch * pixels.length);
    for (let i = 0; i < batch; i++) input.set(pixels, i * pixels.length);
    const times = Object.fromEntries(Object.keys(networks).map((name) => [name, []]));
    for (let round = -1; round < rounds; round++) { // the first round warms up
      for (const [name, run] of Object.entries(networks)) {
        await new Promise((resolve) => setTimeout(resolve)); // the page stays alive between two rounds
        if (stopped()) return null;
        const begin = performance.now();
        let [runs, now] = [0, begin];
        while (now - begin < ROUND) {
          await run(input);
          runs++;
          now = performance.now();
        }
        if (round >= 0) times[name].push((now - begin) / runs / batch);
      }
    }
    const [first] = Object.values(times);
    const sort = (list) => [...list].sort((a, b) => a - b);
    const middle = (list) => sort(list)[(rounds - 1) / 2];
    const summary = (list) => {
      const sorted = sort(list);
      const ratio = middle(list.map((value, round) => value / first[round]));
      return { median: middle(list), least: sorted[0], most: sorted[rounds - 1], ratio, rounds };
    };
    return Object.fromEntries(Object.entries(times).map(([name, list]) => [name, summary(list)]));
  }

  Object.assign(tryIt, { missing, fromBase64, start, open, softmax, top, time });
})((globalThis.tryIt ??= {}));
