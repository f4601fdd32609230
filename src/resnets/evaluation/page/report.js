"use strict";

document.documentElement.classList.add("scripted");

const dialog = document.querySelector("#images");
const toggle = dialog.querySelector("#toggle");
const byCell = new Map();
for (const root of [document, document.querySelector("#others").content]) {
  for (const figure of root.querySelectorAll("figure[data-cell]")) {
    const key = figure.dataset.cell;
    byCell.set(key, [...(byCell.get(key) ?? []), figure]);
  }
}

// A confusion cell opens its images. The dialog keeps the focus inside and gives it back, and Escape closes it.
function open(button) {
  const count = Number(button.dataset.count);
  if (count === 0) return;
  const figures = byCell.get(button.dataset.open) ?? [];
  const unit = dialog.dataset.unit;
  const all = count === 1 ? `1 ${unit.slice(0, -1)}` : `${count} ${unit}`;
  const part = figures.length < count ? `${figures.length} of ${all} shown on this page` : all;
  const order = figures.length < 2 ? "" : button.classList.contains("right") ? ", the lowest probability first" : ", the worst first";
  dialog.querySelector("#images-title").textContent = button.dataset.title;
  dialog.querySelector("#images-count").textContent = part + order;
  dialog.querySelector("#images-cases").replaceChildren(...figures.map((figure) => figure.cloneNode(true)));
  toggle.hidden = !figures.some((figure) => figure.querySelector(".heat"));
  dialog.showModal();
  dialog.scrollTop = 0;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-open]");
  if (button) open(button);
  if (event.target === dialog || event.target.id === "close") dialog.close(); // the backdrop counts as the dialog itself
});

toggle.addEventListener("click", () => {
  const heat = dialog.classList.toggle("heated");
  toggle.setAttribute("aria-pressed", String(heat));
});

// The matrix is one stop of the Tab key; arrow keys move inside it.
const rows = [...document.querySelectorAll(".matrix tbody tr")].map((row) => [...row.querySelectorAll("button")]);
const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
rows.forEach((row, i) =>
  row.forEach((button, j) => {
    button.tabIndex = i + j === 0 ? 0 : -1;
    button.addEventListener("focus", () => {
      for (const other of rows.flat()) other.tabIndex = other === button ? 0 : -1;
    });
    button.addEventListener("keydown", (event) => {
      const [down, right] = moves[event.key] ?? [0, 0];
      const next = rows[i + down]?.[j + right];
      if (!moves[event.key] || !next) return;
      event.preventDefault();
      next.focus();
    });
  }),
);

const filter = document.querySelector("#filter");
filter?.addEventListener("input", () => {
  const wanted = filter.value.trim().toLocaleLowerCase();
  const entries = [...document.querySelectorAll(".classes tbody tr")];
  for (const entry of entries) entry.hidden = !entry.cells[0].textContent.toLocaleLowerCase().includes(wanted);
  const found = entries.filter((entry) => !entry.hidden).length;
  document.querySelector("output[for=filter]").textContent = wanted ? `${found} of ${entries.length}` : "";
});
