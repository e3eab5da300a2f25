// Comfort for those who have scripts: keys, suggestions for each term of a search, times of the reader's zone, buttons that
// copy, and parts that follow what they show. Every page works without it.
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

  function button(text, label, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  }

  // What has happened, for those who do not see it.
  const said = document.createElement("p");
  said.className = "hidden";
  said.setAttribute("role", "status");
  document.querySelector("main").append(said);

  // Times: of the reader's zone, or of UTC. The server writes them in UTC.

  const ZONE = "cgk-zone";
  const OWN = new Intl.DateTimeFormat().resolvedOptions().timeZone;
  const isUtc = (zone) => ["UTC", "Etc/UTC", "GMT"].includes(zone);
  const format = (zone) => new Intl.DateTimeFormat("en-GB", {
    timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit",
    second: "2-digit", hourCycle: "h23", timeZoneName: "short",
  });
  const FORMATS = { own: format(OWN || "UTC"), utc: format("UTC") };

  function stored(name) {
    try { return localStorage.getItem(name); } catch { return null; }
  }

  function store(name, value) {
    try { localStorage.setItem(name, value); } catch { /* it counts for this page then */ }
  }

  let shown = stored(ZONE) === "utc" || !OWN || isUtc(OWN) ? "utc" : "own";

  function written(at, pattern, how, hasZone) {
    const part = Object.fromEntries(FORMATS[how].formatToParts(at).map((one) => [one.type, one.value]));
    const letters = {
      Y: part.year, M: part.month, D: part.day, h: part.hour, m: part.minute, s: part.second,
      f: String(at.getUTCMilliseconds()).padStart(3, "0"),
    };
    return pattern.replace(/[YMDhmsf]/g, (letter) => letters[letter]) + (hasZone ? " " + part.timeZoneName : "");
  }

  function showTimes() {
    for (const element of document.querySelectorAll("time[data-form], text[data-form]")) {
      const at = new Date(element.dataset.time || element.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      const pattern = element.dataset.form;
      element.textContent = written(at, pattern, shown, "zone" in element.dataset);
      if (element.matches("time")) {
        element.title = written(at, pattern.includes("f") ? "Y-M-D h:m:s.f" : "Y-M-D h:m:s", "utc", true);
      }
    }
    for (const element of document.querySelectorAll(".zone")) element.textContent = shown === "utc" ? "UTC" : OWN;
  }

  const bar = document.querySelector(".cgk-header");
  if (bar && OWN && !isUtc(OWN)) {
    const name = () => "Times: " + (shown === "utc" ? "UTC" : OWN);
    const toggle = button(name(), "", () => {
      shown = shown === "utc" ? "own" : "utc";
      store(ZONE, shown);
      toggle.textContent = name();
      toggle.title = other();
      showTimes();
    });
    const other = () => "Show times of " + (shown === "utc" ? OWN : "UTC");
    toggle.id = "zone";
    toggle.title = other();
    bar.insertBefore(toggle, bar.querySelector(".cgk-user"));
  }

  // Copying: what is shown, and nothing else. Numbers are copied as they are written.

  async function copy(text, from) {
    const begun = from.textContent;
    try {
      if (navigator.clipboard) await navigator.clipboard.writeText(text);
      else copyAsOfOld(text, from);
      from.textContent = said.textContent = "Copied";
    } catch {
      from.textContent = said.textContent = "Not copied";
    }
    setTimeout(() => { from.textContent = begun; said.textContent = ""; }, 1500);
  }

  // Browsers give pages their clipboard over HTTPS and on this machine alone.
  function copyAsOfOld(text, from) {
    const area = document.createElement("textarea");
    area.value = text;
    from.after(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    from.focus();
    if (!isDone) throw new Error("The browser does not copy.");
  }

  const nestedOf = (item) => item.querySelector(":scope > details > ul");
  const keyOf = (item) => item.querySelector(":scope > .key, :scope > details > summary > .key")?.textContent;

  function jsonOf(item, indent) {
    const nested = nestedOf(item);
    if (!nested) return item.querySelector("code.value").textContent;
    const isList = nested.dataset.kind === "list";
    const lines = Array.from(nested.children, (child) =>
      `${indent}  ${isList ? "" : JSON.stringify(keyOf(child)) + ": "}${jsonOf(child, indent + "  ")}`);
    return `${isList ? "[" : "{"}\n${lines.join(",\n")}\n${indent}${isList ? "]" : "}"}`;
  }

  function valueOf(item) {
    const isText = !nestedOf(item) && item.querySelector("code.value").classList.contains("text");
    const text = jsonOf(item, "");
    return isText ? JSON.parse(text) : text;
  }

  function addCopyButtons() {
    for (const item of document.querySelectorAll(".tree ul > li:not(.more, .copied)")) {
      item.classList.add("copied");
      if (item.querySelector("[data-cut]")) continue;
      const made = button("Copy", "Copy " + keyOf(item), () => copy(valueOf(item), made));
      made.className = "copy";
      item.append(made);
    }
    for (const text of document.querySelectorAll("pre[data-copy]:not(.copied)")) {
      text.classList.add("copied");
      const made = button("Copy as JSON", `Copy the ${text.dataset.copy} as JSON`, () => copy(text.textContent, made));
      made.className = "small";
      made.id = "copy-" + text.dataset.copy;
      text.closest("details").before(made);
    }
  }

  // Following: the server tells that something has changed, and the part is asked for anew. While it cannot tell, the part
  // is asked for now and then.

  const TRY_AGAIN_MS = 60_000;
  const folds = new Map();
  let source = null, timer = null, followed = null, triedAt = 0;

  const livePart = () => document.querySelector("[data-live]");

  function refresh() {
    const part = livePart();
    if (part) htmx.trigger(part, "live");
  }

  // With the mark of what the page shows, so that it is told what has changed since it was made.
  function listen() {
    triedAt = Date.now();
    source = new EventSource(`${followed}&seen=${livePart().dataset.seen}`);
    source.onmessage = refresh;
  }

  function askNowAndThen() {
    if (source.readyState === EventSource.OPEN) return;
    refresh();
    if (livePart() && source.readyState === EventSource.CLOSED && Date.now() - triedAt > TRY_AGAIN_MS) listen();
  }

  function follow() {
    // A page that nobody sees takes no connection: a browser has six of them for a server.
    const part = document.hidden ? null : livePart();
    const wanted = part ? part.dataset.live : null;
    if (wanted === followed) return;
    if (source) source.close();
    clearInterval(timer);
    source = null;
    followed = wanted;
    if (!wanted) return;
    listen();
    timer = setInterval(askNowAndThen, Number(part.dataset.every) * 1000);
  }

  function end(text) {
    const part = livePart();
    if (!part) return;
    part.removeAttribute("data-live");
    const told = document.createElement("p");
    told.className = "problem";
    told.setAttribute("role", "alert");
    told.textContent = text;
    part.before(told);
    follow();
  }

  const hasChanges = (form) => Array.from(form.elements).some((field) =>
    field === document.activeElement || ("defaultValue" in field && field.value !== field.defaultValue));

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.id === "live" && event.target.querySelector("input:checked, input:focus")) event.preventDefault();
  });
  document.addEventListener("htmx:responseError", (event) => {
    if (event.detail.xhr.status === 401) end("You are logged out. What is shown here does not change any more.");
  });
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    if (Array.from(event.target.querySelectorAll("form")).some(hasChanges)) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", () => {
    folds.clear();
    for (const fold of document.querySelectorAll("details[id]")) folds.set(fold.id, fold.open);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const fold of document.querySelectorAll("details[id]")) fold.open = folds.get(fold.id) ?? fold.open;
    dress();
    follow();
  });
  document.addEventListener("visibilitychange", follow);

  function dress() {
    showTimes();
    addCopyButtons();
  }

  dress();
  follow();
})();
