// Curves of a training run: the losses, and whatever else was measured at each step. The numbers come from a JSON address
// and are asked for again, only what is new, when an event says so.
import { call } from "./api.js";

const SERIES = ["train", "heldout"];
const WAIT_MS = 800;
const TABLE_ROWS = 200;

/** A colour of the stylesheet as the canvas wants it: `light-dark()` is resolved by a real element. */
export function colour(host, name) {
  const probe = document.createElement("span");
  probe.hidden = true;
  probe.style.color = `var(${name})`;
  host.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/** Exponential moving average, corrected for its start; weight 0.9 remembers about ten steps. */
export function smooth(values, weight = 0.9) {
  let mean = 0;
  let total = 0;
  return values.map((value) => {
    if (value == null) return value;
    mean = mean * weight + value * (1 - weight);
    total = total * weight + (1 - weight);
    return mean / total;
  });
}

/** [[step, loss]…] of each series → uPlot's columns over all steps; a step without a value is null. */
export function columns(points, names = SERIES) {
  const steps = [...new Set(names.flatMap((name) => points[name].map(([step]) => step)))].sort((a, b) => a - b);
  const place = new Map(steps.map((step, index) => [step, index]));
  return [
    steps,
    ...names.map((name) => {
      const values = Array(steps.length).fill(null);
      for (const [step, loss] of points[name]) values[place.get(step)] = loss;
      return values;
    }),
  ];
}

const plain = (value) => String(+value.toPrecision(4));
const bytes = (value) => (value >= 1e9 ? `${plain(value / 1e9)} GB` : `${plain(value / 1e6)} MB`);
const percent = (value) => `${plain(value)} %`;

/** What else is measured: the JSON's name → how a value is written. */
const OTHERS = {
  learning_rate: (value) => value.toExponential(2),
  gradient_norm: plain,
  throughput: (value) => Math.round(value).toLocaleString(),
  memory_bytes: bytes,
  gpu_memory_bytes: bytes,
  cpu_percent: percent,
  gpu_utilization: percent,
  reward_margin: plain,
  reward_accuracy: (value) => percent(value * 100),
};

class LossChart {
  constructor(figure) {
    this.figure = figure;
    this.plotBox = figure.querySelector(".chart-plot");
    this.empty = figure.querySelector(".chart-empty");
    this.points = { train: [], heldout: [] };
    for (const name of Object.keys(OTHERS)) this.points[name] = [];
    this.best = null;
    this.plot = null;
    this.timer = null;
    this.loading = false;
    figure.addEventListener("change", () => this.draw());
    this.button("reset").addEventListener("click", () => this.zoomOut());
    this.button("png").addEventListener("click", () => this.savePicture());
    figure.querySelector("details").addEventListener("toggle", () => this.fillTable());
    new ResizeObserver(() => this.resize()).observe(figure);
    document.addEventListener("brightrun:theme", () => this.draw());
    document.addEventListener("brightrun:resync", () => this.loadSoon());
    document.addEventListener("brightrun:live", (event) => {
      if (event.detail.topic === figure.dataset.chartTopic) this.loadSoon();
    });
    this.load();
  }

  button(name) {
    return this.figure.querySelector(`[data-chart-button="${name}"]`);
  }

  /** Which of the measurements is drawn. */
  get shown() {
    return this.figure.querySelector("[data-chart-shown]").value;
  }

  get names() {
    return this.shown === "loss" ? SERIES : [this.shown];
  }

  option(name) {
    return this.figure.querySelector(`[data-chart-toggle="${name}"]`).checked;
  }

  loadSoon() {
    if (this.loading) this.again = true;
    else this.timer ??= setTimeout(() => this.load(), WAIT_MS);
  }

  async load() {
    clearTimeout(this.timer);
    this.timer = null;
    this.loading = true;
    const url = new URL(this.figure.dataset.url, location.href);
    const last = Math.max(-1, ...SERIES.map((name) => this.points[name].at(-1)?.[0] ?? -1));
    if (last >= 0) url.searchParams.set("after", last);
    try {
      this.append(await call("GET", url));
    } catch (error) {
      // What is drawn stays; the next event, or the next look at the page, tries again.
      this.say(this.points.train.length ? "" : `The numbers could not be loaded: ${error.message}`);
      console.warn("loss chart:", error.message);
    } finally {
      this.loading = false;
      if (this.again) {
        this.again = false;
        this.loadSoon();
      }
    }
  }

  /** more: {train: [[step, loss]…], heldout: …}; a step that is there already is replaced. */
  append(more) {
    for (const name of [...SERIES, ...Object.keys(OTHERS)]) {
      const merged = new Map(this.points[name]);
      for (const [step, value] of more[name] ?? []) merged.set(step, value);
      this.points[name] = [...merged].sort(([a], [b]) => a - b);
    }
    this.best = more.best ?? null;
    for (const option of this.figure.querySelectorAll("[data-chart-shown] option")) {
      option.hidden = option.disabled = option.value !== "loss" && !this.points[option.value].length;
    }
    this.draw();
    this.fillTable();
  }

  say(text) {
    if (text) this.empty.textContent = text;
  }

  data() {
    const table = columns(this.points, this.names);
    if (this.option("smooth")) table[1] = smooth(table[1]);
    return table;
  }

  draw() {
    const any = this.names.some((name) => this.points[name].length);
    this.plotBox.hidden = !any;
    this.empty.hidden = any;
    this.button("png").disabled = !any;
    if (!any) return;
    const look = `${this.shown} ${this.option("log")} ${getComputedStyle(this.figure).colorScheme} ${colour(this.figure, "--foreground")}`;
    if (this.plot && look === this.look) {
      // A stretch that somebody looks at stays in view while more comes in.
      this.plot.setData(this.data(), !this.zoomed);
      if (this.zoomed) this.plot.redraw();
    } else {
      this.look = look;
      this.plot?.destroy();
      this.plot = null;
      this.zoomed = false;
      this.button("reset").hidden = true;
      this.create();
    }
    this.legend(null);
  }

  async create() {
    const { default: UPlot } = await import("../vendor/uplot.js");
    if (this.plot) return;
    const muted = colour(this.figure, "--muted-foreground");
    const axis = {
      stroke: muted,
      grid: { stroke: colour(this.figure, "--chart-grid"), width: 1 },
      ticks: { show: false },
      font: `12px "Inter Variable", sans-serif`,
    };
    const line = (name, width) => ({ stroke: colour(this.figure, name), width, spanGaps: true, points: { show: false } });
    const logarithmic = this.option("log");
    const write = this.shown === "loss" ? plain : OTHERS[this.shown];
    const lines = [line("--chart-train", 1.5)];
    if (this.shown === "loss") lines.push({ ...line("--chart-heldout", 2), points: { show: true, size: 5 } });
    this.plot = new UPlot(
      {
        ...this.size(),
        scales: { x: { time: false }, y: { distr: logarithmic ? 3 : 1 } },
        axes: [
          { ...axis, grid: { show: false }, values: (_plot, ticks) => ticks.map((step) => (Number.isInteger(step) ? step.toLocaleString() : "")) },
          { ...axis, size: this.shown === "loss" ? 52 : 76, values: (_plot, ticks) => ticks.map((tick) => (tick == null ? "" : write(tick))) },
        ],
        series: [{}, ...lines],
        cursor: { y: false, drag: { x: true, y: false } },
        hooks: {
          setCursor: [(plot) => this.legend(plot.cursor.idx)],
          setSelect: [(plot) => plot.select.width > 0 && this.zoomIn()],
          draw: [(plot) => this.markBest(plot)],
        },
      },
      this.data(),
      this.plotBox,
    );
  }

  /** The plot has zoomed by itself to what was dragged over; a double click shows all again. */
  zoomIn() {
    this.zoomed = true;
    this.button("reset").hidden = false;
    this.plot.over.addEventListener("dblclick", () => this.zoomOut(), { once: true });
  }

  zoomOut() {
    this.zoomed = false;
    this.button("reset").hidden = true;
    this.plot?.setData(this.data(), true);
  }

  /** A line where the checkpoint with the lowest held-out loss was saved. */
  markBest(plot) {
    const figure = this.figure.querySelector('[data-series="best"]');
    figure.hidden = this.best == null || this.shown !== "loss";
    if (figure.hidden) return;
    figure.querySelector("[data-value]").textContent = this.best.toLocaleString();
    const { left, top, width, height } = plot.bbox;
    const x = plot.valToPos(this.best, "x", true);
    if (!(x >= left && x <= left + width)) return;
    const { ctx } = plot;
    ctx.save();
    ctx.strokeStyle = colour(this.figure, "--chart-heldout");
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
    ctx.restore();
  }

  /** The plot as it is on the screen, on the page's background, as a PNG file. */
  savePicture() {
    const drawn = this.plot?.ctx.canvas;
    if (!drawn) return;
    const head = 32 * devicePixelRatio;
    const picture = document.createElement("canvas");
    picture.width = drawn.width;
    picture.height = drawn.height + head;
    const context = picture.getContext("2d");
    context.fillStyle = colour(this.figure, "--background");
    context.fillRect(0, 0, picture.width, picture.height);
    context.fillStyle = colour(this.figure, "--foreground");
    context.font = `${14 * devicePixelRatio}px sans-serif`;
    const what = this.figure.querySelector("[data-chart-shown]").selectedOptions[0].textContent;
    context.fillText(`${this.figure.dataset.title}: ${what}`, 12 * devicePixelRatio, 21 * devicePixelRatio);
    context.drawImage(drawn, 0, head);
    picture.toBlob((file) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(file);
      link.download = `${this.figure.dataset.file}-${this.shown}.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    });
  }

  size() {
    return { width: this.plotBox.clientWidth || this.figure.clientWidth, height: this.plotBox.clientHeight || 280 };
  }

  resize() {
    if (this.plot && this.plotBox.clientWidth) this.plot.setSize(this.size());
  }

  /** The value under the cursor, else the last. */
  legend(index) {
    const table = this.plot?.data ?? this.data();
    const set = (name, text) => {
      this.figure.querySelector(`[data-series="${name}"] [data-value]`).textContent = text;
    };
    const isLoss = this.shown === "loss";
    for (const name of SERIES) this.figure.querySelector(`[data-series="${name}"]`).hidden = !isLoss;
    this.figure.querySelector('[data-series="other"]').hidden = isLoss;
    this.names.forEach((name, offset) => {
      const values = table[offset + 1];
      const value = index == null ? values.findLast((item) => item != null) : values[index];
      const written = isLoss ? value?.toFixed(4) : value == null ? null : OTHERS[name](value);
      set(isLoss ? name : "other", written ?? "–");
    });
    this.figure.querySelector('[data-series="step"]').hidden = index == null;
    if (index != null) set("step", table[0][index].toLocaleString());
  }

  /** The last rows, newest first; filled only while it is open. */
  fillTable() {
    const details = this.figure.querySelector("details");
    if (!details.open) return;
    const [steps, train, heldout] = columns(this.points);
    const rows = steps.map((step, index) => [step.toLocaleString(), train[index], heldout[index]]).slice(-TABLE_ROWS).reverse();
    details.querySelector("tbody").replaceChildren(
      ...rows.map((cells) => {
        const row = document.createElement("tr");
        for (const cell of cells) {
          const column = row.insertCell();
          column.className = "num";
          column.textContent = cell == null ? "–" : typeof cell === "number" ? cell.toFixed(4) : cell;
        }
        return row;
      }),
    );
  }
}

const attached = new WeakMap();

export function attachCharts() {
  for (const figure of document.querySelectorAll("[data-chart=loss]")) {
    if (!attached.has(figure)) attached.set(figure, new LossChart(figure));
  }
}
