// What plain pages cannot do: the theme, the log-in, live changes and charts.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // The theme is set before anything is drawn.
  const themes = ["system", "light", "dark"];
  const theme = () => { try { return localStorage.getItem("theme") || "system"; } catch { return "system"; } };
  const wear = (t) => { if (t === "system") delete root.dataset.theme; else root.dataset.theme = t; };
  wear(theme());

  const $ = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const say = (text) => { $("#say").textContent = text; };

  function themeButton() {
    const b = $("#theme");
    const label = () => { b.textContent = "Theme: " + theme(); };
    b.hidden = false;
    label();
    b.addEventListener("click", () => {
      const next = themes[(themes.indexOf(theme()) + 1) % themes.length];
      try { localStorage.setItem("theme", next); } catch { /* it lasts as long as the page */ }
      wear(next);
      label();
      document.dispatchEvent(new Event("theme"));
    });
  }

  function menuButton() {
    const b = $("#menu"), nav = $("#nav"), phone = matchMedia("(max-width: 760px)");
    if (!b) return;
    const fit = () => { b.hidden = !phone.matches; };
    phone.addEventListener("change", fit);
    fit();
    const open = (yes) => { nav.classList.toggle("open", yes); b.setAttribute("aria-expanded", yes); };
    b.addEventListener("click", () => open(b.getAttribute("aria-expanded") !== "true"));
    document.addEventListener("keydown", (e) => {
      if (e.key === "Escape" && nav.classList.contains("open")) { open(false); b.focus(); }
    });
  }

  // On a phone the parts of the checklist that need nobody are folded.
  function rooms() {
    if (matchMedia("(max-width: 760px)").matches) for (const d of all(".room")) d.open = Boolean($(".todo", d));
  }

  // A form that is on its way is not sent twice.
  function forms() {
    document.addEventListener("submit", (e) => {
      if (e.defaultPrevented) return;
      setTimeout(() => all("button", e.target).forEach((b) => { b.disabled = true; }));
    });
    addEventListener("pageshow", () => all("form button:disabled").forEach((b) => { b.disabled = false; }));
  }

  // How long ago something was, as the server writes it.
  const units = [[31536000, "y"], [86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  function span(seconds) {
    for (const [of, name] of units) {
      const whole = Math.floor(seconds / of);
      if (name === "d" && whole < 2) continue;
      if (whole > 0) return whole + " " + name;
    }
    return "0 s";
  }
  function ages() {
    for (const t of all("time[datetime]")) {
      const s = (Date.now() - Date.parse(t.dateTime)) / 1000;
      const text = s < 0 ? (s > -1 ? "now" : "in " + span(-s)) : s < 5 ? "now" : span(s) + " ago";
      if (t.textContent !== text) t.textContent = text;
    }
  }

  // Asking the hub.
  async function ask(method, path, body) {
    const resp = await fetch(path, {
      method, credentials: "same-origin",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await resp.text();
    let value = null;
    try { value = text ? JSON.parse(text) : null; } catch { /* not JSON */ }
    if (!resp.ok) {
      const why = new Error((value && (value.detail || (value.error && value.error.message))) || "The hub answered with " + resp.status + ".");
      why.stepUp = Boolean(value && typeof value.type === "string" && value.type.endsWith("/problems/step-up"));
      throw why;
    }
    return value;
  }

  // Passkeys (WebAuthn). Bytes travel as base64url.
  const passkeys = () => Boolean(window.PublicKeyCredential && PublicKeyCredential.parseRequestOptionsFromJSON);
  const options = (v) => v.publicKey || v;
  async function prove() {
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options(await ask("POST", "/auth/passkey/login/begin", {})));
    const credential = await navigator.credentials.get({ publicKey });
    return ask("POST", "/auth/passkey/login/finish", credential.toJSON());
  }
  async function register(name) {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options(await ask("POST", "/auth/passkey/register/begin", { name })));
    const credential = await navigator.credentials.create({ publicKey });
    return ask("POST", "/auth/passkey/register/finish", credential.toJSON());
  }
  // once does an act, and once more after a fresh proof where that is missing.
  async function proven(act) {
    try { return await act(); } catch (why) {
      if (!why.stepUp) throw why;
      await prove();
      return act();
    }
  }
  const words = (why) => why.name === "NotAllowedError" ? "The passkey was not used: it was refused, or it took too long." : why.message;
  function refuse(at, why) { at.textContent = words(why); at.hidden = false; }

  async function login() {
    const card = $("[data-login]"), state = $("#login-state"), refused = $("#login-refused");
    if (!card) return;
    const go = () => location.replace(card.dataset.next);
    const secret = location.hash.slice(1);
    addEventListener("hashchange", () => location.reload()); // a link opened in the tab that shows this page
    if (secret) {
      history.replaceState(null, "", location.pathname + location.search);
      state.textContent = "Using the link…";
      try { await ask("POST", "/auth/link", { secret }); go(); return; } catch (why) { refuse(refused, why); }
    } else {
      try { await ask("GET", "/auth/me"); go(); return; } catch { /* not logged in */ }
    }
    let ways = {};
    try { ways = await ask("GET", "/auth/ways"); } catch (why) { refuse(refused, why); }
    const key = $("#login-passkey"), oidc = $("#login-oidc");
    key.hidden = !(ways.passkey && passkeys());
    if (ways.oidc) {
      oidc.hidden = false;
      oidc.textContent = "Use " + ways.oidc;
      oidc.href = "/auth/oidc/start?" + new URLSearchParams({ next: card.dataset.next });
    }
    state.textContent = key.hidden && oidc.hidden ? "A one-time link is the way in." : "Choose how to come in.";
    key.addEventListener("click", async () => {
      refused.hidden = true;
      key.disabled = true;
      try { await prove(); go(); } catch (why) { refuse(refused, why); key.disabled = false; }
    });
  }

  function account() {
    const add = $("#add-passkey"), out = $("#logout");
    if (out) out.addEventListener("submit", async (e) => {
      e.preventDefault();
      try { await ask("POST", "/auth/logout", {}); } finally { location.assign("/login"); }
    });
    for (const f of all("form[data-step-up]")) f.addEventListener("submit", async (e) => {
      e.preventDefault();
      const button = $("button", f);
      button.disabled = true;
      try { await prove(); f.submit(); } catch (why) { refuse($(".refused", f), why); button.disabled = false; }
    });
    if (!add || !passkeys()) return;
    add.hidden = false;
    add.addEventListener("submit", async (e) => {
      e.preventDefault();
      const button = $("button", add);
      button.disabled = true;
      const name = $("input[name=name]", add), refused = $(".refused", add);
      refused.hidden = true;
      try { await proven(() => register(name.value)); name.value = ""; say("The passkey is added."); await keys(); } catch (why) { refuse(refused, why); }
      button.disabled = false;
    });
    keys();
  }
  // keys lists one's passkeys.
  async function keys() {
    const list = $("#passkeys"), refused = $("#add-passkey .refused");
    let mine = [];
    try { mine = (await ask("GET", "/auth/me")).keys || []; } catch (why) { refuse(refused, why); return; }
    list.replaceChildren(...mine.map((k) => {
      const item = document.createElement("li"), name = document.createElement("b"), used = document.createElement("span"), drop = document.createElement("button");
      name.textContent = k.name;
      used.textContent = "added " + span((Date.now() - Date.parse(k.created)) / 1000) + " ago";
      used.className = "sub";
      drop.type = "button";
      drop.textContent = "Remove";
      drop.setAttribute("aria-label", "Remove the passkey " + k.name);
      drop.addEventListener("click", async () => {
        if (!confirm("Remove this passkey? It then opens nothing here.")) return;
        try { await proven(() => ask("DELETE", "/auth/passkey/" + encodeURIComponent(k.id))); keys(); say("The passkey is removed."); } catch (why) { refuse(refused, why); }
      });
      item.append(name, used, drop);
      return item;
    }));
    list.hidden = mine.length === 0;
    $("#no-passkeys").hidden = mine.length > 0;
  }

  // Live changes. Events say that something changed; the page is fetched anew and
  // its parts replaced. A part in which somebody writes is left alone.
  const unasked = { "Holdfast-Refresh": "1" }; // it does not keep a log-in alive that nobody uses
  const busy = (part) => part.contains(document.activeElement) && document.activeElement.matches("input:not([type=checkbox]), textarea, select")
    || all("details[open] form", part).length > 0 || all("input:not([type=hidden]):not([type=checkbox]), textarea", part).some((f) => f.value !== f.defaultValue);
  function replace(part, fresh) {
    const at = document.activeElement, within = part.contains(at);
    const key = within && (at.id ? "#" + CSS.escape(at.id) : at.matches("a[href]") ? 'a[href="' + CSS.escape(at.getAttribute("href")) + '"]' : at.matches("input[value]") ? 'input[value="' + CSS.escape(at.value) + '"]' : "");
    for (const d of all("details[id]", part)) { const f = fresh.querySelector("#" + CSS.escape(d.id)); if (f) f.open = d.open; }
    for (const c of all("input[type=checkbox]:checked", part)) { const f = fresh.querySelector('input[type=checkbox][value="' + CSS.escape(c.value) + '"]'); if (f) f.checked = true; }
    const told = fresh.dataset.say && fresh.dataset.say !== part.dataset.say;
    part.replaceWith(fresh);
    if (key) { const f = fresh.querySelector(key); if (f) f.focus({ preventScroll: true }); }
    if (told) say(fresh.dataset.say);
  }
  // content leaves out what differs each time: ages, and the names of requests.
  const content = (part) => part.innerHTML.replace(/(<time[^>]*>)[^<]*/g, "$1").replace(/(name="once" value=")[^"]*/g, "$1");
  async function refresh() {
    const resp = await fetch(location.href, { credentials: "same-origin", headers: { Accept: "text/html", ...unasked } });
    if (resp.redirected || resp.status === 401) { location.reload(); return; }
    if (!resp.ok) return;
    const page = new DOMParser().parseFromString(await resp.text(), "text/html");
    let held = false;
    for (const part of all("[data-fresh]")) {
      const fresh = page.getElementById(part.id);
      if (!fresh || content(fresh) === content(part)) continue;
      if (busy(part)) held = true; else replace(part, document.adoptNode(fresh));
    }
    if (page.body.dataset.beat) document.body.dataset.beat = page.body.dataset.beat; else delete document.body.dataset.beat;
    $("#live .text").textContent = held ? "Held while you write" : "Live";
    ages();
    load();
  }
  function live() {
    const query = document.body.dataset.live, light = $("#live");
    if (!query || !light) return;
    let source = null, timer = 0, running = false, again = false;
    const show = (on) => { light.hidden = false; light.classList.toggle("on", on); $(".text", light).textContent = on ? "Live" : "Reconnecting"; };
    const changed = () => {
      if (running) { again = true; return; }
      clearTimeout(timer);
      timer = setTimeout(async () => {
        running = true;
        try { await refresh(); } catch { /* the stream says when the hub is there again */ }
        running = false;
        if (again) { again = false; changed(); }
      }, 250);
    };
    const open = () => {
      source = new EventSource("/v1/events?follow=true&" + query);
      let before = false;
      source.onopen = () => { show(true); if (before) changed(); before = true; };
      source.onerror = () => show(false);
      source.onmessage = changed;
    };
    // Some things happen without an event: such a page says how often to look.
    const seconds = Number(document.body.dataset.beat);
    if (seconds) setInterval(() => { if (document.body.dataset.beat && source && source.readyState === EventSource.OPEN) changed(); }, seconds * 1000);
    // A page that nobody sees holds no connection.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) { if (source) source.close(); source = null; } else if (!source) { open(); changed(); }
    });
    addEventListener("pagehide", () => { if (source) source.close(); source = null; });
    if (!document.hidden) open();
  }

  // Parts that are fetched after the page.
  async function load() {
    for (const at of all("[data-load]")) {
      try {
        const resp = await fetch(at.dataset.load, { credentials: "same-origin", headers: unasked });
        const part = resp.ok && new DOMParser().parseFromString(await resp.text(), "text/html").querySelector("[data-part]");
        if (!part) continue;
        let shown = at.nextElementSibling;
        if (!shown || !shown.matches("[data-part]")) { shown = document.createElement("div"); at.after(shown); }
        shown.replaceWith(document.adoptNode(part));
      } catch { /* the link to it stays */ }
    }
  }

  // Charts.
  async function charts() {
    if (!window.uPlot) return;
    for (const at of all("[data-chart]")) {
      try { draw(at, await ask("GET", at.dataset.chart)); } catch (why) { at.textContent = why.message; }
    }
  }
  function draw(at, series) {
    if (!series || !series.length || !series[0].values) { at.textContent = "Nothing yet."; return; }
    const first = series[0], start = Date.parse(first.start) / 1000;
    const data = [first.values.map((_, i) => start + i * first.step_seconds), ...series.map((s) => s.values)];
    let plot = null;
    const days = first.values.length * first.step_seconds > 100000;
    const clock = (t) => new Date(t * 1000).toLocaleString("en-GB", days ? { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" } : { hour: "2-digit", minute: "2-digit" });
    const dashes = { fail: [7, 4], unknown: [2, 3] };
    const make = () => {
      const ink = getComputedStyle(at).color;
      const colour = (name) => { const k = $(".key.is-" + name, at.closest("figure")); return k ? getComputedStyle(k).color : ink; };
      const rule = getComputedStyle($(".card")).borderTopColor;
      const axis = { stroke: ink, grid: { stroke: rule, width: 1 }, ticks: { stroke: rule, width: 1 }, font: "12px system-ui, sans-serif" };
      if (plot) plot.destroy();
      plot = new uPlot({
        width: at.clientWidth, height: 190, legend: { show: false }, cursor: { y: false },
        scales: { y: { range: (_, low, high) => [Math.min(0, low), Math.max(1, high * 1.05)] } },
        axes: [{ ...axis, values: (_, at) => at.map(clock) }, { ...axis, size: 56 }],
        series: [{}, ...series.map((s) => ({ label: s.name, stroke: colour(s.name), width: 2, dash: dashes[s.name], spanGaps: false, points: { show: s.values.length < 3 } }))],
      }, data, at);
    };
    make();
    document.addEventListener("theme", make);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", make);
    new ResizeObserver(() => { if (plot.width !== at.clientWidth) plot.setSize({ width: at.clientWidth, height: 190 }); }).observe(at);
  }

  document.addEventListener("DOMContentLoaded", () => {
    themeButton();
    menuButton();
    rooms();
    account();
    forms();
    login();
    live();
    load();
    charts();
    setInterval(ages, 15000);
  });
})();
