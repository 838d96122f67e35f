/* What a page does beyond the theme: formulas that fit, boxes that scroll by keyboard, figures that open in full size. */
"use strict";
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];

  // An inline formula that is wider than its paragraph stands on a line of its own, and scrolls there.
  const fitFormulas = () => {
    all("main span.math.wide").forEach((formula) => formula.classList.remove("wide"));
    const wide = all("main span.math").filter((formula) => {
      const block = formula.closest("p, li, dd, dt, td, th, figcaption, h1, h2, h3, h4") || formula.parentElement;
      return !formula.closest("table") && formula.scrollWidth > block.clientWidth + 1;
    });
    wide.forEach((formula) => formula.classList.add("wide"));
  };

  // What scrolls can be reached by keyboard; what does not is no stop.
  const boxes = "span.math.wide, div.math mjx-container, .output.text_html, .indextable-box";
  const markBoxes = () => {
    const states = all(boxes).map((box) => [box, box.scrollWidth > box.clientWidth + 1]);
    states.forEach(([box, scrolls]) => (scrolls ? box.setAttribute("tabindex", "0") : box.removeAttribute("tabindex")));
  };

  // A figure opens in full size, to be moved about in; Escape, a tap or the button closes it.
  const enlargeFigures = () => {
    const dialog = document.createElement("dialog");
    dialog.id = "full-figure";
    dialog.setAttribute("aria-label", "Figure in full size");
    dialog.innerHTML = '<button type="button" class="close">Close</button><div class="view" tabindex="0"></div>';
    document.body.append(dialog);
    const view = dialog.querySelector(".view");
    dialog.addEventListener("click", () => dialog.close());
    all("main .cell_output img, main figure img, main .output img").forEach((image) => {
      if (image.closest("button, a")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "enlarge";
      button.title = "Show in full size";
      image.replaceWith(button);
      button.append(image);
      button.addEventListener("click", () => {
        const copy = image.cloneNode();
        // As wide as the window, and at least as it is drawn for, where its letters are as large as those of the text.
        copy.removeAttribute("width");
        copy.style.width = `${Math.max(image.getAttribute("width") || image.naturalWidth, view.clientWidth)}px`;
        view.replaceChildren(copy);
        dialog.showModal();
      });
    });
  };

  // Proofs are closed at first. An address that leads into a closed box opens it; one button opens or closes all proofs.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const closed = target ? all("details:not([open])").filter((box) => box.contains(target)) : [];
    closed.forEach((box) => (box.open = true));
    if (closed.length) target.scrollIntoView();
  };
  const openAll = () => {
    const proofs = all("details.of-a-statement");
    const title = document.querySelector("article h1");
    if (proofs.length < 2 || !title) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "open-proofs";
    const anyClosed = () => proofs.some((proof) => !proof.open);
    const name = () => (button.textContent = `${anyClosed() ? "Open" : "Close"} all ${proofs.length} proofs`);
    button.addEventListener("click", () => {
      const open = anyClosed();
      proofs.forEach((proof) => (proof.open = open));
    });
    proofs.forEach((proof) => proof.addEventListener("toggle", name));
    title.after(button);
    name();
  };

  // The theme hides the page's contents behind wide elements, and expects that every page has contents, and always.
  const standIn = () => {
    const contents = document.createElement("div");
    contents.className = "bd-sidebar-secondary";
    contents.hidden = true;
    document.body.append(contents);
  };

  const fit = () => {
    fitFormulas();
    markBoxes();
  };
  let waiting = 0;
  const fitSoon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(fit, 100);
  };
  window.addEventListener("resize", fitSoon);
  document.addEventListener("toggle", fitSoon, true);
  window.addEventListener("hashchange", reveal);
  // Paper is light, whatever the screen is, and has all proofs.
  const root = document.documentElement;
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = all("details.of-a-statement:not([open])");
    opened.forEach((proof) => (proof.open = true));
    root.dataset.themeOnScreen = root.dataset.theme;
    root.dataset.theme = "light";
  });
  window.addEventListener("afterprint", () => {
    root.dataset.theme = root.dataset.themeOnScreen || root.dataset.theme;
    opened.forEach((proof) => (proof.open = false));
  });
  window.addEventListener("DOMContentLoaded", () => {
    standIn();
    enlargeFigures();
    openAll();
    reveal();
  });
  window.addEventListener("load", () => {
    const formulas = window.MathJax && window.MathJax.startup;
    (formulas ? formulas.promise : Promise.resolve()).then(fit);
  });
})();
