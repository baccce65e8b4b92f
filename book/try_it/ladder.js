// The ladder: every step is a network with fewer filters or fewer bits, and all of them answer the same picture.
"use strict";
(function (tryIt) {
  const { words } = tryIt;

  /** Difference of the two largest logits: by how much the first answer wins. */
  function margin(logits) {
    const [first, second] = [...logits].sort((a, b) => b - a);
    return first - second;
  }

  /** Largest minus smallest error: while it is below the margin, the answer cannot change (the page's theorem). */
  function span(logits, exact) {
    const error = logits.map((logit, i) => logit - exact[i]);
    return Math.max(...error) - Math.min(...error);
  }

  /** The slider and its steps. `place` is the element, `entries` what the study wrote, `runs` one network a step. */
  function ladder(place, entries) {
    const find = (id) => place.querySelector(`#${id}`);
    const [slider, label, facts, bound] = ["try-step", "try-step-label", "try-step-facts", "try-bound"].map(find);
    const card = tryIt.card(find("try-step-card"), "step", "");
    const steps = entries.map((entry, i) => {
      const step = document.createElement("div");
      step.className = "try-step";
      step.style.setProperty("--share", entry.accuracy);
      step.title = words.rung(i, entry);
      step.innerHTML = '<span class="try-accuracy"></span><b></b>';
      step.addEventListener("click", () => select(i));
      find("try-steps").append(step);
      return step;
    });
    slider.max = entries.length - 1;
    place.style.setProperty("--steps", entries.length);
    let answers = null; // { exact, logits: one row a step }

    function select(i) {
      slider.value = i;
      const entry = entries[i];
      label.textContent = words.rung(i, entry);
      slider.setAttribute("aria-valuetext", words.rung(i, entry)); // what a screen reader says instead of a number
      steps.forEach((step, k) => step.classList.toggle("try-here", k === i));
      card.node.querySelector(".try-name").textContent = entry.label;
      facts.textContent = words.rungFacts(entry);
      if (!answers) {
        card.clear();
        bound.textContent = "";
        return;
      }
      const { exact, logits } = answers;
      const shares = tryIt.softmax(logits[i]);
      card.fill(shares);
      slider.setAttribute("aria-valuetext", words.rungAnswer(i, entry, tryIt.top(shares)));
      const same = steps[i].dataset.state !== "broken";
      bound.textContent = words.margin(margin(exact), span(logits[i], exact), same);
    }

    /** Show what every step answers; `exact` are the original's logits. */
    function fill(exact, logits) {
      answers = logits && { exact, logits };
      const wanted = answers && tryIt.top(exact).digit;
      const broken = [];
      steps.forEach((step, i) => {
        const digit = answers ? tryIt.top(logits[i]).digit : "";
        const state = !answers ? "" : digit !== wanted ? "broken" : margin(exact) > span(logits[i], exact) ? "sure" : "kept";
        if (state === "broken") broken.push(i);
        step.dataset.state = state;
        step.lastElementChild.textContent = digit;
      });
      find("try-breaks").textContent = answers ? words.breaks(broken, steps.length) : words.nothing;
      select(Number(slider.value));
    }

    slider.addEventListener("input", () => select(Number(slider.value)));
    select(0);
    return { fill };
  }

  Object.assign(tryIt, { ladder });
})((globalThis.tryIt ??= {}));
