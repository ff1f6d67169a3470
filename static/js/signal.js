/* The signal of a charger's modem over time. <div data-signal="/address.json"></div> */
(function () {
  "use strict";
  const box = document.querySelector("[data-signal]");
  if (!box || !window.uPlot) return;
  const note = document.querySelector("[data-signal-note]");
  const zone = "Asia/Kolkata";
  const short = new Intl.DateTimeFormat("en-IN", { timeZone: zone, day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  function colour(name) { return getComputedStyle(box).getPropertyValue(name).trim() || "#0b7560"; }
  function width() { return Math.max(260, box.clientWidth); }
  function say(words) { if (note) { note.hidden = false; if (words) note.textContent = words; } box.hidden = true; }
  fetch(box.dataset.signal, { credentials: "same-origin", cache: "no-store" }).then(function (answer) {
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  }).then(function (data) {
    if (data.at.length < 2) { say(""); return; }
    const line = { stroke: colour("--vt-faint"), grid: { stroke: colour("--vt-line"), width: 1 }, ticks: { stroke: colour("--vt-line"), width: 1 } };
    const plot = new uPlot({
      width: width(), height: 200, tzDate: function (at) { return uPlot.tzDate(new Date(at * 1000), zone); },
      scales: { dBm: { range: [-115, -45] } },
      axes: [Object.assign({ space: 90, values: function (u, splits) { return splits.map(function (at) { return short.format(at * 1000); }); } }, line),
             Object.assign({ scale: "dBm", label: "dBm", labelSize: 18, size: 54 }, line)],
      series: [{ label: "Time", value: function (u, at) { return at === null ? "–" : short.format(at * 1000); } },
        { label: "Signal", scale: "dBm", stroke: colour("--vt-brand"), width: 2, value: function (u, v) { return v === null ? "–" : v + " dBm"; } }],
    }, [data.at, data.dbm], box);
    window.addEventListener("resize", function () { plot.setSize({ width: width(), height: 200 }); });
  }).catch(function () { say("The signal could not be loaded. Reload the page to try again."); });
})();
