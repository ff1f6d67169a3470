/* Live parts of a page. An element with
     data-live="/fragment/address/"  data-live-codes="CODE1 CODE2" (connectors whose changes matter)
   is filled again from its address whenever the server says that something changed, at most once a second; without the
   socket it asks every 5 seconds. [data-live-dot] says which of the two it is. The fragment is our own server's HTML;
   nothing that came over the socket is ever put into the page. */
(function () {
  "use strict";
  const THROTTLE_MS = 1000, POLL_MS = 5000, CALM_MS = 30000, RETRY_MAX_MS = 30000;

  function start(part) {
    const dot = document.querySelector("[data-live-dot]");
    const codes = (part.dataset.liveCodes || "").split(" ").filter(Boolean);
    let timer = null, last = 0, busy = false, again = false, open = 0;

    function say(state, words) {
      if (!dot) return;
      dot.dataset.state = state;
      dot.textContent = words;
    }
    function presence() {
      if (open > 0) say("live", "Live");
      else if (!codes.length) say("live", "Refreshed every 5 s");
      else say("polling", "Reconnecting · refreshed every 5 s");
    }
    async function refresh() {
      timer = null;
      if (busy) { again = true; return; }
      busy = true;
      last = Date.now();
      try {
        const answer = await fetch(part.dataset.live, { headers: { "X-Requested-With": "fetch" }, credentials: "same-origin", cache: "no-store" });
        if (answer.redirected || answer.status === 401 || answer.status === 403) { say("reconnecting", "Please reload this page"); return; }
        if (!answer.ok) throw new Error("HTTP " + answer.status);
        put(part, await answer.text());
        presence();
      } catch (error) {
        say("reconnecting", "No connection · trying again");
      } finally {
        busy = false;
        if (again) { again = false; soon(); }
      }
    }
    function soon() {
      if (timer === null) timer = setTimeout(refresh, Math.max(0, last + THROTTLE_MS - Date.now()));
    }
    function listen(code) {
      let retry = 1000, up = false;
      (function connect() {
        const socket = new WebSocket((location.protocol === "https:" ? "wss://" : "ws://") + location.host + "/live/" + encodeURIComponent(code) + "/");
        socket.onopen = function () { up = true; open += 1; retry = 1000; presence(); soon(); };
        socket.onmessage = function () { if (!document.hidden) soon(); };
        socket.onclose = function () {
          if (up) { up = false; open -= 1; presence(); }
          setTimeout(connect, retry * (0.75 + Math.random() / 2));
          retry = Math.min(retry * 2, RETRY_MAX_MS);
        };
      })();
    }

    codes.forEach(listen);
    if (!codes.length) presence();
    // A lost message costs at most this long; a hidden page asks nothing and looks again when it is shown.
    setInterval(function () {
      if (!document.hidden && Date.now() - last >= (open > 0 ? CALM_MS : POLL_MS) - 100) soon();
    }, POLL_MS);
    document.addEventListener("visibilitychange", function () { if (!document.hidden) soon(); });
  }

  function put(part, html) {
    const opened = new Set(Array.from(part.querySelectorAll("details[open][id]"), function (d) { return d.id; }));
    const loaded = new Map(Array.from(part.querySelectorAll("[data-src].loaded[id]"), function (p) { return [p.id, p.textContent]; }));
    const scrolled = new Map(Array.from(part.querySelectorAll("[data-scroll][id]"), function (s) { return [s.id, s.scrollTop]; }));
    const focused = document.activeElement && part.contains(document.activeElement) ? document.activeElement.id : "";
    const kept = Array.from(part.querySelectorAll("[data-keep][id]"));
    part.innerHTML = html;
    // What draws itself (a chart) stays the same element through every refresh.
    kept.forEach(function (old) { const place = document.getElementById(old.id); if (place) place.replaceWith(old); });
    opened.forEach(function (id) { const d = document.getElementById(id); if (d) d.open = true; });
    loaded.forEach(function (text, id) { const p = document.getElementById(id); if (p) { p.textContent = text; p.classList.add("loaded"); } });
    scrolled.forEach(function (top, id) { const s = document.getElementById(id); if (s) s.scrollTop = top; });
    if (focused) { const f = document.getElementById(focused); if (f) f.focus({ preventScroll: true }); }
    document.dispatchEvent(new CustomEvent("live:refreshed", { detail: { part: part } }));
  }

  // A frame's text is fetched when it is opened: fifty of them may be megabytes.
  document.addEventListener("toggle", async function (event) {
    const box = event.target.open && event.target.querySelector ? event.target.querySelector("[data-src]:not(.loaded)") : null;
    if (!box) return;
    try {
      const answer = await fetch(box.dataset.src, { credentials: "same-origin" });
      box.textContent = answer.ok ? await answer.text() : "This frame could not be read (" + answer.status + ").";
      box.classList.add("loaded");
    } catch (error) {
      box.textContent = "No connection. Close this line and open it again.";
    }
  }, true);

  document.addEventListener("submit", function (event) {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });

  document.addEventListener("click", function (event) {
    if (event.target.closest && event.target.closest("[data-print]")) window.print();
  });

  document.querySelectorAll("[data-live]").forEach(start);
})();
