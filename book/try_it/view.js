// What the reader sees of an answer: ten bars and the likeliest digit.
"use strict";
(function (tryIt) {
  const { words } = tryIt;

  /** A card from the page's template; `fill(shares)` shows ten probabilities, `fact(key, text, title)` a line below. */
  function card(place, name, title) {
    const node = document.getElementById("try-card").content.cloneNode(true).firstElementChild;
    node.dataset.network = name;
    node.querySelector(".try-name").textContent = title;
    const list = node.querySelector(".try-bars");
    const bars = Array.from({ length: 10 }, (_, digit) => {
      const item = document.createElement("li");
      item.innerHTML = `<span class="try-bar" aria-hidden="true"></span><span aria-hidden="true">${digit}</span><span class="try-said"></span>`;
      list.append(item);
      return item;
    });
    place.append(node);

    function fill(shares) {
      const best = tryIt.top(shares);
      node.querySelector(".try-digit").textContent = best.digit;
      node.querySelector(".try-share").textContent = words.percent(best.share);
      bars.forEach((item, digit) => {
        item.dataset.share = shares[digit];
        item.style.setProperty("--share", shares[digit]);
        item.classList.toggle("try-best", digit === best.digit);
        item.lastElementChild.textContent = words.bar(digit, shares[digit]);
      });
    }
    function clear() {
      node.querySelector(".try-digit").textContent = "?";
      node.querySelector(".try-share").textContent = "";
      for (const item of bars) {
        delete item.dataset.share;
        item.style.setProperty("--share", 0);
        item.classList.remove("try-best");
        item.lastElementChild.textContent = "";
      }
    }
    function fact(key, text, more = "") {
      const line = node.querySelector(`[data-fact="${key}"]`);
      line.textContent = text;
      line.title = more;
      line.closest("div").hidden = !text;
    }
    clear();
    return { node, fill, clear, fact };
  }

  /** The row of test images: radio buttons, so that Tab reaches the row and the arrow keys walk along it. */
  function gallery(place, digits, picked) {
    digits.forEach((digit, i) => {
      const label = document.createElement("label");
      label.innerHTML = `<input type="radio" name="try-digit" value="${i}"><canvas width="28" height="28"></canvas>`;
      label.firstChild.setAttribute("aria-label", words.picture(digit));
      label.title = words.picture(digit);
      tryIt.show(label.lastChild, digit.pixels);
      label.firstChild.addEventListener("change", () => picked(digit));
      (place[digit.kind] ?? place.first).append(label);
    });
  }

  Object.assign(tryIt, { card, gallery });
})((globalThis.tryIt ??= {}));
