"use strict";
// The page is whole without this script, which only hides the rows that do not fit, and shows one.
const by = (id) => document.getElementById(id);
const rows = [...by("rows").children];
const choices = [...document.querySelectorAll("select")];
const texts = rows.map((row) =>
  [...row.querySelectorAll(".name, dd")].map((one) => one.textContent).join("\n").toLowerCase());

function fits(row, place, words, wanted) {
  return words.every((word) => texts[place].includes(word)) &&
    wanted.every(([column, value]) => row.dataset["v" + column] === value);
}

function filter() {
  const words = by("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = choices.filter((one) => one.value !== "")
    .map((one) => [one.dataset.column, one.value]);
  let shown = 0;
  rows.forEach((row, place) => {
    row.hidden = !fits(row, place, words, wanted);
    shown += !row.hidden;
  });
  const some = shown === rows.length ? "" : `${shown.toLocaleString("en")} of `;
  const noun = rows.length === 1 ? "row" : "rows";
  by("count").textContent = `${some}${rows.length.toLocaleString("en")} ${noun}`;
  by("nothing").hidden = shown > 0;
}

const dialog = by("row");
let current = null;

function show(row) {
  current = row;
  by("row-name").replaceChildren(row.querySelector(".name").firstElementChild.cloneNode(true));
  const parts = [row.querySelector(".picture"), row.querySelector("dl")];
  by("row-body").replaceChildren(...parts.map((part) => part.cloneNode(true)));
  if (!dialog.open) dialog.showModal();
}

function step(count) {
  const shown = rows.filter((row) => !row.hidden);
  const next = shown[shown.indexOf(current) + count];
  if (next) show(next);
}

by("rows").addEventListener("click", (event) => {
  const row = event.target.closest("li");
  if (row) show(row);
});
dialog.addEventListener("keydown", (event) => {
  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  if (event.key in steps) {
    event.preventDefault();
    step(steps[event.key]);
  }
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
// Where the reader was, not where the page was opened.
dialog.addEventListener("close", () => current && current.querySelector("button").focus());
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "/" && !typing && !dialog.open) {
    event.preventDefault();
    by("words").focus();
  }
});
by("filters").addEventListener("input", filter);
by("filters").addEventListener("submit", (event) => event.preventDefault());
by("filters").addEventListener("reset", () => setTimeout(filter));
by("filters").hidden = false;
filter();
