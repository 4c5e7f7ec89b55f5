"use strict";
// What the page's scripts share. Names and reasons come from outside: text is only ever set as
// text, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);

/** Fill {places} of a text of the page's language. */
function say(key, values) {
  return data.text[key].replace(/\{(\w+)\}/g, (all, name) =>
    values && name in values ? String(values[name]) : all);
}

/** Make an element; children are elements or text. */
function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function makeSvg(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  return node;
}

/** A number with a point, thousands apart by a thin space. */
function figure(value, digits) {
  if (value === null || value === undefined) return "\u2013";
  const [whole, part] = value.toFixed(digits).split(".");
  const apart = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, "\u202f") : whole;
  return part === undefined ? apart : `${apart}.${part}`;
}

/** Steps of a hundred-thousandth of a degree, as shapes.py wrote them, to [lat, lon]. */
function unfold(steps) {
  const points = [];
  let lon = 0;
  let lat = 0;
  for (let i = 0; i < steps.length; i += 2) {
    lon += steps[i];
    lat += steps[i + 1];
    points.push([lat / 1e5, lon / 1e5]);
  }
  return points;
}

const unfoldAll = (polygons) => polygons.map((rings) => rings.map(unfold));

const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
const narrow = window.matchMedia("(max-width: 900px)");
