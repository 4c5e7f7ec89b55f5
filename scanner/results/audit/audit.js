"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const cells = data.cells;
  const places = new Map(cells.map((cell, index) => [cell.id, index]));
  const key = `mining-scan-audit:${data.audit}`;
  const answers = ["mine", "not", "unsure"];
  const $ = (id) => document.getElementById(id);
  const say = (name, values = {}) =>
    data.texts[`js.${name}`].replace(/\{(\w+)\}/g, (_, field) => String(values[field]));

  // cell id -> [label, how many labels had been given when this one was]
  let labels = new Map();
  let given = 0;
  let at = 0;
  let kept = true;

  function restore() {
    try {
      const saved = JSON.parse(localStorage.getItem(key) || "[]");
      for (const [id, label, order] of saved) {
        if (places.has(id) && answers.includes(label)) labels.set(id, [label, order]);
      }
    } catch {
      kept = false;
    }
    given = Math.max(0, ...[...labels.values()].map(([, order]) => order));
    at = nextOpen(-1);
  }

  function keep() {
    try {
      localStorage.setItem(key, JSON.stringify([...labels].map(([id, [l, n]]) => [id, l, n])));
    } catch {
      kept = false;
    }
  }

  // the first cell after `from` without a label, else the first of all without, else the last cell
  function nextOpen(from) {
    const open = (index) => !labels.has(cells[index].id);
    const all = cells.map((_, index) => index);
    return all.find((i) => i > from && open(i)) ?? all.find(open) ?? cells.length - 1;
  }

  function answer(label) {
    given += 1;
    labels.set(cells[at].id, [label, given]);
    keep();
    at = nextOpen(at);
    message("");
    show();
  }

  function move(step) {
    at = Math.min(cells.length - 1, Math.max(0, at + step));
    show();
  }

  function toggle(name) {
    const on = $("view").classList.toggle(name);
    $(name).setAttribute("aria-pressed", String(on));
  }

  function message(text) {
    $("message").textContent = text || (kept ? "" : say("not_kept"));
  }

  function show() {
    const cell = cells[at];
    const label = labels.get(cell.id)?.[0];
    if (cell.picture) $("picture").src = cell.picture;
    else $("picture").removeAttribute("src");
    for (const name of answers) $(name).setAttribute("aria-pressed", String(name === label));
    $("place").textContent = say("place", { at: at + 1, count: cells.length });
    $("progress").value = labels.size;
    const counts = Object.fromEntries(answers.map((name) => [name, 0]));
    for (const [name] of labels.values()) counts[name] += 1;
    $("status").textContent = say("status", { ...counts, open: cells.length - labels.size });
    $("done").hidden = labels.size < cells.length;
    about(cell);
  }

  function about(cell) {
    const place = `${cell.lat.toFixed(5)}, ${cell.lon.toFixed(5)}`;
    const days = cell.days;
    const seen = days.length
      ? say("seen", { count: days.length, first: days[0], last: days[days.length - 1] })
      : say("hardly_seen");
    $("about").replaceChildren(`${place} \u00b7 ${seen}`);
    if (!data.maps) return;
    const link = document.createElement("a");
    link.href = `https://www.google.com/maps/@?api=1&map_action=map&basemap=satellite&zoom=16&center=${cell.lat},${cell.lon}`;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    link.textContent = say("map");
    $("about").append(" \u00b7 ", link);
  }

  function csv() {
    const rows = cells
      .filter((cell) => labels.has(cell.id))
      .map((cell) => [cell.id, ...labels.get(cell.id), data.audit].join(","));
    return ["cell_id,label,labelled,audit", ...rows].join("\n") + "\n";
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "labels.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function load(text) {
    const lines = text.replace(/^\ufeff/, "").split(/\r?\n/).filter((line) => line.trim());
    const head = (lines.shift() || "").toLowerCase();
    const comma = head.includes(";") ? ";" : ",";
    const split = (line) => line.split(comma).map((part) => part.trim().replace(/^"|"$/g, ""));
    const names = split(head);
    const [id, label, order, audit] = ["cell_id", "label", "labelled", "audit"].map((name) =>
      names.indexOf(name),
    );
    if (id < 0 || label < 0) return say("load_columns");
    const found = new Map();
    for (const [index, line] of lines.entries()) {
      const row = split(line);
      const told = { row: index + 2, cell: row[id] };
      if (audit >= 0 && row[audit] && row[audit] !== data.audit) return say("load_other", told);
      if (!places.has(row[id])) return say("load_unknown", told);
      if (!row[label]) continue;
      if (!answers.includes(row[label])) return say("load_label", told);
      found.set(row[id], [row[label], Number(row[order]) || index + 1]);
    }
    for (const [cell, value] of found) labels.set(cell, value);
    given = Math.max(0, ...[...labels.values()].map(([, n]) => n));
    keep();
    at = nextOpen(-1);
    show();
    return say("loaded", { count: found.size });
  }

  for (const name of answers) $(name).addEventListener("click", () => answer(name));
  $("back").addEventListener("click", () => move(-1));
  $("forward").addEventListener("click", () => move(1));
  for (const name of ["zoom", "bright", "bare"]) $(name).addEventListener("click", () => toggle(name));
  $("save").addEventListener("click", save);
  $("load").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (file) message(load(await file.text()));
    event.target.value = "";
    event.target.blur();
  });

  const actions = {
    y: () => answer("mine"),
    s: () => answer("mine"),
    n: () => answer("not"),
    "?": () => answer("unsure"),
    u: () => answer("unsure"),
    arrowleft: () => move(-1),
    backspace: () => move(-1),
    arrowright: () => move(1),
    z: () => toggle("zoom"),
    b: () => toggle("bright"),
    f: () => toggle("bare"),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const action = actions[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  });

  restore();
  message("");
  show();
})();
