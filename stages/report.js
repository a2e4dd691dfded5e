"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Light or dark, against the system's choice.
  const theme = document.querySelector("#theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // The contents follow the reader.
  const links = all("nav.contents a");
  const sections = links.map((link) => document.querySelector(link.getAttribute("href")));
  const follow = () => {
    const passed = sections.filter((section) => section.getBoundingClientRect().top < innerHeight / 3).length;
    links.forEach((link, index) => {
      if (index === Math.max(passed - 1, 0)) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    });
  };
  addEventListener("scroll", follow, { passive: true });
  follow();

  // On paper everything is unfolded.
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = all("details:not([open])");
    unfolded.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => unfolded.forEach((details) => { details.open = false; }));

  // Values of curves, under the pointer and by the arrow keys.
  for (const chart of all(".chart")) {
    const points = JSON.parse(chart.dataset.values);
    const plot = chart.querySelector(".plot");
    const cursor = Object.assign(document.createElement("div"), { className: "cursor", hidden: true });
    const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
    tip.setAttribute("aria-live", "polite");
    plot.append(cursor, tip);
    plot.tabIndex = 0;
    plot.setAttribute("role", "group");
    plot.setAttribute("aria-label", chart.querySelector(".title").textContent + ": arrow keys read the values");
    let shown = -1;
    const show = (index) => {
      shown = Math.min(Math.max(index, 0), points.length - 1);
      const point = points[shown];
      const lines = point.values.map(([series, name, value]) => {
        const line = document.createElement("div");
        line.className = series;
        line.append(document.createElement("i"), name + " ", Object.assign(document.createElement("b"), { textContent: value }));
        return line;
      });
      tip.replaceChildren(Object.assign(document.createElement("div"), { textContent: point.x }), ...lines);
      cursor.style.left = point.at + "%";
      tip.style.left = point.at > 50 ? "auto" : `calc(${point.at}% + 10px)`;
      tip.style.right = point.at > 50 ? `calc(${100 - point.at}% + 10px)` : "auto";
      cursor.hidden = tip.hidden = false;
    };
    const hide = () => { cursor.hidden = tip.hidden = true; shown = -1; };
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const at = (100 * (event.clientX - box.left)) / box.width;
      const distances = points.map((point) => Math.abs(point.at - at));
      show(distances.indexOf(Math.min(...distances)));
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("focus", () => { if (shown < 0 && plot.matches(":focus-visible")) show(points.length - 1); });
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      show(shown + step);
    });
  }

  // One image, any model: the reader chooses the image, the norm, the training eps and the share of the way.
  for (const explorer of all(".explorer")) {
    const data = JSON.parse(explorer.querySelector("script").textContent);
    const controls = explorer.querySelector(".controls");
    const [eps, share] = ["eps", "share"].map((name) => controls.querySelector(`[name=${name}]`));
    const tile = (name) => explorer.querySelector(`[data-tile=${name}]`);
    const chosen = (group) => controls.querySelector(`input[data-choice=${group}]:checked`).value;
    const place = (picture, x, y) => { picture.style.setProperty("--x", x); picture.style.setProperty("--y", y); };
    const name = (picture, text) => picture.closest(".picture").setAttribute("aria-label", text);
    const update = () => {
      const image = Number(chosen("image"));
      const models = data.models.filter((model) => model.norm === "standard" || model.norm === chosen("norm"));
      eps.max = models.length - 1;
      const model = models[Math.min(eps.value, eps.max)];
      const label = data.classes[image];
      const of = `, ${label}, model: ${model.name}`;
      eps.setAttribute("aria-valuetext", model.name);
      controls.querySelector("[data-eps]").textContent = model.name;
      controls.querySelector("[data-share]").textContent = share.value + " %";
      place(tile("image"), image, 0);
      place(tile("from"), image, 0);
      place(tile("gradient"), image, model.row.gradient);
      place(tile("to"), image, model.row.x_adv_l2);
      tile("to").style.opacity = share.value / 100;
      name(tile("image"), "The image: " + label);
      name(tile("gradient"), "Loss gradient" + of);
      name(tile("to"), `${share.value} % of the way to the l2 example` + of);
      for (const norm of ["l2", "linf"]) {
        if (!tile(norm)) continue;
        place(tile(norm), image, model.row["x_adv_" + norm]);
        const read = model.read[norm][image];
        name(tile(norm), `Large-eps example in ${norm}${of}, which reads ${read}`);
        tile(norm).closest("figure").querySelector("[data-read]").textContent = read;
      }
    };
    controls.addEventListener("input", update);
    controls.hidden = false;
    update();
  }
})();
