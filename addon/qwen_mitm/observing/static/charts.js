"use strict";
/* The two charts. Chart.js draws them; colours are those of the style sheet. */

const SERIES = 8;
const OTHERS = "others";
const NO_ACCOUNT = "no account";
const narrow = matchMedia("(max-width: 46rem)");

const colours = new Map();

function colour(name) {
  if (!colours.has(name)) {
    colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  }
  return colours.get(name);
}

function compact(number) {
  return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(number);
}

/** A colour belongs to an account, whatever else is shown: by the order in which accounts came. */
class Palette {
  constructor() { this.names = []; }

  place(account) {
    let place = this.names.indexOf(account);
    if (place < 0) place = this.names.push(account) - 1;
    return place;
  }

  label(account) {
    if (account === "") return NO_ACCOUNT;
    return this.place(account) < SERIES ? account : OTHERS;
  }

  colour(label) {
    if (label === OTHERS || label === NO_ACCOUNT) return colour("--quiet");
    return colour(`--series-${this.place(label) + 1}`);
  }
}

function options(extra) {
  return {
    animation: false,
    maintainAspectRatio: false,
    responsive: true,
    interaction: { mode: "nearest", intersect: false },
    plugins: {
      legend: { position: "bottom", labels: { boxWidth: 10, boxHeight: 10, useBorderRadius: true, borderRadius: 2 } },
      tooltip: { callbacks: extra.tooltip },
    },
    scales: extra.scales,
  };
}

class Charts {
  constructor() {
    this.palette = new Palette();
    this.days = this.bars("days", compact);
    this.costs = this.bars("costs", (cost) => cost.toFixed(2));
    this.firsts = this.points("firsts");
    this.paint();
  }

  /** What was used on each day, one account above the other. */
  bars(id, words) {
    return new Chart(document.getElementById(id), {
      type: "bar",
      data: { labels: [], datasets: [] },
      options: options({
        tooltip: {
          label: (item) => `${item.dataset.label}: ${words(item.parsed.y)}`,
          afterLabel: (item) => item.dataset.details[item.dataIndex],
        },
        scales: {
          x: { stacked: true, grid: { display: false }, ticks: { maxRotation: 0, autoSkipPadding: 12 } },
          y: { stacked: true, beginAtZero: true, ticks: { callback: words, maxTicksLimit: 6 } },
        },
      }),
    });
  }

  /** When each answer began. */
  points(id) {
    return new Chart(document.getElementById(id), {
      type: "scatter",
      data: { datasets: [] },
      options: options({
        tooltip: {
          title: (items) => new Date(items[0].parsed.x).toLocaleString(),
          label: (item) => `${item.dataset.label}: ${item.parsed.y.toFixed(2)} s`,
          afterLabel: (item) => item.raw.details,
        },
        scales: {
          x: {
            type: "time",
            time: { minUnit: "second", displayFormats: { second: "HH:mm:ss", minute: "HH:mm", hour: "HH:mm" } },
            grid: { display: false },
            ticks: { maxRotation: 0, autoSkipPadding: 16, maxTicksLimit: 6 },
          },
          y: { beginAtZero: true, ticks: { callback: (value) => `${value} s`, maxTicksLimit: 6 } },
        },
      }),
    });
  }

  /** In the colours of the style sheet as it is now. */
  paint() {
    colours.clear();
    for (const chart of [this.days, this.costs, this.firsts]) {
      chart.options.color = colour("--text");
      for (const scale of Object.values(chart.options.scales)) {
        scale.ticks.color = colour("--quiet");
        scale.grid = { ...scale.grid, color: colour("--line") };
        scale.border = { color: colour("--line") };
      }
      chart.update("none");
    }
  }

  tint(dataset) {
    // Functions, because Chart.js keeps values for the bars that are there.
    dataset.backgroundColor = () => this.palette.colour(dataset.label);
    dataset.borderColor = () => colour("--card");
  }

  /** Replace what a chart shows; a series that was there stays the same object. */
  put(chart, series) {
    const before = new Map(chart.data.datasets.map((dataset) => [dataset.label, dataset]));
    chart.data.datasets = series.map((one) => {
      const dataset = Object.assign(before.get(one.label) ?? {}, one);
      this.tint(dataset);
      return dataset;
    });
    chart.update("none");
  }

  show(observed) {
    for (const account of observed.accounts) this.palette.place(account.name);
    this.showDays(this.days, observed, (day) => day.input + day.output);
    this.showDays(this.costs, observed, (day) => day.cost);
    this.showFirsts(observed.moments);
  }

  showDays(chart, { days, now }, amount) {
    const dates = Array.from({ length: narrow.matches ? 10 : 30 }, (_, back) =>
      new Date(now - back * 86400000).toISOString().slice(0, 10)).reverse();
    const series = new Map();
    for (const day of days) {
      const place = dates.indexOf(day.date);
      if (place < 0) continue;
      const label = this.palette.label(day.account);
      if (!series.has(label)) {
        series.set(label, { label, data: dates.map(() => 0), details: dates.map(() => ""), borderWidth: 1, borderRadius: 3 });
      }
      const one = series.get(label);
      one.data[place] += amount(day);
      one.details[place] = `${compact(day.input)} in (${compact(day.cached)} cached), ${compact(day.output)} out, ${day.turns} turns`;
    }
    chart.data.labels = dates.map((date) =>
      new Date(`${date}T00:00Z`).toLocaleDateString("en", { day: "numeric", month: "short", timeZone: "UTC" }));
    this.put(chart, [...series.values()].filter((one) => one.data.some(Boolean)));
  }

  showFirsts(moments) {
    const series = new Map();
    for (const moment of moments) {
      const label = this.palette.label(moment.account);
      if (!series.has(label)) series.set(label, { label, data: [], pointRadius: 4, pointHoverRadius: 6, borderWidth: 1 });
      const speed = moment.tokens_per_second === null ? "" : `, ${Math.round(moment.tokens_per_second)} tokens/s`;
      series.get(label).data.push({ x: moment.at * 1000, y: moment.first_event_s, details: moment.model + speed });
    }
    this.put(this.firsts, [...series.values()]);
  }
}
