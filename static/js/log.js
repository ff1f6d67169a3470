/* The message log and the replay of a session. Everything is on the page without this: a line that is opened shows its
   frames in place instead of on a page of their own, and a replay can be stepped through with buttons and keys.
   A fragment is our own server's HTML; a frame's text is only ever put in as text. */
(function () {
  "use strict";

  async function read(address) {
    try {
      const answer = await fetch(address, { credentials: "same-origin" });
      if (answer.redirected) return { trouble: "Please reload this page and sign in." };
      return answer.ok ? { text: await answer.text() } : { trouble: "This could not be read (" + answer.status + ")." };
    } catch (error) {
      return { trouble: "No connection. Try again." };
    }
  }

  document.addEventListener("toggle", async function (event) {
    const box = event.target.open && event.target.querySelector ? event.target.querySelector("[data-fragment]:not(.loaded)") : null;
    if (!box) return;
    box.classList.add("loaded");
    const said = await read(box.dataset.fragment);
    if (said.trouble) { box.classList.remove("loaded"); box.textContent = said.trouble; } else box.innerHTML = said.text;
  }, true);

  function replay(part) {
    const steps = Array.from(part.querySelectorAll(".vt-steps > li"));
    const stage = part.querySelector("[data-stage]"), text = part.querySelector("[data-text]");
    const known = new Map();
    let now = -1;

    async function show(number, quietly) {
      number = Math.max(0, Math.min(steps.length - 1, number));
      if (number === now) return;
      if (now >= 0) steps[now].removeAttribute("aria-current");
      now = number;
      const step = steps[now];
      step.setAttribute("aria-current", "step");
      if (!quietly) step.scrollIntoView({ block: "nearest" });
      part.querySelector("[data-place]").textContent = (now + 1) + " of " + steps.length;
      part.querySelector("[data-said]").replaceChildren.apply(part.querySelector("[data-said]"), Array.from(step.children, function (c) { return c.cloneNode(true); }));
      text.hidden = !step.dataset.src;
      if (!step.dataset.src) return;
      if (!known.has(number)) { text.textContent = "Loading"; known.set(number, await read(step.dataset.src)); }
      const said = known.get(number);
      if (said.trouble) known.delete(number);
      if (now === number) text.textContent = said.trouble || said.text;
    }

    const turns = {
      first: function () { show(0); }, last: function () { show(steps.length - 1); },
      next: function () { show(now + 1); }, back: function () { show(now - 1); },
    };
    const keys = { ArrowRight: "next", ArrowLeft: "back", j: "next", k: "back", J: "next", K: "back", Home: "first", End: "last" };
    part.addEventListener("click", function (event) {
      const button = event.target.closest("[data-step]");
      if (button) { turns[button.dataset.step](); return; }
      const step = event.target.closest(".vt-steps > li");
      if (step && !event.target.closest("a")) show(steps.indexOf(step));
    });
    document.addEventListener("keydown", function (event) {
      if (event.altKey || event.ctrlKey || event.metaKey || !keys[event.key]) return;
      if (event.target.closest("input, select, textarea, pre, [contenteditable]")) return;
      event.preventDefault();
      turns[keys[event.key]]();
    });
    stage.hidden = false;
    part.classList.add("stepping");
    show(0, true);
  }

  document.querySelectorAll("[data-replay]").forEach(replay);
})();
