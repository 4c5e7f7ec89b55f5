"use strict";
// The map and its layers, each switched by a checkbox.

const OUTLINES = 11; // from this zoom on outlines are drawn, of the sites in view
const MID = 13; // from this zoom on an outline is more than a blot
const NEAR = 15; // from this zoom on outlines are large enough, so dots go
const CLOSE = 12; // from this zoom on close-ups are finer than the picture of the whole area

const map = L.map("map", {
  attributionControl: false,
  zoomControl: false,
  zoomSnap: 0.25,
  maxZoom: 18,
  zoomAnimation: !calm,
  fadeAnimation: !calm,
  inertia: !calm,
});
const whole = L.latLngBounds(data.corners);
map.fitBounds(whole, { animate: false });
map.setMaxBounds(whole.pad(1.5));
map.setMinZoom(Math.max(1, map.getZoom() - 3));

L.control.zoom({ zoomInTitle: say("zoom_in"), zoomOutTitle: say("zoom_out") }).addTo(map);
L.control.scale({ imperial: false, position: "bottomleft" }).addTo(map);
const credit = L.control.attribution({ prefix: false }).addTo(map);
if (data.credit) credit.addAttribution(data.credit);

const Whole = L.Control.extend({
  options: { position: "topleft" },
  onAdd() {
    const button = make("button", { type: "button", class: "whole", title: say("whole") });
    button.setAttribute("aria-label", say("whole"));
    button.append(make("span", { "aria-hidden": "true" }, "\u2922"));
    L.DomEvent.disableClickPropagation(button);
    button.addEventListener("click", () => map.fitBounds(whole));
    return make("div", { class: "leaflet-bar" }, button);
  },
});
new Whole().addTo(map);

const Where = L.Control.extend({
  options: { position: "bottomleft" },
  onAdd() {
    const box = make("div", { class: "where", "aria-hidden": "true" });
    map.on("mousemove", (event) => {
      box.textContent = `${event.latlng.lat.toFixed(5)}, ${event.latlng.wrap().lng.toFixed(5)}`;
    });
    map.on("mouseout", () => { box.textContent = ""; });
    return box;
  },
});
new Where().addTo(map);

// One pane a layer fixes which lies on top. All that can be clicked below the sites shares one
// canvas: a second one would catch the clicks meant for the first.
const PANES = ["quicklook", "closeups", "classes", "suspicious", "status", "missing"];
PANES.forEach((name, index) => { map.createPane(name).style.zIndex = 210 + 10 * index; });
["ground", "area", "sites", "dots", "chosen"].forEach((name, index) => {
  map.createPane(name).style.zIndex = 410 + 10 * index;
});
const ground = L.canvas({ pane: "ground", padding: 0.3 });
const drawn = Object.fromEntries(["area", "sites", "dots", "chosen"].map(
  (name) => [name, L.svg({ pane: name, padding: 0.5 })]));

const lucent = []; // pictures the slider lets the ground shine through

function picture(name, slides) {
  if (!data.pictures[name]) return null;
  const layer = L.imageOverlay(data.pictures[name], whole, {
    pane: name, alt: "", className: `picture p-${name}`, opacity: slides ? 0.7 : 1,
  });
  if (slides) lucent.push(layer);
  return layer;
}

/** A small table to show beside what was clicked. */
function facts(title, rows) {
  const list = make("dl", { class: "facts" });
  for (const [name, value] of rows) {
    if (value === null || value === undefined) continue;
    list.append(make("div", {}, make("dt", {}, name), make("dd", {}, String(value))));
  }
  return make("div", {}, make("h3", {}, title), list);
}

function cellLayer() {
  const group = L.layerGroup();
  const cells = data.cells;
  cells.id.forEach((id, i) => {
    const colour = data.colours[cells.status[i]];
    L.polygon(unfold(cells.ring[i]), {
      renderer: ground, color: colour, weight: 1, fillColor: colour, fillOpacity: 0.01,
    }).bindPopup(() => facts(say(`status_${cells.status[i]}`), [
      [say("cell"), id],
      [say("score"), figure(cells.score[i], 4)],
      [say("clear"), `${cells.clear[i]} %`],
    ])).addTo(group);
  });
  return group;
}

function tileLayer() {
  const group = L.layerGroup();
  for (const tile of data.tiles) {
    const colour = data.colours[tile.state === "failed" ? "failed" : "unseen"];
    const fill = 0.01 + 0.7 * Math.max(tile.unseen, tile.failed) / 100;
    L.polygon(unfoldAll(tile.rings), {
      renderer: ground, color: "#111", weight: 1.2, fillColor: colour, fillOpacity: fill,
    }).bindPopup(() => facts(say(`tile_${tile.state}`), [
      [say("tile"), tile.id],
      [say("tile_area"), `${figure(tile.area, 1)} ha`],
      [say("clear"), `${figure(tile.clear, 1)} %`],
      [say("unseen"), `${figure(tile.unseen, 1)} %`],
      [say("failed"), `${figure(tile.failed, 1)} %`],
      [say("scenes_read"), tile.items],
      [say("reason"), tile.reason],
    ])).addTo(group);
  }
  return group;
}

/** Keep in a group only what lies in view, from a zoom on; boxes[i] is the place of maker(i). */
function whileInView(group, zoom, boxes, maker) {
  const shown = new Map();
  const refresh = () => {
    if (!map.hasLayer(group)) return;
    const view = map.getBounds();
    boxes.forEach((box, i) => {
      const wanted = box && map.getZoom() >= zoom && view.intersects(box);
      if (wanted && !shown.has(i)) {
        shown.set(i, maker(i).addTo(group));
      } else if (!wanted && shown.has(i)) {
        group.removeLayer(shown.get(i));
        shown.delete(i);
      }
    });
  };
  map.on("moveend", refresh);
  group.on("add", () => setTimeout(refresh));
}

function closeupLayer() {
  const group = L.layerGroup();
  whileInView(group, CLOSE, data.chips.map((chip) => chip && L.latLngBounds(chip.corners)),
    (i) => L.imageOverlay(data.chips[i].uri, data.chips[i].corners, {
      pane: "closeups", alt: "", className: "picture",
    }));
  return group;
}

function baseLayer() {
  const layer = L.tileLayer(data.base.url, {
    maxZoom: 18, maxNativeZoom: 18, attribution: data.base.credit,
    referrerPolicy: "strict-origin-when-cross-origin",
  });
  const problem = document.getElementById("base-problem");
  layer.on("tileerror", () => { problem.hidden = false; });
  layer.on("tileload remove", () => { problem.hidden = true; });
  return layer;
}

function outlineLayer() {
  const rings = unfoldAll(data.area);
  const still = { renderer: drawn.area, interactive: false, fill: false };
  return L.layerGroup([
    L.polygon(rings, { ...still, color: "#fff", weight: 4, opacity: 0.9 }),
    L.polygon(rings, { ...still, color: "#111", weight: 1.6, dashArray: "7 5" }),
  ]);
}

// Made when first switched on, so that a page opens at once.
const makers = {
  quicklook: () => picture("quicklook", false),
  closeups: closeupLayer,
  classes: () => picture("classes", true),
  suspicious: () => picture("suspicious", true),
  cells: () => {
    const group = cellLayer();
    const status = picture("status", true);
    if (status) group.addLayer(status);
    return group;
  },
  missing: () => picture("missing", false),
  area: outlineLayer,
  tiles: tileLayer,
  base: baseLayer,
};
const layers = {};

function layerOf(name) {
  if (!(name in layers)) layers[name] = makers[name]();
  return layers[name];
}

const slider = document.getElementById("opacity");
const slide = () => lucent.forEach((layer) => layer.setOpacity(slider.value / 100));
slider.addEventListener("input", slide);

function connectLayers() {
  for (const box of document.querySelectorAll("input[data-layer]")) {
    const set = () => {
      const layer = layerOf(box.dataset.layer);
      if (!layer) return;
      if (box.checked) layer.addTo(map);
      else layer.remove();
      slide();
    };
    box.addEventListener("change", set);
    if (box.checked) set();
  }
}

const panel = document.getElementById("layers");
panel.open = window.matchMedia("(min-width: 1280px)").matches;
map.on("zoomend", () => {
  map.getContainer().classList.toggle("mid", map.getZoom() >= MID);
  map.getContainer().classList.toggle("near", map.getZoom() >= NEAR);
});
