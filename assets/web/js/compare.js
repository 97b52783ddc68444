// Loss curves of several runs over one another. The numbers come once from a JSON address:
// {data: {runs: [{name, train: [[step, epoch, loss]…], heldout: …}]}}.
import { call } from "./api.js";
import { colour, smooth } from "./charts.js";

const RUNS = 4;

class Comparison {
  constructor(figure) {
    this.figure = figure;
    this.plotBox = figure.querySelector(".chart-plot");
    this.empty = figure.querySelector(".chart-empty");
    figure.addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(figure);
    document.addEventListener("brightrun:theme", () => this.draw());
    this.load();
  }

  async load() {
    try {
      this.runs = (await call("GET", new URL(this.figure.dataset.url, location.href))).runs;
    } catch (error) {
      this.empty.textContent = `The curves could not be loaded: ${error.message}`;
      return;
    }
    await this.draw();
  }

  chosen(name) {
    const input = this.figure.querySelector(`[data-compare-${name}]`);
    return input.type === "checkbox" ? input.checked : input.value;
  }

  size() {
    return { width: this.plotBox.clientWidth || this.figure.clientWidth, height: this.plotBox.clientHeight || 280 };
  }

  /** uPlot's columns: all places on the x axis, and each run's loss there or null. */
  columns() {
    const along = this.chosen("by") === "step" ? 0 : 1;
    const curves = this.runs.map((run) => {
      const points = run[this.chosen("shown")];
      const losses = points.map((point) => point[2]);
      const shown = this.chosen("smooth") ? smooth(losses) : losses;
      return new Map(points.map((point, index) => [point[along], shown[index]]));
    });
    const places = [...new Set(curves.flatMap((curve) => [...curve.keys()]))].sort((a, b) => a - b);
    return [places, ...curves.map((curve) => places.map((place) => curve.get(place) ?? null))];
  }

  async draw() {
    if (!this.runs) return;
    const { default: UPlot } = await import("../vendor/uplot.js");
    const table = this.columns();
    const any = table[0].length > 0;
    this.plotBox.hidden = !any;
    this.empty.hidden = any;
    this.empty.textContent = this.chosen("shown") === "heldout" ? "No run has measured its held-out loss yet." : "No run has a training loss yet.";
    this.plot?.destroy();
    this.plot = null;
    if (!any) return;
    const axis = {
      stroke: colour(this.figure, "--muted-foreground"),
      grid: { stroke: colour(this.figure, "--chart-grid"), width: 1 },
      ticks: { show: false },
      font: `12px "Inter Variable", sans-serif`,
    };
    const points = this.chosen("shown") === "heldout";
    this.plot = new UPlot(
      {
        ...this.size(),
        scales: { x: { time: false }, y: { distr: this.chosen("log") ? 3 : 1 } },
        axes: [
          { ...axis, grid: { show: false }, values: (_plot, ticks) => ticks.map((tick) => (tick == null ? "" : (+tick.toPrecision(6)).toLocaleString())) },
          { ...axis, size: 52, values: (_plot, ticks) => ticks.map((tick) => (tick == null ? "" : String(+tick.toPrecision(4)))) },
        ],
        series: [
          {},
          ...this.runs.map((_run, place) => ({
            stroke: colour(this.figure, `--chart-run-${place % RUNS}`),
            width: points ? 2 : 1.5,
            spanGaps: true,
            points: { show: points, size: 5 },
          })),
        ],
        cursor: { y: false, drag: { x: true, y: false } },
        hooks: { setCursor: [(plot) => this.legend(plot.cursor.idx)] },
      },
      table,
      this.plotBox,
    );
    this.legend(null);
  }

  /** The values under the cursor, else the last of each. */
  legend(index) {
    const [places, ...curves] = this.plot.data;
    curves.forEach((values, place) => {
      const value = index == null ? values.findLast((item) => item != null) : values[index];
      this.figure.querySelector(`[data-run="${place}"] [data-value]`).textContent = value == null ? "–" : value.toFixed(4);
    });
    const at = this.figure.querySelector("[data-at]");
    at.hidden = index == null;
    if (index != null) at.querySelector("[data-value]").textContent = `${this.chosen("by")} ${(+places[index].toPrecision(6)).toLocaleString()}`;
  }
}

const attached = new WeakMap();

export function attachComparisons() {
  for (const figure of document.querySelectorAll("[data-chart=compare]")) {
    if (!attached.has(figure)) attached.set(figure, new Comparison(figure));
  }
}
