/* The curve of a session: power and energy over time. <div data-curve="/address.json"></div> */
(function () {
  "use strict";
  const box = document.querySelector("[data-curve]");
  if (!box || !window.uPlot) return;
  const note = document.querySelector("[data-curve-note]");
  let plot = null, last = 0, busy = false;

  function colour(name) { return getComputedStyle(box).getPropertyValue(name).trim() || "#0b7560"; }
  function width() { return Math.max(260, box.clientWidth); }
  function axis(extra) {
    return Object.assign({ stroke: colour("--vt-faint"), grid: { stroke: colour("--vt-line"), width: 1 }, ticks: { stroke: colour("--vt-line"), width: 1 } }, extra);
  }
  const zone = "Asia/Kolkata";
  const minutes = new Intl.DateTimeFormat("en-IN", { timeZone: zone, hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const seconds = new Intl.DateTimeFormat("en-IN", { timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const moment = new Intl.DateTimeFormat("en-IN", { timeZone: zone, day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  function draw(data) {
    const columns = [data.at, data.power_w.map(function (w) { return w === null ? null : w / 1000; }),
                     data.energy_wh.map(function (wh) { return wh === null ? null : wh / 1000; })];
    if (note) note.hidden = data.at.length > 1;
    box.hidden = data.at.length < 2;
    if (data.at.length < 2) return;
    if (plot) { plot.setData(columns); return; }
    plot = new uPlot({
      width: width(), height: 230, cursor: { drag: { x: true, y: false } },
      scales: { kW: { range: function (u, low, high) { return [0, Math.max(1, (high || 0) * 1.1)]; } },
                kWh: { range: function (u, low, high) { return [0, Math.max(0.1, (high || 0) * 1.1)]; } } },
      tzDate: function (at) { return uPlot.tzDate(new Date(at * 1000), zone); },
      axes: [axis({ values: function (u, splits) { const words = splits.length > 1 && splits[1] - splits[0] < 60 ? seconds : minutes; return splits.map(function (at) { return words.format(at * 1000); }); } }), axis({ scale: "kW", label: "kW", labelSize: 18, size: 48 }), axis({ scale: "kWh", label: "kWh", labelSize: 18, side: 1, size: 48, grid: { show: false } })],
      series: [{ label: "Time", value: function (u, at) { return at === null ? "–" : moment.format(at * 1000); } },
        { label: "Power", scale: "kW", stroke: colour("--vt-brand"), width: 2, spanGaps: true, value: function (u, v) { return v === null ? "–" : v.toFixed(1) + " kW"; } },
        { label: "Energy", scale: "kWh", stroke: colour("--vt-warn"), width: 2, spanGaps: true, value: function (u, v) { return v === null ? "–" : v.toFixed(3) + " kWh"; } }],
    }, columns, box);
  }
  async function load() {
    if (busy) return;
    busy = true;
    last = Date.now();
    try {
      const answer = await fetch(box.dataset.curve, { credentials: "same-origin", cache: "no-store" });
      if (answer.ok) draw(await answer.json());
    } catch (error) {
      if (note && !plot) { note.hidden = false; note.textContent = "The curve could not be loaded; it will be tried again."; }
    } finally { busy = false; }
  }
  window.addEventListener("resize", function () { if (plot) plot.setSize({ width: width(), height: 230 }); });
  document.addEventListener("live:refreshed", function () {
    // A session that has begun since brings its own address with the fragment.
    const now = document.querySelector("[data-curve-now]");
    if (now && now.dataset.curveNow && now.dataset.curveNow !== box.dataset.curve) {
      box.dataset.curve = now.dataset.curveNow;
      if (plot) { plot.destroy(); plot = null; }
      last = 0;
    }
    if (box.dataset.curve && Date.now() - last > 3000) load();
  });
  if (box.dataset.curve) load();
})();
