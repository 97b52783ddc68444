// Loss curves. The numbers come from a JSON address and are asked for again, only what is new, when an event says so.
import { call } from "./api.js";

const SERIES = ["train", "heldout"];
const WAIT_MS = 800;
const TABLE_ROWS = 200;

/** A colour of the stylesheet as the canvas wants it: `light-dark()` is resolved by a real element. */
function colour(host, name) {
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
export function columns(points) {
  const steps = [...new Set(SERIES.flatMap((name) => points[name].map(([step]) => step)))].sort((a, b) => a - b);
  const place = new Map(steps.map((step, index) => [step, index]));
  return [
    steps,
    ...SERIES.map((name) => {
      const values = Array(steps.length).fill(null);
      for (const [step, loss] of points[name]) values[place.get(step)] = loss;
      return values;
    }),
  ];
}

class LossChart {
  constructor(figure) {
    this.figure = figure;
    this.plotBox = figure.querySelector(".chart-plot");
    this.empty = figure.querySelector(".chart-empty");
    this.points = { train: [], heldout: [] };
    this.plot = null;
    this.timer = null;
    this.loading = false;
    figure.addEventListener("change", () => this.draw());
    figure.querySelector("details").addEventListener("toggle", () => this.fillTable());
    new ResizeObserver(() => this.resize()).observe(figure);
    document.addEventListener("brightrun:theme", () => this.draw());
    document.addEventListener("brightrun:resync", () => this.loadSoon());
    document.addEventListener("brightrun:live", (event) => {
      if (event.detail.topic === figure.dataset.chartTopic) this.loadSoon();
    });
    this.load();
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
    for (const name of SERIES) {
      const merged = new Map(this.points[name]);
      for (const [step, loss] of more[name] ?? []) merged.set(step, loss);
      this.points[name] = [...merged].sort(([a], [b]) => a - b);
    }
    this.draw();
    this.fillTable();
  }

  say(text) {
    if (text) this.empty.textContent = text;
  }

  data() {
    const table = columns(this.points);
    if (this.option("smooth")) table[1] = smooth(table[1]);
    return table;
  }

  draw() {
    const any = SERIES.some((name) => this.points[name].length);
    this.plotBox.hidden = !any;
    this.empty.hidden = any;
    if (!any) return;
    const look = `${this.option("log")} ${getComputedStyle(this.figure).colorScheme} ${colour(this.figure, "--foreground")}`;
    if (this.plot && look === this.look) {
      this.plot.setData(this.data());
    } else {
      this.look = look;
      this.plot?.destroy();
      this.plot = null;
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
    this.plot = new UPlot(
      {
        ...this.size(),
        scales: { x: { time: false }, y: { distr: logarithmic ? 3 : 1 } },
        axes: [
          { ...axis, grid: { show: false }, values: (_plot, ticks) => ticks.map((step) => (Number.isInteger(step) ? step.toLocaleString() : "")) },
          { ...axis, size: 52, values: (_plot, ticks) => ticks.map((loss) => (loss == null ? "" : String(+loss.toPrecision(4)))) },
        ],
        series: [{}, line("--chart-train", 1.5), { ...line("--chart-heldout", 2), points: { show: true, size: 5 } }],
        cursor: { y: false, drag: { x: true, y: false } },
        hooks: { setCursor: [(plot) => this.legend(plot.cursor.idx)] },
      },
      this.data(),
      this.plotBox,
    );
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
    SERIES.forEach((name, offset) => {
      const values = table[offset + 1];
      const value = index == null ? values.findLast((item) => item != null) : values[index];
      set(name, value == null ? "–" : value.toFixed(4));
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
