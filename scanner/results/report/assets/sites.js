"use strict";
// The sites: dots and outlines on the map, rows of the table, and one site shown closely. Whichever
// is clicked, the others follow.

const list = document.getElementById("list");
const detail = document.getElementById("detail");
const body = document.querySelector("#sites tbody");
const rows = body ? Array.from(body.rows) : [];
const picks = rows.map((row) => row.querySelector(".pick"));
const outlines = data.sites.map((site) => unfoldAll(site.rings));
let order = data.sites.map((_, i) => i);
let current = -1;

const DOT = data.sites.length > 800 ? 3 : data.sites.length > 200 ? 4.5 : 6;

function tipOf(i) {
  const site = data.sites[i];
  return say("tip", { n: site.rank, score: figure(site.score, 2), ha: figure(site.ha, 1) });
}

/** Make what is drawn of a site say what it is and be clicked. */
function speaking(layer, i) {
  layer.bindTooltip(() => make("span", {}, tipOf(i)), { sticky: true });
  return layer.on("click", (event) => {
    L.DomEvent.stop(event);
    choose(i);
  });
}

makers.sites = () => {
  const group = L.layerGroup();
  for (let i = data.sites.length - 1; i >= 0; i -= 1) { // the best lie on top
    const site = data.sites[i];
    speaking(L.circleMarker(site.at, {
      renderer: drawn.dots, className: "dot", radius: DOT + Math.min(3, Math.sqrt(site.ha) / 3),
      color: "#fff", weight: DOT > 3 ? 2 : 1, fillColor: data.colours.mining, fillOpacity: 1,
    }), i).addTo(group);
  }
  whileInView(group, OUTLINES, data.sites.map((site, i) => L.latLngBounds(outlines[i].flat(2))),
    (i) => speaking(L.polygon(outlines[i], {
      renderer: drawn.sites, className: "site", color: data.colours.mining, weight: 2.5,
      fillOpacity: 0.08,
    }), i));
  return group;
};

const halo = L.layerGroup().addTo(map);

/** Show site i in the table, closely, and on the map. */
function choose(i, { zoom = false, focus = false, mark = true } = {}) {
  if (!(i in data.sites)) return;
  const before = Math.max(current, 0); // the first row takes the Tab key until one is chosen
  rows[before].removeAttribute("aria-current");
  picks[before].tabIndex = -1;
  current = i;
  rows[i].setAttribute("aria-current", "true");
  picks[i].tabIndex = 0;
  if (focus) picks[i].focus({ preventScroll: true });
  reveal(rows[i]);
  document.getElementById("said").textContent = tipOf(i);
  showDetail(i);
  const shape = L.polygon(outlines[i]);
  halo.clearLayers();
  const still = { renderer: drawn.chosen, interactive: false, fill: false };
  const line = { ...still, className: "line" };
  halo.addLayer(L.polygon(outlines[i], { ...line, color: "#fff", weight: 5 }));
  halo.addLayer(L.polygon(outlines[i], { ...line, color: "#111", weight: 2 }));
  halo.addLayer(L.circleMarker(data.sites[i].at, {
    ...still, className: "dot", radius: 12, color: "#111", weight: 3,
  }));
  if (zoom) map.fitBounds(shape.getBounds().pad(0.6), { maxZoom: 15.5, animate: !calm });
  if (mark) remember(`#${data.sites[i].id}`);
}

/** Scroll the table's own box, never the page. */
function reveal(row) {
  const head = list.querySelector("thead").offsetHeight;
  const top = row.offsetTop - head;
  if (top < list.scrollTop) list.scrollTop = top;
  const bottom = row.offsetTop + row.offsetHeight - list.clientHeight;
  if (bottom > list.scrollTop) list.scrollTop = bottom;
}

function remember(hash) {
  try {
    history.replaceState(null, "", hash);
  } catch {
    // some browsers forbid it for files; the page works without
  }
}

function showDetail(i) {
  const site = data.sites[i];
  const place = order.indexOf(i);
  const step = (label, to, sign) => {
    const button = make("button", { type: "button", class: "step", "aria-label": say(label) }, sign);
    button.title = say(label);
    button.disabled = !(to in order);
    button.addEventListener("click", () => {
      choose(order[to], { zoom: true });
      detail.querySelector(`[aria-label="${CSS.escape(say(label))}"]`).focus();
    });
    return button;
  };
  const head = make("header", {},
    make("div", {},
      make("h3", {}, say("site", { n: site.rank })),
      make("p", { class: "id" }, site.id)),
    make("div", { class: "steps" },
      step("previous", place - 1, "\u2039"), step("next", place + 1, "\u203a")));
  const zoom = make("button", { type: "button", class: "go" }, say("zoom"));
  zoom.addEventListener("click", () => {
    choose(i, { zoom: true });
    if (narrow.matches) document.getElementById("map").scrollIntoView({ block: "center" });
  });
  detail.replaceChildren(head, make("div", { class: "two" },
    closeup(i), make("div", {}, score(site), size(site), zoom)), particulars(site));
  detail.scrollTop = 0;
}

/** The site's picture with its outline over it. */
function closeup(i) {
  const chip = data.chips[i];
  if (!chip) {
    const why = data.pictures.quicklook ? "no_chip" : "no_pictures";
    return make("figure", { class: "chip none" }, make("p", {}, say(why)));
  }
  const [low, high] = chip.corners.map((corner) => L.CRS.EPSG3857.project(L.latLng(corner)));
  const side = high.x - low.x;
  const path = outlines[i].flat().map((ring) => "M" + ring.map((point) => {
    const { x, y } = L.CRS.EPSG3857.project(L.latLng(point));
    return `${(100 * (x - low.x) / side).toFixed(2)} ${(100 * (high.y - y) / side).toFixed(2)}`;
  }).join("L") + "Z").join("");
  const svg = makeSvg("svg", { viewBox: "0 0 100 100", "aria-hidden": "true" });
  svg.append(makeSvg("path", { class: "casing", d: path }), makeSvg("path", { d: path }));
  const metres = L.latLng(chip.corners[0]).distanceTo([chip.corners[0][0], chip.corners[1][1]]);
  const toggle = make("input", { type: "checkbox", checked: "" });
  toggle.addEventListener("change", () => svg.toggleAttribute("hidden", !toggle.checked));
  return make("figure", { class: "chip" },
    make("div", { class: "frame" },
      make("img", { src: chip.uri, alt: say("chip_alt", { n: data.sites[i].rank }) }), svg),
    make("figcaption", {},
      make("label", {}, toggle, ` ${say("outline")}`),
      make("span", {}, say("wide", { m: figure(Math.round(metres / 10) * 10, 0) }))));
}

function score(site) {
  const svg = makeSvg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(
    makeSvg("rect", { class: "rail", width: 100, height: 8 }),
    makeSvg("rect", { class: "fill", width: 100 * site.score, height: 8 }),
    makeSvg("rect", { class: "mark", x: 100 * data.threshold - 0.4, width: 0.8, height: 8 }));
  return make("div", { class: "score" },
    make("p", {}, make("b", {}, figure(site.score, 2)), ` ${say("score_at", { p: data.prevalence })}`),
    svg,
    make("p", { class: "hint" }, say("score_rare", { score: figure(site.rare, 2) })));
}

function size(site) {
  return make("p", { class: "size" }, make("b", {}, `${figure(site.ha, 2)} ha`),
    ` ${say("size", { bare: figure(site.barren_ha, 2), water: figure(site.water_ha, 2) })}`);
}

function particulars(site) {
  const [lat, lon] = site.at;
  const where = make("span", {}, make("span", { class: "copy" }, `${lat}, ${lon}`),
    " ", make("a", { class: "geo", href: `geo:${lat},${lon}` }, say("open_map")));
  const list = make("dl", { class: "facts" });
  const add = (name, ...value) => list.append(
    make("div", {}, make("dt", {}, name), make("dd", {}, ...value)));
  add(say("where"), where);
  add(say("first"), site.first || "\u2013");
  add(say("last"), site.last || "\u2013");
  add(say("views"), String(site.views));
  if (site.change) {
    const told = site.change;
    add(say("change"), told.label);
    if (told.after || told.by) {
      add(say("first_seen"), say("bracket", { after: told.after || "\u2026", by: told.by || "\u2026" }));
    }
    if (told.growth_ha !== null) add(say("growth"), `${figure(told.growth_ha, 2)} ha`);
    add(say("site_id"), told.site);
  }
  for (const one of site.overlays) {
    const name = `${one.overlay}: ${one.feature}`;
    add(say("inside"), say("inside_of", { name, ha: figure(one.ha, 2), share: figure(one.share, 1) }));
    if (one.presumed) add(say("presumed"), one.presumed);
  }
  add(say("in_area"), `${figure(site.in_ha, 2)} ha`);
  add(say("drawn_from"), say(`outline_${site.outline}`));
  add(say("cells"), String(site.cells));
  add(say("tiles"), site.tiles.join(", "));
  const scenes = make("details", { class: "scenes" },
    make("summary", {}, say("scenes", { n: site.items.length })),
    make("ul", {}, ...site.items.map((item) => make("li", { class: "id" }, data.items[item]))));
  return make("div", {}, list, make("p", { class: "hint" }, say("dates_note")), scenes);
}

/** Sort by a column; again turns it round. */
function sortBy(button) {
  const key = button.dataset.sort;
  const head = button.closest("th");
  const first = button.dataset.first;
  const turned = first === "ascending" ? "descending" : "ascending";
  const way = head.getAttribute("aria-sort") === first ? turned : first;
  for (const one of list.querySelectorAll("th")) one.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", way);
  const sign = way === "ascending" ? 1 : -1;
  const value = (i) => (key === "change" ? (data.sites[i].change || {}).label : data.sites[i][key]);
  const text = (i) => (key === "inside" ? rows[i].querySelector(".k-inside").textContent : value(i));
  order.sort((a, b) => {
    const [left, right] = [text(a) ?? "", text(b) ?? ""];
    return left === right ? a - b : sign * (left < right ? -1 : 1);
  });
  body.append(...order.map((i) => rows[i]));
  list.scrollTop = 0;
  if (current >= 0) showDetail(current);
}

/** Arrows, Home and End walk the rows; the table is one stop of the Tab key. */
function walk(event) {
  const row = event.target.closest("tbody tr");
  if (!row) return;
  const place = order.indexOf(Number(row.dataset.i));
  const to = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: order.length - 1 }[event.key];
  if (to === undefined || !(to in order)) return;
  event.preventDefault();
  choose(order[to], { focus: true });
}

if (rows.length) {
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    choose(Number(row.dataset.i), { zoom: true, focus: true });
    if (narrow.matches) {
      document.querySelector(".mapbox").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
    }
  });
  body.addEventListener("keydown", walk);
  list.querySelector("thead").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) sortBy(button);
  });
}

connectLayers();

function fromAddress() {
  const id = decodeURIComponent(location.hash.slice(1));
  return data.sites.findIndex((site) => site.id === id);
}

if (rows.length) {
  const asked = fromAddress();
  choose(Math.max(asked, 0), { zoom: asked >= 0, mark: false });
  window.addEventListener("hashchange", () => choose(fromAddress(), { zoom: true, mark: false }));
}
document.documentElement.dataset.ready = "yes";
