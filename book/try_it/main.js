// The page: a picture comes in, drawn or picked; all networks answer; then, in quiet, they are timed.
"use strict";
(async function (tryIt) {
  const { words } = tryIt;
  const BATCH = 64;
  const byId = (id) => document.getElementById(id);
  const page = byId("try-networks");
  const say = (text, bad = false) => {
    byId("try-status").textContent = text;
    page.dataset.state = bad ? "impossible" : text ? "loading" : "ready";
    byId("try-ladder").dataset.state = page.dataset.state;
  };

  if (tryIt.missing()) return say(tryIt.missing(), true);
  say(words.loading);
  const { networks, ladder: entries, digits, pixels } = tryItData;
  const bytes = tryIt.fromBase64(pixels);
  const size = tryIt.SIDE ** 2;
  digits.forEach((digit, i) => (digit.pixels = bytes.subarray(i * size, (i + 1) * size)));
  const [runs, steps, cards] = [{}, [], {}];
  try {
    await tryIt.start();
    for (const { name, onnx } of networks) runs[name] = await tryIt.open(onnx);
    for (const { onnx } of entries) steps.push(await tryIt.open(onnx));
  } catch (error) {
    return say(words.failed(error.message ?? error), true);
  }

  for (const network of networks) {
    const card = (cards[network.name] = tryIt.card(byId("try-cards"), network.name, words.names[network.name]));
    card.fact("bytes", words.number(network.bytes));
    card.fact("parameters", words.number(network.parameters));
    card.fact("macs", words.number(network.macs));
    card.fact("accuracy", words.percent(network.accuracy, 2));
  }
  const ladder = tryIt.ladder(byId("try-ladder"), entries);

  let current = null; // { pixels, source }: what is being answered
  let waiting = null; // the newest picture, while an older one is in work
  let version = 0; // counts pictures: a measurement of an older one stops

  /** Show the picture and what all networks say to it. Pictures that come faster than answers are skipped. */
  async function answer(picture) {
    version++;
    const idle = waiting === null;
    waiting = picture;
    if (!idle) return;
    while (waiting !== current) {
      current = waiting;
      for (const canvas of [byId("try-seen"), byId("try-seen-again")]) tryIt.show(canvas, current.pixels);
      if (!current.pixels) {
        for (const card of Object.values(cards)) card.clear();
        ladder.fill(null, null);
        byId("try-answer").textContent = words.nothing;
        byId("try-verdict").textContent = "";
        continue;
      }
      const logits = {};
      for (const [name, run] of Object.entries(runs)) logits[name] = await run(current.pixels);
      for (const name in logits) cards[name].fill(tryIt.softmax(logits[name]));
      if (!current.final) continue; // while ink flows, the three bars are enough
      const shares = Object.entries(logits).map(([name, row]) => [name, tryIt.top(tryIt.softmax(row))]);
      byId("try-answer").textContent = words.answers(current.source, Object.fromEntries(shares));
      const rows = [];
      for (const run of steps) rows.push(await run(current.pixels));
      ladder.fill(logits.original, rows);
    }
    waiting = null;
    if (current.pixels && current.final) measure();
  }

  async function measure() {
    if (!current.pixels) return;
    const mine = ++version; // and an older measurement stops
    const stopped = () => version !== mine;
    const verdict = byId("try-verdict");
    verdict.textContent = words.timing;
    const one = await tryIt.time(runs, current.pixels, { stopped });
    const many = one && (await tryIt.time(runs, current.pixels, { stopped, batch: BATCH }));
    if (!many) return; // another picture came: it measures
    for (const name in cards) {
      cards[name].fact("time", words.milliseconds(one[name]), words.spread(one[name]));
      cards[name].fact("batch", words.milliseconds(many[name]), words.spread(many[name]));
    }
    verdict.textContent = words.verdict(one, { ...many, batch: BATCH });
  }

  const unpick = () => document.querySelectorAll("[name=try-digit]:checked").forEach((radio) => (radio.checked = false));
  const drawn = (final) => {
    unpick();
    answer({ pixels: tryIt.toMnist(sheet.ink(), byId("try-paper").width), source: words.drawing, final });
  };
  const sheet = tryIt.paper(byId("try-paper"), { changed: () => drawn(false), ended: () => drawn(true) });
  byId("try-clear").addEventListener("click", () => {
    sheet.clear();
    drawn(true);
  });
  byId("try-measure").addEventListener("click", measure);
  const pick = (digit) => {
    sheet.clear();
    const source = words.picture(digit);
    answer({ pixels: digit.pixels, source: source[0].toUpperCase() + source.slice(1), final: true });
  };
  tryIt.gallery({ first: byId("try-first"), hard: byId("try-hard") }, digits, pick);
  document.querySelector("[name=try-digit]").checked = true;
  say("");
  pick(digits[0]);
})((globalThis.tryIt ??= {}));
