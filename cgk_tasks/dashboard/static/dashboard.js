// Comfort for those who have scripts: keys, suggestions for each term of a search, and updates that wait while something is
// chosen. Every page works without it.
(function () {
  "use strict";

  const isTyping = (element) => element.matches("input, textarea, select, [contenteditable]");

  function move(by) {
    const rows = Array.from(document.querySelectorAll("a.row"));
    if (rows.length === 0) return;
    const here = rows.findIndex((row) => row.closest("tr").contains(document.activeElement));
    const next = here < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(here + by, 0), rows.length - 1);
    rows[next].focus();
  }

  const KEYS = {
    j: () => move(1),
    k: () => move(-1),
    "/": () => { const box = document.getElementById("q"); if (box) { box.focus(); box.select(); } },
    "?": () => { const help = document.getElementById("search-help"); if (help) help.open = !help.open; },
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    const act = Object.hasOwn(KEYS, event.key) ? KEYS[event.key] : null;
    if (act) { event.preventDefault(); act(); }
  });

  // A browser compares a suggestion with the whole text of the box: so each begins with the terms that are there already.
  const box = document.getElementById("q");
  const list = document.getElementById("suggested");
  if (box && list) {
    const terms = Array.from(list.options, (option) => option.value);
    box.addEventListener("input", () => {
      const before = box.value.slice(0, box.value.search(/\S*$/));
      const begun = box.value.slice(before.length).toLowerCase();
      const fitting = terms.filter((term) => term.toLowerCase().includes(begun) && term !== begun).slice(0, 60);
      list.replaceChildren(...fitting.map((term) => {
        const option = document.createElement("option");
        option.value = before + term;
        return option;
      }));
    });
  }

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.id === "live" && event.target.querySelector("input:checked, input:focus")) event.preventDefault();
  });
})();
