// The plots, drawn by BokehJS; each has its sources made once, and gets other data.

const P = Bokeh.Plotting;
export const COLOURS = ["#d6224a", "#1f5fa8", "#1f8a4c", "#8e44ad", "#c77700", "#008b8b", "#7a4a00", "#444444"];

async function figure(element, { x, y, height }) {
  const made = new P.Figure({
    sizing_mode: "stretch_width", height, x_axis_label: x, y_axis_label: y, tools: "pan,box_zoom,wheel_zoom,reset",
    toolbar_location: null, min_border_left: 46, min_border_top: 4, min_border_right: 6,
    x_range: new Bokeh.DataRange1d(), y_range: new Bokeh.DataRange1d(), output_backend: "canvas",
  });
  for (const axis of [...made.xaxes, ...made.yaxes]) {
    axis.axis_label_text_font_size = "11px";
    axis.axis_label_text_font_style = "normal";
    axis.major_label_text_font_size = "10px";
  }
  made.background_fill_color = "#ffffff";
  made.element = element;
  return made;
}

const source = (names) => new Bokeh.ColumnDataSource({ data: Object.fromEntries(names.map((name) => [name, []])) });
const field = (name) => ({ field: name });

export class Plots {
  async make() {
    this.band = source(["x", "low", "high"]);
    this.points = source(["x", "y", "c"]);
    this.lines = source(["xs", "ys", "c"]);
    this.residuals = source(["x", "y", "c"]);
    this.zero = source(["x", "low", "high"]);
    this.bars = source(["left", "right", "top"]);
    this.sigma = source(["x", "y"]);
    this.spectrum = await figure(document.getElementById("spectrum"), { x: "", y: "optical depth", height: 196 });
    this.spectrum.varea(field("x"), field("low"), field("high"), { source: this.band, fill_color: COLOURS[0], fill_alpha: 0.15 });
    this.spectrum.multi_line(field("xs"), field("ys"), { source: this.lines, line_color: field("c"), line_width: 1.6 });
    this.spectrum.scatter(field("x"), field("y"), { source: this.points, fill_color: field("c"), line_color: null, size: 5 });
    this.residual = await figure(document.getElementById("residual"), { x: "energy (eV)", y: "residual", height: 84 });
    this.residual.varea(field("x"), field("low"), field("high"), { source: this.zero, fill_color: COLOURS[0], fill_alpha: 0.15 });
    this.residual.scatter(field("x"), field("y"), { source: this.residuals, fill_color: field("c"), line_color: null, size: 4 });
    this.histogram = await figure(document.getElementById("histogram"), { x: "", y: "pixels", height: 128 });
    this.histogram.quad(field("left"), field("right"), 0, field("top"), { source: this.bars, fill_color: "#6f9bd1", line_color: "#ffffff", line_width: 0.5 });
    this.history = await figure(document.getElementById("history"), { x: "frames", y: "median sigma", height: 128 });
    this.history.line(field("x"), field("y"), { source: this.sigma, line_color: "#1f5fa8", line_width: 1.6 });
    this.history.scatter(field("x"), field("y"), { source: this.sigma, fill_color: "#1f5fa8", line_color: null, size: 4 });
    for (const made of [this.spectrum, this.residual, this.histogram, this.history]) await P.show(made, made.element);
  }

  showSpectra(results, curves) {
    const points = { x: [], y: [], c: [] }, lines = { xs: [], ys: [], c: [] }, residuals = { x: [], y: [], c: [] };
    const band = { x: [], low: [], high: [] }, zero = { x: [], low: [], high: [] };
    for (const { energy_ev: energies, optical_depth, curve, noise, colour } of results) {
      if (!energies || !energies.length) continue;
      const depths = optical_depth.map((value) => value ?? NaN);
      points.x.push(...energies); points.y.push(...depths); points.c.push(...energies.map(() => colour));
      if (!curve) continue;
      lines.xs.push(energies); lines.ys.push(curve); lines.c.push(colour);
      residuals.x.push(...energies); residuals.y.push(...depths.map((value, k) => value - curve[k]));
      residuals.c.push(...energies.map(() => colour));
      if (!band.x.length && noise !== null) {
        Object.assign(band, { x: energies, low: curve.map((v) => v - noise), high: curve.map((v) => v + noise) });
        Object.assign(zero, { x: energies, low: energies.map(() => -noise), high: energies.map(() => noise) });
      }
    }
    if (!points.x.length) {
      for (const { x, y, colour } of curves) { lines.xs.push(x); lines.ys.push(y); lines.c.push(colour); }
    }
    this.points.data = points; this.lines.data = lines; this.residuals.data = residuals;
    this.band.data = band; this.zero.data = zero;
  }

  nameSpectrum(label) {
    this.spectrum.yaxes[0].axis_label = label;
  }

  showHistogram(about, label) {
    const edges = about ? about.edges : [], counts = about ? about.counts : [];
    this.bars.data = { left: edges.slice(0, -1), right: edges.slice(1), top: counts };
    this.histogram.xaxes[0].axis_label = label;
  }

  showHistory([frames, sigma], unit) {
    this.sigma.data = { x: frames, y: sigma };
    this.history.yaxes[0].axis_label = unit ? `median sigma (${unit})` : "median sigma";
  }
}
