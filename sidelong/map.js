// Lets a map be enlarged, moved and followed. Nothing is lost where it does not run.
(() => {
  "use strict";
  const followed = (map) => {
    map.classList.add("sl-ready");
    const drawing = map.querySelector(".sl-map-drawing");
    const frame = map.querySelector(".sl-map-frame");
    const said = map.querySelector(".sl-map-said");
    const boxes = [...drawing.querySelectorAll(".sl-box")];
    const links = [...drawing.querySelectorAll("[data-from]")];
    const width = Number(drawing.getAttribute("width"));
    const height = Number(drawing.getAttribute("height"));
    const hint = said ? said.textContent : "";
    let pinned = null;
    let scale = 0;

    const light = (box) => {
      drawing.classList.toggle("sl-dim", box !== null);
      for (const one of drawing.querySelectorAll(".sl-lit")) one.classList.remove("sl-lit");
      for (const one of boxes) one.classList.toggle("sl-pinned", one === pinned);
      if (said) said.textContent = box ? box.getAttribute("aria-label") : hint;
      if (!box) return;
      const own = box.dataset.box;
      box.classList.add("sl-lit");
      for (const link of links) {
        const { from, to } = link.dataset;
        if (from !== own && to !== own) continue;
        link.classList.add("sl-lit");
        boxes[Number(from === own ? to : from)].classList.add("sl-lit");
      }
    };
    const pin = (box) => {
      pinned = pinned === box ? null : box;
      light(pinned);
    };
    const near = (box, key) => {
      const place = (one) => one.querySelector("rect:last-of-type").getBBox();
      const here = place(box);
      const ahead = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
      let best = null;
      let least = Infinity;
      for (const one of boxes) {
        const there = place(one);
        const x = there.x - here.x;
        const y = there.y - here.y;
        const forth = x * ahead[0] + y * ahead[1];
        const aside = Math.abs(x * ahead[1]) + Math.abs(y * ahead[0]);
        if (one !== box && forth > 1 && forth + 2 * aside < least) {
          least = forth + 2 * aside;
          best = one;
        }
      }
      return best;
    };
    boxes.forEach((box, place) => {
      box.setAttribute("tabindex", place === 0 ? "0" : "-1");
      box.addEventListener("mouseenter", () => light(box));
      box.addEventListener("mouseleave", () => light(pinned));
      box.addEventListener("focus", () => {
        for (const one of boxes) one.setAttribute("tabindex", one === box ? "0" : "-1");
        if (box.matches(":focus-visible")) light(box);
      });
      box.addEventListener("blur", () => light(pinned));
      box.addEventListener("click", (event) => {
        if (box !== pinned || !box.hasAttribute("href")) event.preventDefault();
        if (box !== pinned || !box.hasAttribute("href")) pin(box);
      });
      box.addEventListener("keydown", (event) => {
        if (event.key === "Escape") { pinned = null; light(null); return; }
        if (event.key === " ") { event.preventDefault(); pin(box); return; }
        if (!event.key.startsWith("Arrow")) return;
        event.preventDefault();
        const next = near(box, event.key);
        if (next) next.focus();
      });
    });

    const natural = () => Math.min(1, Math.max(0.62, (frame.clientWidth - 2) / width));
    const enlarge = (by) => {
      const before = scale || natural();
      scale = by === 0 ? natural() : Math.min(4, Math.max(0.2, before * by));
      const x = (frame.scrollLeft + frame.clientWidth / 2) / before;
      const y = (frame.scrollTop + frame.clientHeight / 2) / before;
      drawing.setAttribute("width", String(width * scale));
      drawing.setAttribute("height", String(height * scale));
      if (by === 0) { centred(); return; }
      frame.scrollLeft = x * scale - frame.clientWidth / 2;
      frame.scrollTop = y * scale - frame.clientHeight / 2;
    };
    const centred = () => {
      const box = drawing.querySelector(".sl-central") || drawing.querySelector(".sl-acting");
      if (!box) return;
      const at = box.querySelector("rect:last-of-type").getBBox();
      frame.scrollLeft = (at.x + at.width / 2) * (scale || 1) - frame.clientWidth / 2;
      frame.scrollTop = (at.y + at.height / 2) * (scale || 1) - frame.clientHeight / 2;
    };
    const ways = { in: 1.25, out: 0.8, all: 0 };
    for (const button of map.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => enlarge(ways[button.dataset.zoom]));
    }
    frame.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      enlarge(event.deltaY < 0 ? 1.15 : 0.87);
    }, { passive: false });
    let held = null;
    frame.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "mouse" || event.button !== 0 || event.target.closest(".sl-box")) return;
      held = [event.clientX, event.clientY, frame.scrollLeft, frame.scrollTop];
      frame.setPointerCapture(event.pointerId);
    });
    frame.addEventListener("pointermove", (event) => {
      if (!held) return;
      frame.scrollLeft = held[2] - event.clientX + held[0];
      frame.scrollTop = held[3] - event.clientY + held[1];
    });
    for (const end of ["pointerup", "pointercancel"]) {
      frame.addEventListener(end, () => { held = null; });
    }
    enlarge(0);
  };
  // What is far below or folded away is made ready when it comes into sight.
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      if (!entry.target.classList.contains("sl-ready")) followed(entry.target);
    }
  }, { rootMargin: "200px" });
  for (const map of document.querySelectorAll(".sl-map:not(.sl-ready)")) watcher.observe(map);
})();
