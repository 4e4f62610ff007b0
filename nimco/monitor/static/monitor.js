// The page: what the server tells over the WebSocket, and what the viewer asks for.

import { MapView } from "./map_view.js";
import { COLOURS, Plots } from "./plots.js";

const $ = (id) => document.getElementById(id);
const HOVER_MS = 40;
const RETRY_MS = 1500;
const NOTICE_MS = 8000;

const state = { run: null, chosen: false, map: "", about: null, frames: null, results: [], regions: [], probe: null, followNew: true };
window.nimco = state;

const palettes = await (await fetch("/colours.json")).json();
const plots = new Plots();
await plots.make();
const view = new MapView(
  { field: $("field"), picture: $("picture"), drawing: $("drawing"), colours: $("colours"), ticks: $("ticks") },
  palettes,
  { hover: hovered, region: probed },
);
state.view = view;
state.plots = plots;

let socket = null;
function say(message) {
  const isOpen = Boolean(socket) && socket.readyState === WebSocket.OPEN;
  if (isOpen) socket.send(JSON.stringify(message));
  return isOpen;
}

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    $("connection").textContent = "connected";
    if (state.run) open(state.run.uid, state.run.name, state.map);
  };
  socket.onmessage = ({ data }) => (typeof data === "string" ? told(JSON.parse(data)) : pictured(data));
  socket.onclose = () => {
    $("connection").textContent = "not connected; trying again";
    setTimeout(async () => {
      // Where the page is served again but knows this browser no longer, it asks for the key.
      const answer = await fetch("/colours.json").catch(() => null);
      if (answer && answer.status === 401) location.reload();
      else connect();
    }, RETRY_MS);
  };
}

function told(message) {
  const takers = { list: showList, about: showAbout, frames: showFrames, regions: showRegions, spectra: showSpectra, value: showValue };
  if (message.type === "notice") notice(message.text);
  else if (takers[message.type]) takers[message.type](message);
}

function pictured(data) {
  const size = new DataView(data).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
  view.legend = state.about && state.about.status_legend;
  view.show(head, new Uint8Array(data, 4 + size));
  state.head = head;
  $("empty").textContent = "";
  if (head.limits && $("range").value !== "fixed") {
    $("low").value = +head.limits[0].toPrecision(7);
    $("high").value = +head.limits[1].toPrecision(7);
  }
  const shown = (state.about && state.about.maps[head.map]) || {};
  plots.showHistogram(head.histogram, labelled(head.map, shown.units));
}

let noticeTimer = 0;
function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { $("notice").hidden = true; }, NOTICE_MS);
}

// Measurements.

function showList({ rows, problem }) {
  $("list-note").textContent = problem || (rows.length ? "" : "There are no measurements on this server yet.");
  $("list").replaceChildren(...rows.map((row) => {
    const item = document.createElement("li"), head = document.createElement("div");
    const name = document.createElement("div"), status = document.createElement("div"), dot = document.createElement("span");
    name.className = "name";
    name.textContent = row.sample || row.title || row.uid.slice(0, 8);
    dot.className = `dot ${row.status}`;
    status.className = "status quiet";
    status.append(dot, `${new Date(row.began_s * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" })} · ${row.status_text}`);
    head.append(name, status);
    item.append(head);
    for (const result of row.results) {
      const button = document.createElement("button");
      button.textContent = result.name.replace("_", " ");
      button.dataset.run = row.uid;
      button.dataset.name = result.name;
      button.onclick = () => { state.chosen = true; open(row.uid, result.name, state.map); };
      item.append(button);
    }
    item.title = `run ${row.uid}`;
    return item;
  }));
  // Until something is chosen the page shows the measurement that runs, or else the last.
  const withMaps = rows.filter((row) => row.results.length);
  const first = withMaps.find((row) => row.status === "running") || withMaps[0];
  if (first && !state.chosen && (!state.run || (state.run.uid !== first.uid && first.status === "running"))) {
    open(first.uid, first.results[0].name, state.map);
  }
  // The next edge of the measurement that is watched.
  const watched = rows.find((row) => state.run && row.uid === state.run.uid);
  if (watched) state.row = watched;
  mark();
}

function mark() {
  for (const button of document.querySelectorAll("#list button")) {
    button.classList.toggle("on", Boolean(state.run) && button.dataset.run === state.run.uid && button.dataset.name === state.run.name.split("@")[0]);
  }
}

function open(uid, name, map) {
  const isOther = !state.run || state.run.uid !== uid || state.run.name !== name;
  state.run = { uid, name };
  if (isOther) {
    Object.assign(state, { about: null, head: null, frames: null, results: [], regions: [], probe: null });
    view.regions = [];
    view.clear();
    $("empty").textContent = "Reading the map";
    $("frames").replaceChildren();
    thumbs.clear();
    plots.showSpectra([], []);
    showTable();
  }
  say({ do: "range", range: wantedRange() });
  say({ do: "open", uid, name, map });
  if (state.probe) say({ do: "probe", region: state.probe });
  mark();
}

// The result.

function labelled(name, unit) {
  const words = { soc: "state of charge", soc_sigma: "sigma of the state of charge", edge_energy_ev: "edge energy", edge_energy_sigma_ev: "sigma of the edge energy", edge_jump: "edge jump", edge_jump_sigma: "sigma of the edge jump", goodness: "misfit" };
  const text = words[name] || name.replaceAll("_", " ");
  return unit ? `${text} (${unit})` : text;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function showAbout({ about, problem, map }) {
  if (problem) notice(problem);
  if (!about) { $("empty").textContent = problem || "No map yet"; return; }
  state.about = about;
  view.pixelSizeNm = about.pixel_size_nm;
  $("title").textContent = `${about.sample || about.plan_name || ""} · ${about.name.replace("_", " ").replace("@", ", version ")} · run ${about.uid.slice(0, 8)}`;
  const select = $("map"), names = Object.keys(about.maps);
  if (select.options.length !== names.length || names.some((name, k) => select.options[k].value !== name)) {
    select.replaceChildren(...names.map((name) => new Option(labelled(name, about.maps[name].units), name)));
  }
  if (map) { select.value = map; state.map = map; }
  if (!names.length) $("empty").textContent = "This result has no maps.";
  const isEnergy = map && about.maps[map].units === "eV" && about.maps[map].role === "value";
  $("range").querySelector('[value="recentred"]').disabled = !isEnergy;
  if (!isEnergy && $("range").value === "recentred") { $("range").value = "map"; ranged(); }
  const { n_frames: done, frames_expected: expected } = about;
  $("progress").firstElementChild.style.width = `${expected ? Math.min(100, (100 * done) / expected) : 0}%`;
  const left = about.time_left_s === null ? "" : `, about ${duration(about.time_left_s)} left`;
  const ended = !about.final ? "running" : about.exit_status === "abort" ? "aborted" : about.exit_status === "fail" ? "failed" : about.partial ? "partial" : "complete";
  const sigma = about.history[1].length ? `, median sigma ${about.history[1].at(-1).toPrecision(2)}${about.sigma_unit ? ` ${about.sigma_unit}` : ""}` : "";
  $("progress-text").textContent = `${ended}: ${done} of ${expected} ${COUNTED[about.technique] || "frames"}${left}${sigma}`;
  showAlarms(about);
  showVersions(about);
  plots.showHistory(about.history, about.sigma_unit);
  drawSpectra();
}

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString();
}

function showAlarms({ alarms, warnings, final }) {
  const standing = alarms.filter((alarm) => alarm.ended_s === null), over = alarms.filter((alarm) => alarm.ended_s !== null);
  const order = ["critical", "warning", "note"];
  standing.sort((one, other) => order.indexOf(one.severity) - order.indexOf(other.severity));
  $("alarms").replaceChildren(...standing.map((alarm) => {
    const line = document.createElement("li"), head = document.createElement("b"), remedy = document.createElement("span");
    line.className = alarm.severity;
    head.textContent = `${alarm.kind}, since ${clock(alarm.began_s)}: `;
    remedy.className = "quiet";
    // Once the scan is over there is nothing to do about it.
    remedy.textContent = final ? "" : ` ${alarm.remedy}`;
    line.append(head, alarm.sentence, remedy);
    return line;
  }));
  // A warning that has become an alarm is told once.
  const told = new Set(standing.map((alarm) => alarm.sentence.replace(/\.+$/, "")));
  $("warnings").replaceChildren(...(warnings || []).filter((text) => !told.has(text.replace(/\.+$/, ""))).map((text) => {
    const line = document.createElement("li");
    line.textContent = text;
    return line;
  }));
  $("over").hidden = !over.length;
  $("over").firstElementChild.textContent = `${over.length} alarm${over.length === 1 ? " is" : "s are"} over`;
  $("over").lastElementChild.replaceChildren(...over.reverse().map((alarm) => {
    const line = document.createElement("li");
    line.textContent = `${alarm.kind}, ${clock(alarm.began_s)} to ${clock(alarm.ended_s)}: ${alarm.sentence}`;
    return line;
  }));
}

// Versions.

function showVersions({ versions, name }) {
  const label = ({ version, current, method, analysed_s: analysed }) =>
    `${version}${current ? " (current)" : ""}${method ? `, ${method}` : ""}${analysed ? `, ${new Date(analysed * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" })}` : ""}`;
  const told = JSON.stringify([versions, name]);
  if ($("version").dataset.told === told) return;  // a list that is open would close
  $("version").dataset.told = told;
  $("version-label").hidden = versions.length < 2;
  $("version").replaceChildren(...versions.map((version) => new Option(label(version), version.name, false, version.name === name)));
}
$("version").onchange = () => { state.chosen = true; open(state.run.uid, $("version").value, state.map); };

// Colour ranges.

function wantedRange() {
  const mode = $("range").value;
  return { mode, low: parseFloat($("low").value), high: parseFloat($("high").value) };
}
function ranged() {
  $("fixed").hidden = $("range").value !== "fixed";
  say({ do: "range", range: wantedRange() });
}
$("range").onchange = ranged;
$("low").onchange = ranged;
$("high").onchange = ranged;
$("map").onchange = () => {
  state.map = $("map").value;
  if ($("range").value === "fixed") { $("range").value = "map"; ranged(); }
  open(state.run.uid, state.run.name, state.map);
};

// Values under the mouse.

let hoverTimer = 0, hoverAt = null;
function hovered(at) {
  hoverAt = at;
  if (!at) { if (!state.pinned) $("readout").innerHTML = "&nbsp;"; return; }
  if (!hoverTimer) hoverTimer = setTimeout(() => { hoverTimer = 0; if (hoverAt) say({ do: "value", row: hoverAt[0], column: hoverAt[1] }); }, HOVER_MS);
}
function showValue({ row, column, values }) {
  const maps = (state.about && state.about.maps) || {};
  const text = Object.entries(values).map(([name, value]) => {
    const unit = (maps[name] || {}).units || "";
    if (name === "status" && state.about.status_legend && value !== null) return `status ${String(state.about.status_legend[value]).toLowerCase().replaceAll("_", " ")}`;
    return `${labelled(name, "")} ${value === null ? "no value" : `${+value.toPrecision(name.startsWith("edge_energy_ev") ? 8 : 4)}${unit ? ` ${unit}` : ""}`}`;
  }).join(" · ");
  $("readout").textContent = `row ${row}, column ${column}: ${text}`;
  state.value = { row, column, values };
}

// Regions and spectra.

for (const button of document.querySelectorAll("[data-tool]")) {
  button.onclick = () => {
    view.tool = button.dataset.tool;
    view.corners = [];
    for (const other of document.querySelectorAll("[data-tool]")) other.classList.toggle("on", other === button);
  };
}

function probed(kind, points) {
  const id = Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  state.probe = { id, kind, points, name: `${kind} ${state.regions.length + 1}` };
  state.clicked_ms = performance.now();
  say({ do: "probe", region: state.probe });
  if (kind === "point") say({ do: "value", row: Math.floor(points[0][0]), column: Math.floor(points[0][1]), all: true });
  showTable();
}

$("keep").onclick = () => {
  if (!state.probe) return;
  if (!say({ do: "keep", region: state.probe })) {
    notice("The page is not connected: the region is not kept yet. Keep it again once it is.");
    return;
  }
  state.probe = null;
  say({ do: "probe", region: null });
  showTable();
};

function showRegions({ regions, kept_here: keptHere, problem }) {
  state.regions = regions;
  $("regions-note").textContent = problem || keptHere;
  showTable();
}

function showSpectra({ results, probe }) {
  state.results = results;
  if (state.clicked_ms && probe && state.probe && probe === state.probe.id) {
    state.spectrum_ms = performance.now() - state.clicked_ms;
    state.clicked_ms = 0;
  }
  drawSpectra();
  showTable();
}

// What a progress counts, where it is no frames.
const COUNTED = { xrf: "lines", stxm: "readings", tomography: "projections" };

function coloured() {
  const all = [...(state.probe ? [state.probe] : []), ...state.regions.filter((region) => !state.probe || region.id !== state.probe.id)];
  const kept = state.regions.map((region) => region.id);
  return all.map((region) => ({ ...region, colour: region === state.probe ? COLOURS[0] : COLOURS[1 + (kept.indexOf(region.id) % (COLOURS.length - 1))] }));
}

function drawSpectra() {
  const found = new Map(state.results.map((result) => [result.id, result]));
  const shown = coloured().map((region) => ({ ...(found.get(region.id) || {}), colour: region.colour }));
  const held = state.about ? state.about.curves : {}, signal = state.about && held[state.about.signal];
  // A result of a point scan is curves alone: those in the units of its signal, each in a colour of its own. Beside
  // maps stands the mean spectrum of their pixels and its fit.
  const isCurves = Boolean(signal) && !Object.keys(state.about.maps).length;
  const curves = Object.entries(held)
    .filter(([name, curve]) => curve.role !== "coordinate" && (isCurves ? curve.role !== "sigma" && curve.units === signal.units : name.startsWith("mean_")))
    .map(([name, curve], k) => ({ name: curve.long_name || name, x: held.energy_ev ? held.energy_ev.values : [], y: curve.values.map((value) => value ?? NaN), colour: isCurves ? COLOURS[(k + 1) % COLOURS.length] : "#5b6674" }));
  plots.showSpectra(shown, curves);
  plots.nameSpectrum(isCurves ? signal.units || "" : "optical depth");
  const binning = state.frames && state.frames.binning > 1 ? `; mean of ${state.frames.binning} × ${state.frames.binning} pixels` : "";
  const first = shown[0] && state.results.find((result) => result.id === coloured()[0].id);
  const text = !coloured().length ? "mean of the map; click or draw a region" : first && first.note ? first.note : "points, fit, ± the noise of a point";
  if (isCurves) {
    $("spectrum-note").replaceChildren(...curves.map(({ name, colour }) => {
      const label = document.createElement("span");
      label.textContent = `― ${name}  `;
      label.style.color = colour;
      return label;
    }));
  } else $("spectrum-note").textContent = `${text}${binning}`;
}

function plusMinus(value, sigma, digits) {
  if (value === null || value === undefined) return "–";
  return sigma === null || sigma === undefined ? value.toFixed(digits) : `${value.toFixed(digits)} ± ${sigma.toFixed(digits)}`;
}

function showTable() {
  const found = new Map(state.results.map((result) => [result.id, result]));
  const lines = coloured();
  view.regions = lines;
  view.draw();
  $("keep").disabled = !state.probe;
  $("csv").hidden = !state.regions.length;
  if (state.run) $("csv").href = `/regions/${state.run.uid}/${state.run.name}.csv`;
  $("regions").tBodies[0].replaceChildren(...lines.map((region) => {
    const result = found.get(region.id) || {}, values = result.values || {}, isProbe = region === lines[0] && Boolean(state.probe);
    const row = document.createElement("tr"), swatch = document.createElement("i"), last = document.createElement("td");
    swatch.style.background = region.colour;
    const cells = [swatch, region.name, result.n_pixels ?? "", plusMinus(values.soc, values.soc_sigma, 3), plusMinus(values.edge_energy_ev, values.edge_energy_sigma_ev, 2)];
    row.append(...cells.map((content) => { const cell = document.createElement("td"); cell.append(content); return cell; }));
    if (result.note) row.title = result.note;
    if (!isProbe) {
      const file = document.createElement("a"), remove = document.createElement("button");
      file.href = `/regions/${state.run.uid}/${state.run.name}/${region.id}.xdi`;
      file.textContent = "XDI";
      remove.textContent = "remove";
      remove.title = "Remove this region for everybody";
      remove.onclick = () => say({ do: "remove", id: region.id });
      last.append(file, remove);
    } else last.textContent = "not kept";
    row.append(last);
    return row;
  }));
}

// Frames.

const thumbs = new Map();
function showFrames(message) {
  state.frames = message;
  const { rows, n_read: read, expected, is_read: isRead, is_full: isFull, binning, problem } = message;
  const lost = rows.filter((row) => row.reason).length;
  const parts = [];
  if (problem) parts.push(problem);
  else if (!isRead) parts.push(`${read} of ${expected || "?"} read`);
  else parts.push(`${read} frames`);
  if (lost) parts.push(`${lost} left out`);
  if (binning > 1) parts.push(`kept as means of ${binning} × ${binning} pixels`);
  if (isFull) parts.push("more frames than planned: the last ones are not kept here");
  $("frames-note").textContent = parts.join("; ");
  $("frames").replaceChildren(...rows.map((row) => {
    const figure = document.createElement("figure");
    if (row.reason) {
      figure.className = "lost";
      figure.textContent = `${row.energy_ev.toFixed(1)} eV left out: ${row.reason}`;
      figure.title = figure.textContent;
      return figure;
    }
    figure.append(thumbnail(row.key), document.createTextNode(row.energy_ev.toFixed(1)));
    figure.title = `${row.energy_ev.toFixed(2)} eV${row.repeat ? `, repeat ${row.repeat}` : ""}`;
    return figure;
  }));
}

function thumbnail(key) {
  if (!thumbs.has(key)) {
    const canvas = document.createElement("canvas");
    thumbs.set(key, canvas);
    fetch(`/thumbnails/${state.run.uid}/${state.run.name}/${key}`).then(async (answer) => {
      if (!answer.ok) { thumbs.delete(key); return; }
      canvas.height = +answer.headers.get("X-Rows");
      canvas.width = +answer.headers.get("X-Columns");
      const bytes = new Uint8Array(await answer.arrayBuffer());
      const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
      bytes.forEach((value, k) => image.data.set([value, value, value, 255], 4 * k));
      context.putImageData(image, 0, 0);
    }).catch(() => thumbs.delete(key));
  }
  return thumbs.get(key);
}

connect();
