// The page works without this script; what needs it is hidden until here.
"use strict";

const $ = (id) => document.getElementById(id);
const checks = [...document.querySelectorAll("details.check")];
const groups = [...document.querySelectorAll("section.group")];
const chips = [...document.querySelectorAll(".chip")];

const chosen = () => new Set(chips.filter((c) => c.ariaPressed === "true").map((c) => c.dataset.result));

function matches(check, words, group, level, results) {
  const { text, group: its, level: weight, result } = check.dataset;
  return words.every((word) => text.includes(word)) && (!group || its === group)
    && (!level || weight === level) && (!results.size || results.has(result));
}

function filter() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const results = chosen();
  let shown = 0;
  for (const check of checks) {
    check.hidden = !matches(check, words, $("group").value, $("level").value, results);
    shown += !check.hidden;
  }
  for (const group of groups) group.hidden = !group.querySelector("details.check:not([hidden])");
  $("shown").textContent = `${shown} of ${checks.length} checks shown`;
  $("nothing").hidden = shown > 0;
}

function set(group, results) {
  $("search").value = "";
  $("level").value = "";
  $("group").value = group;
  for (const chip of chips) chip.ariaPressed = String(results.includes(chip.dataset.result));
  filter();
}

// A link to a check opens it, whatever the filters are.
function follow() {
  const target = $(decodeURIComponent(location.hash.slice(1)));
  if (!target?.matches("details.check")) return;
  if (target.hidden) set("", []);
  target.open = true;
  target.scrollIntoView();
}

async function copy(button) {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {  // not allowed here: the reader presses the keys
    getSelection().selectAllChildren(code);
    button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
    return;
  }
  button.textContent = "Copied";
}

function remembered(value) {
  try {  // a page opened from a file may have no storage
    if (value) localStorage.setItem("bollard-theme", value);
    return localStorage.getItem("bollard-theme");
  } catch {
    return null;
  }
}

function theme(value) {
  document.documentElement.dataset.theme = value;
  $("theme").ariaPressed = String(value === "dark");
}

$("filters").hidden = false;
$("filters").addEventListener("submit", (event) => event.preventDefault());
for (const field of ["search", "group", "level"]) $(field).addEventListener("input", filter);
for (const chip of chips) {
  chip.addEventListener("click", () => {
    chip.ariaPressed = String(chip.ariaPressed !== "true");
    filter();
  });
}
$("reset").addEventListener("click", () => set("", []));
$("expand").addEventListener("click", () => {
  const shown = checks.filter((check) => !check.hidden);
  const open = !shown.every((check) => check.open);
  for (const check of shown) check.open = open;
});
for (const link of document.querySelectorAll(".matrix a")) {
  link.addEventListener("click", () => set(link.dataset.group, link.dataset.result ? [link.dataset.result] : []));
}
for (const button of document.querySelectorAll(".copy")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}
$("theme").hidden = false;
$("theme").addEventListener("click", () => {
  const next = $("theme").ariaPressed === "true" ? "light" : "dark";
  theme(next);
  remembered(next);
});
theme(remembered() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));

// On paper what needs attention is told in full.
let opened = [];
addEventListener("beforeprint", () => {
  const wanted = new Set(["fail", "error", "known-fail"]);
  opened = checks.filter((check) => !check.open && wanted.has(check.dataset.result));
  for (const check of opened) check.open = true;
});
addEventListener("afterprint", () => {
  for (const check of opened) check.open = false;
});
addEventListener("hashchange", follow);
for (const link of document.querySelectorAll('a[href^="#check-"]')) link.addEventListener("click", () => setTimeout(follow));
filter();
follow();
