// What the pages do beyond HTML. One module, no framework, no build, no code made from text.
//
// Everything here is an enhancement: each link and form works without it, and where a request made here fails, the
// browser follows the link instead. Listeners sit on the document, so that markup that arrives later needs no wiring.
// Markup speaks to this file through data- attributes only; what each one means stands where it is read.
//
// HTML that arrives is parsed by DOMParser, which runs no script, and comes from this origin only (the page's policy
// says connect-src 'self'). Text is set as text. Looks are classes: the policy forbids style attributes.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const page = document.body.dataset;
const base = page.base ?? "";

// The address this document was made for. location.href differs while a plan stands open in the dialog.
const withoutHash = (url) => url.split("#")[0];
const home = withoutHash(location.href);

const isPlainClick = (event) => event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);

/** Says a sentence to screen readers. What stands behind a modal dialog is not read out, so the dialog has its own. */
function say(text) {
  const dialog = $("dialog[open]");
  let region = dialog ? $("output.sr", dialog) : $("#say");
  if (!region) {
    region = document.createElement("output");
    region.className = "sr";
    (dialog ?? document.body).append(region);
  }
  region.textContent = "";
  setTimeout(() => { region.textContent = text; }, 60); // a change is read out, a region that arrives with text is not
}

/** Parses an answer. Table rows need a table around them, or the parser drops their tags. */
function parse(html) {
  const rows = /^\s*<tr[\s>]/i.test(html);
  return new DOMParser().parseFromString(rows ? `<table>${html}</table>` : html, "text/html");
}

/** Fetches a part of a page. A redirect means a login page or the like: not what was asked for. */
async function fetchPart(url, kind, headers = {}, signal = undefined) {
  const answer = await fetch(url, { headers: { "X-Fragment": kind, ...headers }, cache: "no-store", signal });
  if (answer.status === 304) return { answer, html: null };
  if (!answer.ok || answer.redirected) throw new Error(`${url} answered ${answer.status}`);
  return { answer, html: await answer.text() };
}

// --- dialogs --------------------------------------------------------------------------------------------------------
// A link with [data-dialog] leads to a page of its own (a plan). Here the same page is fetched as a fragment, shown in
// <dialog id="dialog">, and its address put into the address bar: a reload, a bookmark or a colleague gets the page.
// Closing it, in whichever way, goes back in the history, and the focus returns to what opened it.

const sheet = $("#dialog");
let opener = null; // what to give the focus back to
let opening = null; // the request under way; the newest wins

async function openPlan(url, { from = null, historyIsSet = false } = {}) {
  opening?.abort();
  opening = new AbortController();
  from?.setAttribute("aria-busy", "true");
  try {
    const { html } = await fetchPart(url, "dialog", {}, opening.signal);
    fillSheet(parse(html).body);
    if (!historyIsSet) {
      const state = { dialog: true };
      if (sheet.open) history.replaceState(state, "", url); // one plan led to another: Back closes both
      else history.pushState(state, "", url);
    }
    if (sheet.open) focusFirst(sheet);
    else {
      opener = from ?? document.activeElement;
      sheet.showModal(); // moves the focus: to [autofocus], else to the first control
    }
  } catch (error) {
    if (error.name !== "AbortError") location.assign(url);
  } finally {
    from?.removeAttribute("aria-busy");
  }
}

function fillSheet(content) {
  sheet.replaceChildren(...content.childNodes);
  const heading = $("h1, h2", sheet);
  if (!heading) return;
  heading.id ||= "dialog-heading";
  sheet.setAttribute("aria-labelledby", heading.id);
}

function focusFirst(root) {
  ($("[autofocus]", root) ?? $("a[href], button:not([disabled]), input:not([type=hidden])", root))?.focus();
}

/** Opens a dialog that stands in the page: the list of keys, the jump field. */
function openStanding(id) {
  const dialog = document.getElementById(id);
  if (!dialog || $("dialog[open]")) return;
  dialog.showModal();
  $("input:not([type=checkbox])", dialog)?.select();
}

addEventListener("click", (event) => {
  const link = event.target.closest("a[data-dialog]");
  if (link && sheet && isPlainClick(event)) {
    event.preventDefault();
    openPlan(link.href, { from: link });
  }
  const button = event.target.closest("[data-open]");
  if (button && isPlainClick(event) && document.getElementById(button.dataset.open)) {
    event.preventDefault();
    openStanding(button.dataset.open);
  }
  const closer = event.target.closest("dialog [data-close]");
  if (closer) {
    event.preventDefault(); // without the dialog it is a link back to the run
    closer.closest("dialog").close();
  }
});

// The backdrop is the dialog element outside its content. Pressing inside and letting go outside is selecting text.
let pressedOn = null;
addEventListener("pointerdown", (event) => { pressedOn = event.target; });
addEventListener("click", (event) => {
  if (event.target.nodeName === "DIALOG" && pressedOn === event.target) event.target.close();
});

// `close` does not bubble, hence the capture. Escape, the backdrop and [data-close] all end here.
addEventListener("close", (event) => {
  if (event.target !== sheet) return;
  sheet.replaceChildren();
  if (history.state?.dialog && withoutHash(location.href) !== home) history.back();
  const again = opener?.isConnected ? opener : $(`a[data-dialog][href="${CSS.escape(opener?.getAttribute?.("href") ?? "")}"]`);
  again?.focus();
  opener = null;
}, true);

addEventListener("popstate", () => {
  if (withoutHash(location.href) === home) sheet?.close();
  else if (history.state?.dialog && sheet) openPlan(location.href, { historyIsSet: true });
  else location.reload(); // this document was reloaded as the plan's own page; the entry before it is another page
});

// A second press while the first is under way would only be refused; spare the operator the refusal.
addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.ariaBusy === "true") event.preventDefault();
  form.ariaBusy = "true";
});
addEventListener("pageshow", () => $$("form[aria-busy]").forEach((form) => form.removeAttribute("aria-busy")));

// --- copying --------------------------------------------------------------------------------------------------------
// [data-copy="text"] copies the text, [data-copy-url="…"] fetches it first, [data-copy-link] copies this page's address,
// [data-copy-selected] the ids of the ticked rows. [data-copy-as="python"] turns JSON into a Python literal.

/** Numbers stay as they were written: through JSON.parse, an id of 20 digits would lose its last ones. */
function toPython(json) {
  const words = { true: "True", false: "False", null: "None" };
  try { JSON.parse(json); } catch { return json; }
  return json.replace(/"(?:[^"\\]|\\.)*"|true|false|null/g, (token) => words[token] ?? JSON.stringify(JSON.parse(token)));
}

/** Outside https the clipboard interface does not exist; desks inside a company are often reached by http. */
function copyWithoutClipboard(text) {
  const area = document.createElement("textarea");
  const focused = document.activeElement;
  area.className = "sr";
  area.value = text;
  ($("dialog[open]") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus({ preventScroll: true });
  if (!done) throw new Error("copying was refused");
}

async function copy(promised, button = null) {
  try {
    const text = await promised;
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else copyWithoutClipboard(text);
    say("Copied");
    showCopied(button);
  } catch {
    say("Could not copy");
  }
}

function showCopied(button) {
  const icon = button && $("use", button);
  button?.classList.add("done");
  if (icon?.getAttribute("href") === "#i-copy") icon.setAttribute("href", "#i-tick");
  setTimeout(() => {
    button?.classList.remove("done");
    if (icon?.getAttribute("href") === "#i-tick") icon.setAttribute("href", "#i-copy");
  }, 1600);
}

async function textToCopy({ copy: text, copyUrl, copyAs, copySelected }) {
  if (copyUrl) text = (await fetchPart(copyUrl, "text")).html;
  if (copySelected !== undefined) text = ticked().map((box) => box.value).join("\n");
  return copyAs === "python" ? toPython(text) : (text ?? home);
}

addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-copy-url], [data-copy-link], [data-copy-selected]");
  if (!button || !isPlainClick(event)) return;
  event.preventDefault();
  copy(textToCopy(button.dataset), button);
});

// --- theme ----------------------------------------------------------------------------------------------------------
// A cookie and not localStorage, so that the server writes data-theme into the page and it never flashes.

function toggleTheme() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
  root.dataset.theme = theme;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `wr_theme=${theme}; Path=${base || "/"}; Max-Age=31536000; SameSite=Lax${secure}`;
  say(theme === "dark" ? "Dark theme" : "Light theme");
}

addEventListener("click", (event) => {
  const button = event.target.closest("[data-theme-toggle]");
  if (!button) return;
  event.preventDefault();
  toggleTheme();
});

// --- selection ------------------------------------------------------------------------------------------------------
// Boxes in [data-row]; #all is the box in the head, #picked the count. The bar itself is shown by CSS (:has).

const boxes = () => $$("[data-row] input[type=checkbox]");
const ticked = () => boxes().filter((box) => box.checked);
let lastBox = null;

function countPicked() {
  const picked = ticked().length;
  const all = $("#all");
  if (all) {
    all.checked = picked > 0 && picked === boxes().length;
    all.indeterminate = picked > 0 && !all.checked;
  }
  const text = $("#picked");
  if (text) text.textContent = `${picked} selected`;
}

addEventListener("click", (event) => {
  const box = event.target;
  if (!(box instanceof HTMLInputElement) || box.type !== "checkbox") return;
  const list = boxes();
  if (box.id === "all") {
    for (const each of list) each.checked = box.checked;
    countPicked();
  } else if (list.includes(box)) {
    const here = list.indexOf(box);
    const there = list.indexOf(lastBox);
    if (event.shiftKey && there >= 0) {
      for (const each of list.slice(Math.min(here, there), Math.max(here, there) + 1)) each.checked = box.checked;
    }
    lastBox = box;
    countPicked();
  }
});

// --- rows -----------------------------------------------------------------------------------------------------------
// j and k walk over [data-row]. The row's own link (or the row, where it is a summary) gets the focus, so that Enter
// is the browser's own and a screen reader says where one is.

let currentRow = null;

function moveRow(by) {
  const rows = $$("[data-row]").filter((row) => row.checkVisibility?.() ?? true);
  if (!rows.length) return;
  const focused = rows.findIndex((row) => row.contains(document.activeElement));
  const from = focused >= 0 ? focused : rows.indexOf(currentRow);
  const row = rows[Math.max(0, Math.min(rows.length - 1, from < 0 ? 0 : from + by))];
  currentRow?.classList.remove("cur");
  currentRow = row;
  row.classList.add("cur");
  rowTarget(row)?.focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}

const rowTarget = (row) => (row.matches("summary, a") ? row : $("summary, a[href]", row));

function toggleRow(withRange) {
  const row = document.activeElement.closest?.("[data-row]") ?? currentRow;
  const box = row?.isConnected && $("input[type=checkbox]", row);
  box?.dispatchEvent?.(new MouseEvent("click", { bubbles: true, cancelable: true, shiftKey: withRange }));
}

/** Opens the [data-error] after the one that holds the focus; after the last comes the first. */
function nextError() {
  const errors = $$("details[data-error]");
  const here = errors.findIndex((error) => error.contains(document.activeElement));
  const error = errors[(here + 1) % errors.length];
  if (!error) return;
  error.open = true;
  rowTarget(error).focus({ preventScroll: true });
  error.scrollIntoView({ block: "nearest" });
}

// [data-must="text"]: the form is not sent before the field says it. The server looks as well.
addEventListener("input", (event) => {
  const { must } = event.target.dataset;
  if (must) event.target.setCustomValidity(event.target.value.trim() === must ? "" : `Type ${must}`);
});

// --- keys -----------------------------------------------------------------------------------------------------------
// A letter only ever opens something; it never acts. [data-key="r"] is clicked by r, [data-go="o"] by g and o.
// Single keys can be switched off (WCAG 2.1.4); Ctrl K and the buttons remain.

const FIXED_KEYS = {
  j: () => moveRow(1),
  k: () => moveRow(-1),
  x: () => toggleRow(false),
  X: () => toggleRow(true),
  e: nextError,
  t: toggleTheme,
  "?": () => openStanding("keys"),
  "/": () => ($("[data-filter]") ? $("[data-filter]").focus() : openStanding("jump")),
};
let gPressedAt = -Infinity;

const isTyping = (node) => node.closest?.("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");

function pressKey(key) {
  if (performance.now() - gPressedAt < 1200) {
    gPressedAt = -Infinity;
    return click(`[data-go="${CSS.escape(key)}"]`);
  }
  if (key === "g") {
    gPressedAt = performance.now();
    return true;
  }
  if (click(`[data-key="${CSS.escape(key)}"]`)) return true;
  FIXED_KEYS[key]?.();
  return key in FIXED_KEYS;
}

function click(selector) {
  const target = $$(selector).find((node) => (node.checkVisibility?.() ?? true) && !node.matches(":disabled, [aria-disabled=true]"));
  if (target?.matches("a[data-dialog]")) target.focus({ preventScroll: true }); // the focus comes back to it
  target?.click();
  return Boolean(target);
}

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing) return;
  if (event.key.toLowerCase() === "k" && (event.metaKey || event.ctrlKey) && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    openStanding("jump");
    return;
  }
  const isChord = (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph"); // [ is AltGr 8 on some
  if (isChord || page.keys === "off" || event.key.length !== 1 || isTyping(event.target) || $("dialog[open]")) return;
  const isLetter = /^\p{L}$/u.test(event.key); // with caps lock on, r must not become R: that is another plan
  const key = !isLetter ? event.key : event.shiftKey ? event.key.toUpperCase() : event.key.toLowerCase();
  if (pressKey(key)) event.preventDefault();
});

function showKeysSwitch() {
  const text = `Single letters are ${page.keys}`;
  for (const button of $$("[data-keys-toggle]")) button.textContent = text;
  return text;
}

addEventListener("click", (event) => {
  if (!event.target.closest("[data-keys-toggle]")) return;
  page.keys = page.keys === "off" ? "on" : "off";
  try { localStorage.setItem("wr_keys", page.keys); } catch { /* storage is forbidden: holds for this page only */ }
  say(showKeysSwitch());
});

// --- folds that load their content ----------------------------------------------------------------------------------
// details[data-load="URL"] fetches its content when it is first opened and puts it into its [data-into].

async function load(fold) {
  const place = $("[data-into]", fold);
  if (!place || fold.dataset.loaded) return;
  fold.dataset.loaded = "busy";
  place.setAttribute("aria-busy", "true");
  try {
    const { html } = await fetchPart(fold.dataset.load, "part");
    place.replaceChildren(...parse(html).body.childNodes);
    fold.dataset.loaded = "yes";
  } catch {
    delete fold.dataset.loaded; // what stood there stays, a link to the step's own page among it
    say("Could not load");
  }
  place.removeAttribute("aria-busy");
}

addEventListener("toggle", (event) => {
  if (event.target.matches?.("details[data-load]") && event.target.open) load(event.target);
}, true);

// --- live: what changed is put in place -----------------------------------------------------------------------------
// Nodes that stay the same stay: replacing a section whole would lose the focus, selected text, open folds and the
// place of a running animation. What the reader owns is left alone: open folds, ticks, typed text.

const READERS_OWN = new Set(["open", "aria-busy"]);

function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeName !== fresh.nodeName || keyOf(old) !== keyOf(fresh)) {
    old.replaceWith(fresh);
    return;
  }
  if (!(old instanceof Element)) {
    old.data = fresh.data;
    return;
  }
  const mustLoad = fresh.matches("details[data-load]") && keepLoaded(old, fresh);
  morphAttributes(old, fresh);
  morphChildren(old, fresh);
  if (!mustLoad) return;
  delete old.dataset.loaded;
  if (old.open) load(old);
}

/** Keeps what a fold loaded, of which the answer has no more than a link. Returns whether it has to be loaded again. */
function keepLoaded(old, fresh) {
  if (!old.open && !old.dataset.loaded) return false;
  $("[data-into]", fresh).replaceWith($("[data-into]", old).cloneNode(true));
  return !old.dataset.loaded || !$("summary", old).isEqualNode($("summary", fresh));
}

const keyOf = (node) => node.id || node.dataset?.run || node.dataset?.step || "";

function morphAttributes(old, fresh) {
  const isCurrent = old.classList.contains("cur");
  for (const { name } of [...old.attributes]) { // data- attributes that the answer lacks may be an extension's, or ours
    if (!fresh.hasAttribute(name) && !READERS_OWN.has(name) && !name.startsWith("data-")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (!READERS_OWN.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (isCurrent) old.classList.add("cur");
}

function morphChildren(old, fresh) {
  const keyed = new Map([...old.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const same = keyed.get(keyOf(child));
    if (same && same !== place) old.insertBefore(same, place);
    else if (place && !same && keyOf(place)) { // something new stands before a known one
      old.insertBefore(child, place);
      continue;
    } else if (!place) {
      old.append(child);
      continue;
    }
    const next = (same ?? place).nextSibling;
    morph(same ?? place, child);
    place = next;
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

/** Puts every [data-live] part of an answer over the one with its id. A part that says [data-announce] is read out. */
function putLive(answer) {
  const announcement = () => $$("[data-announce]").map((node) => node.dataset.announce || node.textContent.trim()).join(". ");
  const before = announcement();
  for (const fresh of $$("[data-live][id]", answer)) {
    const old = document.getElementById(fresh.id);
    if (old && old !== fresh && old.dataset.live !== undefined) morph(old, fresh);
  }
  if (answer.title) document.title = answer.title;
  countPicked();
  if (announcement() && announcement() !== before) say(announcement());
}

function putRows(answer) {
  for (const fresh of $$("[data-run]", answer)) {
    const old = $(`[data-run="${CSS.escape(fresh.dataset.run)}"]`);
    if (old && old !== fresh) morph(old, fresh);
  }
  countPicked();
}

// --- live: what to fetch, and when ----------------------------------------------------------------------------------
// A notice only says that a run changed. Notices are gathered for 250 ms and then one request is made, one at a time,
// so a run with a hundred steps a second costs four requests a second at most.

const changed = new Set();
let everythingChanged = false;
let pageTag = null; // the ETag of the page's live parts
let waiting = 0;
let fetching = false;

function note(runId) {
  if (runId) changed.add(runId);
  else everythingChanged = true;
  waiting ||= setTimeout(refresh, 250);
}

async function refresh() {
  waiting = 0;
  if (fetching) {
    waiting = setTimeout(refresh, 250);
    return true;
  }
  fetching = true;
  const shown = $$("[data-run]").map((row) => row.dataset.run);
  const runs = everythingChanged ? shown : shown.filter((id) => changed.has(id));
  everythingChanged = false;
  changed.clear();
  try {
    if ($("[data-live-page]")) await refreshPage();
    else if (runs.length) await refreshRows(runs);
    return true;
  } catch {
    everythingChanged = true; // nothing is forgotten: the next notice fetches what this one could not
    return false;
  } finally {
    fetching = false;
  }
}

async function refreshPage() {
  const { answer, html } = await fetchPart(home, "live", pageTag ? { "If-None-Match": pageTag } : {});
  if (html === null) return;
  pageTag = answer.headers.get("ETag");
  putLive(parse(html));
}

async function refreshRows(ids) {
  const query = ids.map((id) => `run=${encodeURIComponent(id)}`).join("&");
  const { html } = await fetchPart(`${base}/rows?${query}`, "rows");
  if (html) putRows(parse(html));
}

/** New rows never push the list while somebody reads it: a pill says how many there are and loads them. */
function noteNew(count) {
  const pill = $("[data-new-pill]");
  if (!pill) return note(null);
  pill.textContent = count === 1 ? "1 new run" : `${count} new runs`;
  if (pill.hidden && count) say(pill.textContent); // once: at every run, it would drown everything else
  pill.hidden = !count;
}

// --- live: the connection -------------------------------------------------------------------------------------------

const indicator = $(".live");
let lostAt = null;
let pausedTimer = 0;

function connectionIsGood() {
  clearTimeout(pausedTimer);
  const wasPaused = indicator?.classList.contains("off");
  lostAt = null;
  indicator?.classList.remove("off");
  setLiveText(page.liveWord ?? "Live");
  if (wasPaused) say("Live again");
}

/** Ten seconds pass before the page says so: a deploy or a sleeping laptop reconnects sooner and alarms nobody. */
function connectionIsLost() {
  if (lostAt) return;
  lostAt = new Date();
  pausedTimer = setTimeout(() => {
    const time = lostAt.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: page.zone || undefined });
    const text = `Live paused since ${time}, retrying`;
    indicator?.classList.add("off");
    setLiveText(text);
    say(text);
  }, 10_000);
}

function setLiveText(text) {
  const place = indicator && ($("[data-live-text]", indicator) ?? $("span", indicator));
  if (place) place.textContent = text;
}

let source = null;
let lastId = "";
let retryTimer = 0;
let retryAfter = 3000;

function listen() {
  clearTimeout(retryTimer);
  if (source || document.hidden || !page.events) return;
  const url = new URL(page.events, location.href);
  if (lastId) url.searchParams.set("last", lastId); // a new EventSource cannot send Last-Event-ID itself
  source = new EventSource(url);
  source.addEventListener("open", () => {
    retryAfter = 3000;
    connectionIsGood();
  });
  source.addEventListener("error", streamFailed);
  for (const kind of ["message", "run", "new", "reset"]) source.addEventListener(kind, receive);
}

/** The browser reconnects by itself after a cut, but gives up after an answer like 503: too many streams. */
function streamFailed() {
  connectionIsLost();
  if (source?.readyState !== EventSource.CLOSED) return;
  unlisten();
  retryTimer = setTimeout(listen, retryAfter);
  retryAfter = Math.min(60_000, retryAfter * 2);
}

function unlisten() {
  source?.close();
  source = null;
  clearTimeout(retryTimer);
}

function receive(event) {
  if (event.lastEventId) lastId = event.lastEventId;
  let data = {};
  try { data = JSON.parse(event.data || "{}"); } catch { return; }
  const kind = data.kind ?? event.type;
  if (kind === "reset") note(null);
  else if (kind === "new") noteNew(data.count ?? 1);
  else if (data.id) note(data.id);
}

// Hosts that cannot hold a stream open (WSGI): the same parts by conditional GET.
async function poll() {
  if (!document.hidden) {
    everythingChanged = true;
    if (await refresh()) connectionIsGood();
    else connectionIsLost();
  }
  setTimeout(poll, 5000);
}

/** A hidden tab holds no stream: browsers allow six connections to a host, and operators open many tabs. */
function followVisibility() {
  if (document.hidden) unlisten();
  else if (!source) {
    if (!lastId) note(null); // nothing to resume from: whatever happened meanwhile must be looked up
    listen();
  }
}

function startLive() {
  if (page.live === "poll") setTimeout(poll, 5000);
  if (page.live !== "stream") return;
  listen();
  document.addEventListener("visibilitychange", followVisibility);
  addEventListener("pagehide", unlisten);
  addEventListener("pageshow", (event) => { if (event.persisted) followVisibility(); });
}

// --- JSON viewer ----------------------------------------------------------------------------------------------------
// The server renders the folds; here they are searched. Hits are painted by the highlight registry, which leaves the
// nodes alone (a <mark> would split text that live updates compare). Where it is missing, hits are still found.

const searches = new WeakMap(); // viewer -> { hits: [Range], at: number }

function findHits(viewer, wanted) {
  const hits = [];
  const walker = document.createTreeWalker($("[data-json]", viewer) ?? viewer, NodeFilter.SHOW_TEXT);
  while (walker.nextNode() && hits.length < 1000) {
    const node = walker.currentNode;
    const text = node.data.toLowerCase();
    for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
      const range = new Range();
      range.setStart(node, at);
      range.setEnd(node, Math.min(node.length, at + wanted.length));
      hits.push(range);
    }
  }
  return hits;
}

function paint(name, ranges) {
  if (CSS.highlights) CSS.highlights.set(name, new Highlight(...ranges));
}

function search(input) {
  const viewer = input.closest(".jv");
  const wanted = input.value.trim().toLowerCase();
  const hits = wanted ? findHits(viewer, wanted) : [];
  searches.set(viewer, { hits, at: -1 });
  for (const hit of hits) openAround(hit.startContainer.parentElement, viewer);
  paint("wr-hit", hits);
  paint("wr-at", []);
  showHit(viewer, hits.length ? 0 : -1, wanted);
}

function openAround(node, viewer) {
  for (let fold = node.closest("details"); fold && viewer.contains(fold); fold = fold.parentElement.closest("details")) fold.open = true;
}

function showHit(viewer, at, wanted = "?") {
  const found = searches.get(viewer);
  found.at = at;
  const text = !wanted ? "" : at < 0 ? "No hits" : `${at + 1} of ${found.hits.length}`;
  const count = $("[data-json-count]", viewer);
  if (count) count.textContent = text;
  if (text) say(text);
  if (at < 0) return;
  paint("wr-at", [found.hits[at]]);
  found.hits[at].startContainer.parentElement.scrollIntoView({ block: "nearest" });
}

addEventListener("input", (event) => {
  if (event.target.matches("[data-json-search]")) search(event.target);
});

addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.matches?.("[data-json-search]")) return;
  event.preventDefault();
  const viewer = event.target.closest(".jv");
  const found = searches.get(viewer);
  if (!found?.hits.length) return;
  const by = event.shiftKey ? -1 : 1;
  showHit(viewer, (found.at + by + found.hits.length) % found.hits.length);
});

addEventListener("click", (event) => {
  const folding = event.target.closest("[data-fold]");
  if (folding) {
    const isOpening = folding.dataset.fold === "open";
    const folds = $$("details", folding.closest(".jv"));
    for (const fold of folds) fold.open = isOpening || !fold.parentElement.closest(".jv details"); // the outermost stays
  }
  const key = event.target.closest(".jv [data-path]");
  if (key && getSelection().isCollapsed) {
    event.preventDefault(); // in a summary, a click on the key copies and does not fold
    copy(key.dataset.path);
  }
});

// --- completion in the query bar ------------------------------------------------------------------------------------
// #q names its fields and known values in data-fields and data-values; without them it stays a plain input.
// The pattern is the ARIA combobox with a list: the focus stays in the input, aria-activedescendant points.

// [data-chips] says that the whole query stands before the input as chips: the input then takes what is to be added.

const query = $("#q[data-fields]");
let kept = ""; // what the chips say
let options = []; // { insert, help }
let active = -1;

const asJson = (text) => { try { return JSON.parse(text); } catch { return {}; } };
const fields = asJson(query?.dataset.fields ?? "{}");
const values = asJson(query?.dataset.values ?? "{}");

/** The term the caret stands in: from the last space outside quotes. */
function wordAtCaret() {
  const before = query.value.slice(0, query.selectionStart);
  let from = 0;
  let isQuoted = false;
  for (let at = 0; at < before.length; at += 1) {
    if (before[at] === '"') isQuoted = !isQuoted;
    else if (before[at] === " " && !isQuoted) from = at + 1;
  }
  return { word: before.slice(from), from };
}

function proposals(word) {
  const [, minus, rest] = word.match(/^(-?)(.*)$/s);
  const colon = rest.indexOf(":");
  if (colon < 0) {
    const names = Object.keys(fields).filter((name) => name.startsWith(rest.toLowerCase()));
    return names.map((name) => ({ insert: `${minus}${name}:`, help: fields[name] }));
  }
  const field = rest.slice(0, colon);
  const listed = rest.slice(colon + 1).split(","); // a,b means a or b
  const begun = listed.pop().replaceAll('"', "").toLowerCase();
  const head = `${minus}${field}:${listed.map((value) => `${value},`).join("")}`;
  const known = (values[field] ?? []).filter((value) => value.toLowerCase().includes(begun) && value.toLowerCase() !== begun);
  return known.map((value) => ({ insert: head + (/[\s,"]/.test(value) ? `"${value}"` : value), shown: value, help: "", ends: true }));
}

function suggest(isAsked = false) {
  const { word } = wordAtCaret();
  closeOptions();
  options = word || isAsked ? proposals(word).slice(0, 12) : [];
  if (!options.length) return;
  listBox().replaceChildren(...options.map(optionNode));
  listBox().hidden = false;
  query.setAttribute("aria-expanded", "true");
  say(options.length === 1 ? "1 suggestion" : `${options.length} suggestions`);
}

function optionNode({ insert, shown, help }, index) {
  const item = document.createElement("li");
  item.id = `q-option-${index}`;
  item.role = "option";
  item.ariaSelected = "false";
  const name = document.createElement("b");
  name.textContent = shown ?? insert;
  item.append(name);
  if (help) item.append(" ", help);
  return item;
}

function listBox() {
  const existing = $("#q-options");
  if (existing) return existing;
  const list = document.createElement("ul");
  list.id = "q-options";
  list.className = "options";
  list.role = "listbox";
  list.ariaLabel = "Suggestions";
  list.hidden = true;
  (query.closest(".q") ?? query.parentElement).append(list);
  return list;
}

function point(by) {
  const items = $$("[role=option]", listBox());
  if (!items.length) return;
  items[active]?.setAttribute("aria-selected", "false");
  active = active < 0 && by < 0 ? items.length - 1 : (active + by + items.length) % items.length;
  items[active].setAttribute("aria-selected", "true");
  items[active].scrollIntoView({ block: "nearest" });
  query.setAttribute("aria-activedescendant", items[active].id);
}

function accept(index) {
  const { insert, ends } = options[index];
  const { from } = wordAtCaret();
  query.setRangeText(insert + (ends ? " " : ""), from, query.selectionStart, "end");
  if (ends) closeOptions();
  else suggest(); // a field was chosen: its values come next
}

function closeOptions() {
  options = [];
  active = -1;
  listBox().hidden = true;
  query.setAttribute("aria-expanded", "false");
  query.removeAttribute("aria-activedescendant");
}

/** Enter takes only what was pointed at, else it sends the form: what was typed is what is meant. Tab takes the first. */
function completionKey(event) {
  const isOpen = options.length > 0;
  if (event.key === "Backspace" && kept && !query.value) editWhole(event);
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (!isOpen) suggest(true);
    point(event.key === "ArrowDown" ? 1 : -1);
  } else if (isOpen && event.key === "Escape") {
    event.preventDefault();
    closeOptions();
  } else if (isOpen && event.key === "Enter" && active >= 0) {
    event.preventDefault();
    accept(active);
  } else if (isOpen && event.key === "Tab" && !event.shiftKey) {
    event.preventDefault();
    accept(Math.max(0, active));
  }
}

function keepChips() {
  if (query.dataset.chips === undefined || query.ariaInvalid === "true" || !$(".tok", query.form)) return;
  kept = query.value;
  query.value = "";
  query.form.addEventListener("formdata", (event) => event.formData.set("q", `${kept} ${query.value}`.trim()));
}

/** Backspace before the chips: the query becomes text again, as it was typed. */
function editWhole(event) {
  event.preventDefault();
  query.value = kept;
  kept = "";
  for (const chip of $$(".tok", query.form)) chip.remove();
}

function startCompletion() {
  keepChips();
  const pattern = { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": listBox().id };
  for (const [name, value] of Object.entries(pattern)) query.setAttribute(name, value);
  query.autocomplete = "off";
  query.addEventListener("input", () => suggest());
  query.addEventListener("keydown", completionKey);
  query.addEventListener("blur", closeOptions);
  listBox().addEventListener("pointerdown", (event) => event.preventDefault()); // the input keeps the focus
  listBox().addEventListener("click", (event) => {
    const item = event.target.closest("[role=option]");
    if (item) accept($$("[role=option]", listBox()).indexOf(item));
  });
}

// --- start ----------------------------------------------------------------------------------------------------------

document.documentElement.classList.add("js"); // shows what is hidden because it needs this file
try { page.keys = localStorage.getItem("wr_keys") ?? "on"; } catch { page.keys = "on"; }
showKeysSwitch();
countPicked();
addEventListener("pageshow", countPicked); // the browser restores ticks after this file ran
for (const fold of $$("details[data-load][open]")) load(fold);
if (query) startCompletion();
startLive();
