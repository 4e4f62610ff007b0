// The map on a canvas: pixels of one byte, colours, scale bar, regions over it, and the mouse.

const NO_VALUE = [214, 218, 224];
const BAR_SHARE = 0.3;

export class MapView {
  constructor({ field, picture, drawing, colours, ticks }, palettes, told) {
    Object.assign(this, { field, picture, drawing, colours, ticks, palettes, told });
    this.head = null;
    this.regions = [];
    this.corners = [];
    this.tool = "point";
    this.pixelSizeNm = null;
    this.legend = null;
    this.n_drawn = 0;
    new ResizeObserver(() => this.fit()).observe(field);
    drawing.addEventListener("mousemove", (event) => this.moved(event));
    drawing.addEventListener("mouseleave", () => told.hover(null));
    drawing.addEventListener("mousedown", (event) => this.pressed(event));
    drawing.addEventListener("mouseup", (event) => this.released(event));
    drawing.addEventListener("dblclick", () => this.closePolygon());
    window.addEventListener("keydown", (event) => { if (event.key === "Escape") { this.corners = []; this.draw(); } });
  }

  // A picture from the server: head in JSON, then the bytes.
  show(head, pixels) {
    const { rows, columns } = head;
    this.head = head;
    const colours = this.table(head.palette);
    this.picture.width = columns;
    this.picture.height = rows;
    const context = this.picture.getContext("2d");
    const image = context.createImageData(columns, rows);
    const out = new Uint32Array(image.data.buffer);
    for (let k = 0; k < out.length; k++) out[k] = colours[pixels[k]];
    context.putImageData(image, 0, 0);
    this.n_drawn += 1;
    this.fit();
    this.drawColours();
  }

  clear() {
    this.head = null;
    this.picture.width = this.picture.height = 1;
    this.ticks.replaceChildren();
    this.draw();
  }

  // Colour of each byte, as the canvas has its pixels.
  table(name) {
    const list = this.palettes[name] || this.palettes.viridis;
    const one = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
    const found = new Uint32Array(256).fill(one(NO_VALUE));
    for (let k = 1; k < 256; k++) {
      found[k] = one(name === "codes" ? list[(k - 1) % list.length] : list[Math.min(k - 1, list.length - 1)]);
    }
    return found;
  }

  fit() {
    const width = this.field.clientWidth, height = this.field.clientHeight;
    this.drawing.width = width;
    this.drawing.height = height;
    if (this.head) {
      const [rows, columns] = this.head.shape;
      this.zoom = Math.min(width / columns, height / rows);
      this.left = (width - columns * this.zoom) / 2;
      this.top = (height - rows * this.zoom) / 2;
      Object.assign(this.picture.style, {
        left: `${this.left}px`, top: `${this.top}px`,
        width: `${columns * this.zoom}px`, height: `${rows * this.zoom}px`,
      });
    }
    this.draw();
  }

  place(event) {
    if (!this.head) return null;
    const box = this.drawing.getBoundingClientRect();
    const row = (event.clientY - box.top - this.top) / this.zoom;
    const column = (event.clientX - box.left - this.left) / this.zoom;
    return [row, column];
  }

  isInside([row, column]) {
    const [rows, columns] = this.head.shape;
    return row >= 0 && column >= 0 && row < rows && column < columns;
  }

  clamped([row, column]) {
    const [rows, columns] = this.head.shape;
    return [Math.min(Math.max(row, 0), rows - 1e-3), Math.min(Math.max(column, 0), columns - 1e-3)];
  }

  moved(event) {
    const at = this.place(event);
    if (!at) return;
    this.told.hover(this.isInside(at) ? [Math.floor(at[0]), Math.floor(at[1])] : null);
    this.mouse = this.clamped(at);
    if (this.corners.length) this.draw();
  }

  pressed(event) {
    const at = this.place(event);
    if (!at || event.button !== 0 || (!this.isInside(at) && !this.corners.length)) return;
    if (this.tool === "point" || this.tool === "particle") this.told.region(this.tool, [at.map(Math.floor).map((v) => v + 0.5)]);
    else if (this.tool === "rectangle") this.corners = [at];
    else if (event.detail < 2) this.corners.push(this.clamped(at));
    this.draw();
  }

  released(event) {
    if (this.tool !== "rectangle" || !this.corners.length) return;
    const first = this.corners[0], last = this.clamped(this.place(event));
    this.corners = [];
    this.told.region("rectangle", [first, last]);
  }

  closePolygon() {
    if (this.tool !== "polygon") return;
    const corners = this.corners;
    this.corners = [];
    if (corners.length >= 3) this.told.region("polygon", corners);
    else this.draw();
  }

  // Regions, what is being drawn, and the scale bar.
  draw() {
    const context = this.drawing.getContext("2d");
    context.clearRect(0, 0, this.drawing.width, this.drawing.height);
    if (!this.head) return;
    for (const region of this.regions) this.outline(context, region.kind, region.points, region.colour);
    if (this.corners.length) {
      this.outline(context, this.tool, this.mouse ? [...this.corners, this.mouse] : this.corners, "#d6224a");
    }
    this.scaleBar(context);
  }

  outline(context, kind, points, colour) {
    const x = (column) => this.left + column * this.zoom, y = (row) => this.top + row * this.zoom;
    const path = () => {
      context.beginPath();
      if (kind === "point" || kind === "particle") {
        const [row, column] = points[0].map((value) => Math.floor(value) + 0.5);
        context.arc(x(column), y(row), kind === "point" ? 6 : 9, 0, 2 * Math.PI);
        if (kind === "point") {
          context.moveTo(x(column) - 10, y(row)); context.lineTo(x(column) - 3, y(row));
          context.moveTo(x(column) + 3, y(row)); context.lineTo(x(column) + 10, y(row));
        }
      } else if (kind === "rectangle") {
        const [a, b] = [points[0], points[points.length - 1]];
        context.rect(x(a[1]), y(a[0]), (b[1] - a[1]) * this.zoom, (b[0] - a[0]) * this.zoom);
      } else {
        points.forEach(([row, column], k) => (k ? context.lineTo(x(column), y(row)) : context.moveTo(x(column), y(row))));
        context.closePath();
      }
    };
    for (const [width, style] of [[4, "#ffffffcc"], [2, colour]]) {
      context.lineWidth = width;
      context.strokeStyle = style;
      path();
      context.stroke();
    }
  }

  scaleBar(context) {
    const unit = this.pixelSizeNm ? this.pixelSizeNm / 1000 : 1;
    const widest = BAR_SHARE * this.head.shape[1] * unit;
    const power = 10 ** Math.floor(Math.log10(widest));
    const length = [5, 2, 1].map((k) => k * power).find((value) => value <= widest) || power;
    const px = (length / unit) * this.zoom;
    const text = this.pixelSizeNm ? `${+length.toPrecision(3)} µm` : `${+length.toPrecision(3)} pixels`;
    const left = this.left + 12, bottom = this.top + this.head.shape[0] * this.zoom - 12;
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = "#ffffffc8";
    context.fillRect(left - 6, bottom - 22, Math.max(px, context.measureText(text).width) + 12, 28);
    context.fillStyle = "#1d2530";
    context.fillRect(left, bottom - 3, px, 3);
    context.fillText(text, left, bottom - 8);
  }

  drawColours() {
    const { palette, limits } = this.head;
    this.ticks.replaceChildren();
    this.ticks.classList.toggle("legend", !limits);
    this.colours.hidden = !limits;
    if (!limits) {
      for (const [code, word] of Object.entries(this.legend || {})) {
        const line = document.createElement("span"), swatch = document.createElement("i");
        const [r, g, b] = this.palettes.codes[code % this.palettes.codes.length];
        swatch.style.background = `rgb(${r},${g},${b})`;
        line.append(swatch, String(word).toLowerCase().replaceAll("_", " "));
        this.ticks.append(line);
      }
      return;
    }
    const context = this.colours.getContext("2d");
    const image = context.createImageData(1, 255);
    const out = new Uint32Array(image.data.buffer), table = this.table(palette);
    for (let k = 0; k < 255; k++) out[k] = table[255 - k];
    context.putImageData(image, 0, 0);
    const [low, high] = limits;
    const digits = Math.max(0, Math.min(6, 2 - Math.floor(Math.log10((high - low) || 1))));
    for (let k = 0; k <= 4; k++) {
      const tick = document.createElement("span");
      tick.textContent = (low + ((high - low) * k) / 4).toFixed(digits);
      tick.style.bottom = `${k * 25}%`;
      this.ticks.append(tick);
    }
  }
}
