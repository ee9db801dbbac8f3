// The search page. One state, as the address holds it; chips, form, address and results are drawn from it and nothing else.
// What comes from outside (names, labels, notices) is set as text, never as markup.
const USUAL = { measure: "cosine", space: "embedding", sort: "best", group: "none", k: "0", match: "weak", refine: "auto" };
const ORDERS = [["best", "best_first"], ["newest", "newest_first"], ["oldest", "oldest_first"], ["name", "name_first"], ["largest", "largest_first"]];
const keep = window.imgret, { PARAMETERS, make } = keep, one = (selector) => element.querySelector(selector), all = (selector) => [...element.querySelectorAll(selector)];
const say = (key, values = {}) =>
  (SETTINGS.words[keep.spoken()][key] || key).replace(/\{(\w+)[^}]*\}/g, (_, name) => values[name] ?? "");

let state = read(), answer = null, hits = [], turn = 0, described = null, at = -1, turning = false, sent = false, followed = null, anchor = -1;
const picked = new Map();
const board = element.closest("#board"), grid = one("#hits .grid-container"), dialog = one("#detail");

// The state

function read() {
  const given = new URLSearchParams(location.search), found = { library: SETTINGS.library };
  for (const name of PARAMETERS) if (given.get(name)) found[name] = given.get(name);
  return found;
}
function tidy(next) {
  return Object.fromEntries(PARAMETERS.map((name) => [name, String(next[name] ?? "").trim()])
    .filter(([name, value]) => value && value !== USUAL[name]));
}
function go(change) {
  const next = tidy({ ...state, ...change });
  if (dialog.open) dialog.close();
  const url = keep.address(next);
  if (history.state?.panel) history.replaceState(null, "", url);
  else if (url.href !== location.href) history.pushState(null, "", url);
  state = next;
  draw();
  return ask();
}
const searches = () => state.text || state.image || state.also;
const conditions = () => (answer && answer.of === JSON.stringify(state.where || "") ? answer.where : split(state.where || ""));
// Until the server has answered: as it parts filters where no value holds a comma before a field.
const split = (line) => line.split(/,\s*(?=[a-z0-9_]+\s*(?:[!<>]?=|[<>~]))/i).map((part) => part.trim()).filter(Boolean);
const field = (condition) => condition.match(/^\s*\w+/)?.[0].trim();

// What is asked of the server

async function call(name, request = {}) {
  try {
    return await server[name]({ language: keep.spoken(), ...request });
  } catch {
    return { error: say("unreachable") };
  }
}
async function ask(offset = 0) {
  const mine = (turn += offset ? 0 : 1);
  turning = true;
  if (!offset) {
    board.classList.add("asking");
    if (described?.of !== state.library + keep.spoken()) describe();
  }
  let found = await call("find", { state, offset });
  if (found.arriving && mine === turn) {
    one("#status").replaceChildren(make("p", { textContent: found.arriving }));
    found = await call("find", { state, offset, wait: true });
    described = null;
    describe();
  }
  if (mine !== turn) return;
  turning = false;
  board.classList.remove("asking");
  board.classList.toggle("refused", Boolean(found.error));
  if (found.error) return tell(found.error);
  if (offset) {
    hits.push(...found.hits);
    answer.more = found.more;
    lay(offset);
  } else {
    answer = { ...found, of: JSON.stringify(state.where || ""), asked: state.image };
    hits = found.hits;
    at = -1;
    one("#status").replaceChildren(make("p", { textContent: found.status }), ...found.notes.map((note) => make("p", { className: "note", textContent: note })));
    draw();
    lay(0);
    pick();
    if (found.title) keep.searched(found.title, tidy(state));
    if (followed !== found.library) trigger("input", { library: (followed = found.library) });
  }
  requestAnimationFrame(more);
}
function tell(text) {
  one("#status").replaceChildren(make("p", { textContent: text }));
  one("#status p").setAttribute("role", "alert");
  one("#status").scrollIntoView({ block: "nearest" });
}
async function describe() {
  const of = (described = { of: state.library + keep.spoken(), libraries: described?.libraries || [], facets: {}, words: [], pictures: [], coming: true }).of;
  const found = await call("describe", { state });
  if (found.error || described.of !== of) return;
  described = { ...found, of };
  draw();
}

// What is drawn

function speak() {
  for (const node of all("[data-say]")) node.textContent = say(node.dataset.say);
  for (const node of all("[data-hint]")) node.placeholder = say(node.dataset.hint);
  for (const node of all("[data-name]")) node.setAttribute("aria-label", say(node.dataset.name));
  for (const node of all("[data-title]")) node.title = say(node.dataset.title);
}
function draw() {
  const box = one("#query_text input"), libraries = described?.libraries || [];
  if (document.activeElement !== box || sent) box.value = state.text || "";
  sent = false;
  // Without a search the newest come first: no second choice for that.
  one("#sort").replaceChildren(...ORDERS.filter(([value]) => searches() || value !== "newest" || state.sort === "newest").map(([value, key]) =>
    make("option", { value, textContent: say(value === "best" && !searches() ? "newest_first" : key) })));
  for (const node of all("[data-state]")) {
    const value = node.matches("input, select, textarea") ? node : node.querySelector("input");
    if (document.activeElement !== value || value.tagName === "SELECT") value.value = state[node.dataset.state] ?? USUAL[node.dataset.state] ?? "";
  }
  const shelf = libraries.length || !state.library ? libraries : [[state.library, "…"]];
  one("#library").replaceChildren(...shelf.map(([name, count]) => make("option", { value: name, textContent: `${name} · ${count}` })));
  one("#library").value = state.library || "";
  for (const name of SETTINGS.facets) {
    const choices = described?.facets[name] || [], select = one(`#${name}`);
    one(`[data-facet=${name}]`).hidden = !choices.length;
    select.replaceChildren(make("option", { value: "", textContent: say("all") }), ...choices.map(([text, value]) => make("option", { value, textContent: text })));
    select.value = choices.find(([, value]) => conditions().includes(value))?.[1] || "";
  }
  const line = one("#where input");
  if (document.activeElement !== line) line.value = state.where || "";
  drawTries();
  drawChips();
  keep.draw();
}
function drawTries() {
  one("#trying").classList.toggle("coming", (!described || Boolean(described.coming)) && !searches());
  const tries = described && (described.words.length || described.pictures.length) && !searches();
  one("#trying").replaceChildren(...(tries ? [
    make("span", { textContent: say("try") }),
    ...described.words.map((word) => make("button", { type: "button", textContent: word, onclick: () => go({ text: word }) })),
    ...described.pictures.map(({ id, name, src }) => {
      const button = make("button", { type: "button", className: "picture", onclick: () => go({ image: id }) }, make("img", { src, alt: "" }));
      button.setAttribute("aria-label", say("more_like_this") + ": " + name);
      return button;
    }),
  ] : []));
}
function drawChips() {
  const chip = (text, change, picture) => {
    const away = make("button", { type: "button", textContent: "✕", onclick: () => go(change) });
    away.setAttribute("aria-label", `${say("remove")}: ${text}`);
    return make("li", {}, picture ? make("img", { src: picture, alt: "" }) : null, make("bdi", { textContent: text }), away);
  };
  const picture = state.image && answer?.asked === state.image ? answer.picture : null;
  const chips = [];
  if (state.image) chips.push(chip(picture?.name || say("image"), { image: "" }, picture?.src));
  if (state.text) chips.push(chip(`“${state.text}”`, { text: "" }));
  if (state.not_text) chips.push(chip(say("not_chip", { text: state.not_text }), { not_text: "" }));
  const parts = conditions();
  for (const part of parts) chips.push(chip(named(part), { where: parts.filter((other) => other !== part).join(", ") }));
  const extra = (state.also || "").split("\n").filter(Boolean);
  const part_of = (part) => {
    const [, not, id, weight] = part.match(/^(not_)?image=([0-9a-f]{12}(?:-\d+)?)(:.*)?$/) || [];
    return id ? [say(not ? "not_like" : "like_this") + (weight || ""), keep.thumbnail(state.library, id)] : [part];
  };
  for (const part of extra) {
    const [text, src] = part_of(part);
    chips.push(chip(text, { also: extra.filter((other) => other !== part).join("\n") }, src));
  }
  for (const name of ["measure", "space", "match", "refine", "k"])
    if (state[name]) chips.push(chip(`${say(name === "k" ? "at_most" : name)}: ${name === "match" ? say(state.match) : name === "refine" ? say("no") : state[name]}`, { [name]: "" }));
  one("#chips").replaceChildren(...chips);
}
function named(condition) {
  if (/^id=\w/.test(condition)) return say("chosen", { count: condition.split("|").length });
  const facet = Object.entries(described?.facets || {}).find(([, choices]) => choices.some(([, value]) => value === condition));
  if (!facet) return condition;
  const text = facet[1].find(([, value]) => value === condition)[0];
  return `${say({ label: "filter_label", taken: "filter_taken", camera: "filter_camera", size: "filter_size", in_folder: "filter_folder" }[facet[0]])}: ${text.replace(/ \(\d+\)$/, "")}`;
}
function shortened(name) {
  return name.length > 26 ? `${name.slice(0, 14)}…${name.slice(-10)}` : name;
}
function lay(from) {
  if (!from) grid.replaceChildren();
  grid.append(...hits.slice(from).flatMap(({ name, src, match, value, group, copies }, index) => {
    const caption = make("span", { className: "caption-label" }, make("bdi", { textContent: shortened(name) }), copies ? ` · ${copies}` : "");
    const shown = match ? make("span", { className: `match ${match}`, textContent: say(match) }) : null;
    const shows = make("button", { type: "button", title: match ? `${name} · ${value}` : name }, make("img", { src, alt: "", loading: from + index < 24 ? "eager" : "lazy", decoding: "async" }), caption, shown);
    shows.dataset.index = from + index;
    const check = make("button", { type: "button", className: "check", role: "checkbox", ariaChecked: "false", ariaLabel: `${say("select")}: ${name}` }, make("span", { ariaHidden: "true", textContent: "✓" }));
    const place = make("div", { className: "tile" }, shows, check);
    return state.group && (!(from + index) || hits[from + index - 1].group !== group) ? [heading(group), place] : [place];
  }));
  whole();
}
function heading(group) {
  const month = state.group === "month" && group ? new Date(`${group}-01T00:00`).toLocaleDateString(keep.spoken(), { month: "long", year: "numeric" }) : group;
  return make("h3", {}, make("bdi", { textContent: month || say(`of_no_${state.group}`) }), make("small", { textContent: answer.groups[group] ?? "" }));
}
const tiles = () => [...grid.querySelectorAll(".tile")];

function whole() {
  const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length, over = answer?.more && !state.group ? hits.length % columns : 0;
  tiles().forEach((tile, index) => (tile.hidden = index >= hits.length - over && hits.length > columns));
}
function more() {
  const below = one("#more_below").getBoundingClientRect();
  if (answer?.more && !turning && element.offsetParent && below.top < innerHeight + 800) ask(hits.length);
}

// Several pictures

function pick(indices = null, on = true) {
  if (!indices) picked.clear();
  for (const index of indices || []) on ? picked.set(hits[index].id, index) : picked.delete(hits[index].id);
  tiles().forEach((tile, index) => {
    const is = picked.has(hits[index].id);
    tile.classList.toggle("picked", is);
    tile.querySelector(".check").setAttribute("aria-checked", String(is));
  });
  grid.classList.toggle("picking", picked.size > 0);
  one("#picked").hidden = !picked.size;
  one("#picked_count").textContent = say("selected", { count: picked.size });
  one("#label_them").hidden = one("#zip_them").hidden = !SETTINGS.writable;
  one("#more_like_these").disabled = picked.size > SETTINGS.most_like;
  one("#more_like_these").title = picked.size > SETTINGS.most_like ? say("at_most_like", { count: SETTINGS.most_like }) : "";
  one("#favourite_them").setAttribute("aria-pressed", String(picked.size > 0 && !unkept().length));
  one("#all_labels").replaceChildren(...(described?.facets.label || []).map(([text]) => make("option", { value: text.replace(/ \(\d+\)$/, "") })));
}
function toggle(index, range) {
  const on = !picked.has(hits[index].id), from = range && anchor >= 0 ? anchor : index;
  pick(Array.from({ length: Math.abs(index - from) + 1 }, (_, step) => Math.min(index, from) + step), range || on);
  anchor = index;
}
const unkept = () => [...picked].filter(([id]) => !keep.isFavourite(answer.library, id));
async function favouriteThem() {
  const chosen = unkept().length ? unkept() : [...picked];
  for (const [, index] of chosen) {
    const image = tiles()[index].querySelector("img");
    image.loading = "eager"; // one that was never in sight
    await image.decode().catch(() => {});
    keep.favourite(answer.library, hits[index], image);
  }
  pick([]);
}
async function labelThem(label) {
  const found = await call("give_label", { library: answer.library, ids: [...picked.keys()], label });
  shut();
  if (found.error) return tell(found.error);
  renamed(found);
  pick();
  one("#status").replaceChildren(make("p", { textContent: found.told }));
}
async function zipThem() {
  board.classList.add("asking");
  const found = await call("pack", { library: answer.library, ids: [...picked.keys()] });
  board.classList.remove("asking");
  if (found.error) return tell(found.error);
  make("a", { href: found.url, download: found.name }).click();
  one("#status").replaceChildren(make("p", { textContent: found.told }));
}
function renamed({ labelled }) {
  for (const [id, label, name] of labelled) {
    const index = hits.findIndex((hit) => hit.id === id);
    if (index < 0) continue;
    Object.assign(hits[index], { label, name });
    tiles()[index].querySelector("bdi").textContent = shortened(name);
  }
  described = null;
  describe();
}

// The panel

const chosen = () => hits[at];
async function open(index) {
  if (!hits[index]) return;
  at = index;
  const hit = chosen();
  one("#detail_name").textContent = hit.name;
  one("#full_picture").replaceChildren(make("img", { src: hit.src, alt: hit.name }));
  for (const name of ["facts", "suggested", "labelled", "why_explained"]) one(`#${name}`).replaceChildren();
  one("#labelling").hidden = !SETTINGS.writable;
  one("#give_label input").value = hit.label;
  one("#not_like_this").hidden = !searches();
  one("#why").hidden = !searches();
  one("#previous").disabled = !index;
  one("#next").disabled = !hits[index + 1] && !answer.more;
  pressOriginal(false);
  pressFavourite();
  if (!dialog.open) {
    dialog.showModal();
    history.pushState({ panel: true }, "", location.href);
    one("#close_detail").focus();
  }
  const found = await call("panel", { library: answer.library, id: hit.id });
  if (chosen() !== hit) return;
  if (found.error || found.none) {
    one("#full_picture").replaceChildren(make("p", { textContent: found.error || found.none }));
    one("#full_picture p").setAttribute("role", "alert");
    if (found.error) return;
  } else one("#full_picture").replaceChildren(make("img", { src: found.picture, alt: found.name }));
  const facts = [
    ...(hit.match ? [[say("fact_match"), `${say(hit.match)} (${hit.closeness} %)`], [say("fact_score"), `${hit.value} (${answer.measure})`]] : []),
    ...found.facts,
  ];
  one("#facts").replaceChildren(make("table", {}, ...facts.map(([name, value]) => make("tr", {}, Object.assign(make("th", { textContent: name }), { scope: "row" }), make("td", { textContent: value })))));
  one("#labels").replaceChildren(...found.labels.map((value) => make("option", { value })));
  const others = found.suggested.filter(([label]) => label !== found.label);
  one("#suggested").replaceChildren(...(others.length ? [make("small", { textContent: say("suggested") + ": " }), ...others.map(([label, share]) =>
    make("button", { type: "button", textContent: `${label} (${share})`, onclick: () => label_(label) }))] : []));
  if (index + 8 > hits.length) more();
}
async function step(by) {
  if (at + by >= hits.length && answer.more) await ask(hits.length);
  open(at + by);
}
function close() {
  if (!dialog.open) return;
  dialog.close();
  if (history.state?.panel) history.back();
  tiles()[at]?.firstChild.focus();
}
async function label_(label) {
  const hit = chosen(), found = await call("give_label", { library: answer.library, ids: [hit.id], label });
  const told = make("small", { textContent: found.error || found.told });
  told.setAttribute("role", found.error ? "alert" : "status");
  one("#labelled").replaceChildren(told);
  if (found.error) return;
  renamed(found);
  one("#detail_name").textContent = hit.name;
  one("#give_label input").value = hit.label;
}
function pressFavourite() {
  const kept = chosen() && keep.isFavourite(answer.library, chosen().id);
  one("#favourite").setAttribute("aria-pressed", String(Boolean(kept)));
  one("#favourite").textContent = say(kept ? "favourite_not" : "favourite");
}
function pressOriginal(pressed) {
  one("#original_size").setAttribute("aria-pressed", String(pressed));
  one("#stage").classList.toggle("original", pressed);
}
async function original() {
  const pressed = one("#original_size").getAttribute("aria-pressed") !== "true", hit = chosen();
  pressOriginal(pressed);
  if (!pressed || hit.original) return;
  const found = await call("original", { library: answer.library, id: hit.id });
  if (found.error) return pressOriginal(false);
  hit.original = true;
  if (chosen() === hit) one("#full_picture img").src = found.picture;
}
async function why() {
  const hit = chosen(), into = one("#why_explained");
  into.replaceChildren(make("p", { textContent: say("why_asking") }));
  for (const regions of [false, true]) {
    const found = await call("explain", { state, id: hit.id, regions });
    if (chosen() !== hit || !dialog.open) return;
    if (found.error) {
      into.replaceChildren(make("p", { textContent: found.error }));
      return into.firstChild.setAttribute("role", "alert");
    }
    into.innerHTML = found.html; // escaped by the server
  }
}

// Pictures that arrive

async function receive(files) {
  const file = [...files].find((one) => one.type.startsWith("image/") || /\.\w+$/.test(one.name));
  if (!file) return;
  board.classList.add("asking");
  let found;
  try {
    const { path } = await upload(file);
    found = await call("receive", { path });
  } catch {
    found = { error: say("unreachable") };
  }
  board.classList.remove("asking");
  if (found.error) {
    board.classList.add("refused");
    return tell(found.error);
  }
  await go({ image: found.id });
  if (files.length > 1) one("#status").append(make("p", { className: "note", textContent: say("first_of_many", { count: files.length }) }));
}
const seen = () => element.isConnected && element.offsetParent !== null && !document.querySelector("dialog[open]");
const holdsFiles = (event) => seen() && [...(event.dataTransfer?.types || [])].includes("Files");
document.addEventListener("dragover", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  one("#dropping").hidden = false;
});
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) one("#dropping").hidden = true; });
document.addEventListener("drop", (event) => {
  one("#dropping").hidden = true;
  if (!holdsFiles(event)) return;
  event.preventDefault();
  receive(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  const files = event.clipboardData?.files;
  if (!seen() || !files?.length) return;
  event.preventDefault();
  receive(files);
});

// What a visitor does

one("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = one("#query_text input").value.trim();
  const url = SETTINGS.urls && /^https?:\/\/\S+$/.test(text);
  sent = true;
  go(url ? { image: text, text: "" } : { text });
});
one("#query_image input").addEventListener("change", ({ target }) => { receive([...target.files]); target.value = ""; });
one("#library").addEventListener("change", ({ target }) => {
  grid.replaceChildren();
  hits = [];
  go({ library: target.value, image: (state.image || "").startsWith("upload-") ? state.image : "", also: "", where: "" });
});
for (const name of SETTINGS.facets) one(`#${name}`).addEventListener("change", ({ target }) => {
  const own = (described.facets[name] || []).map(([, value]) => value);
  go({ where: [...conditions().filter((part) => !own.includes(part)), target.value].filter(Boolean).join(", ") });
});
one("#where input").addEventListener("change", ({ target }) => go({ where: target.value }));
for (const node of all("[data-state]")) node.addEventListener("change", ({ target }) => go({ [node.dataset.state]: target.value }));
one("#clear_history").addEventListener("click", () => keep.clear());
one("#copy_link").addEventListener("click", async ({ target }) => {
  try { await navigator.clipboard.writeText(location.href); } catch { prompt(say("copy_link"), location.href); }
  target.textContent = say((state.image || "").startsWith("upload-") ? "copied_upload" : "copied");
  target.classList.add("copied");
  setTimeout(() => { target.textContent = say("copy_link"); target.classList.remove("copied"); }, 6000);
});
for (const button of all("[data-kind]")) button.addEventListener("click", async () => {
  const found = await call("write", { state, kind: button.dataset.kind, count: hits.length });
  if (found.error) return tell(found.error);
  const link = make("a", { href: URL.createObjectURL(new Blob([found.content])), download: found.name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
grid.addEventListener("click", (event) => {
  const tile = event.target.closest(".tile"), index = tiles().indexOf(tile);
  if (!tile || held === "done") return (held = null);
  if (event.target.closest(".check") || picked.size || event.ctrlKey || event.metaKey || event.shiftKey) toggle(index, event.shiftKey);
  else open(index);
});
let held = null; // a finger that stays on a picture selects it
grid.addEventListener("pointerdown", (event) => {
  const tile = event.target.closest(".tile");
  clearTimeout(held);
  held = null;
  if (event.pointerType === "touch" && tile) held = setTimeout(() => { toggle(tiles().indexOf(tile)); held = "done"; }, 450);
});
for (const name of ["pointermove", "pointercancel", "pointerup"]) grid.addEventListener(name, (event) => {
  if (held === "done" || (name === "pointermove" && Math.hypot(event.movementX, event.movementY) < 4)) return;
  clearTimeout(held);
});
grid.addEventListener("contextmenu", (event) => { if (held) event.preventDefault(); });
one("#pick_none").addEventListener("click", () => pick());
one("#favourite_them").addEventListener("click", favouriteThem);
one("#zip_them").addEventListener("click", zipThem);
one("#more_like_these").addEventListener("click", () => go({ image: "", text: "", not_text: "", also: [...picked.keys()].map((id) => `image=${id}`).join("\n"), library: answer.library }));
one("#label_them form").addEventListener("submit", (event) => { event.preventDefault(); labelThem(one("#label_them input").value); });
element.addEventListener("click", (event) => {
  const fold = event.target.closest(".fold > button"), kept = event.target.closest(".kept a");
  if (kept && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    const given = new URL(kept.href).searchParams, next = {};
    for (const name of PARAMETERS) next[name] = given.get(name) || "";
    shut();
    go(next);
  } else if (fold) {
    const opening = fold.getAttribute("aria-expanded") !== "true";
    shut();
    fold.setAttribute("aria-expanded", String(opening));
    fold.nextElementSibling.hidden = !opening;
  }
});
function shut() {
  for (const button of all(".fold > button")) {
    button.setAttribute("aria-expanded", "false");
    button.nextElementSibling.hidden = true;
  }
}
document.addEventListener("click", ({ target }) => { if (target.isConnected && !target.closest?.(".fold")) shut(); });

one("#close_detail").addEventListener("click", close);
dialog.addEventListener("cancel", (event) => { event.preventDefault(); close(); });
dialog.addEventListener("click", ({ target }) => { if (target === dialog) close(); });
one("#previous").addEventListener("click", () => step(-1));
one("#next").addEventListener("click", () => step(1));
one("#more_like_this").addEventListener("click", () => go({ image: chosen().id, text: "", not_text: "", also: "", library: answer.library }));
one("#not_like_this").addEventListener("click", () => go({ also: [state.also, `not_image=${chosen().id}`].filter(Boolean).join("\n") }));
one("#favourite").addEventListener("click", () => { keep.favourite(answer.library, chosen(), one("#full_picture img")); pressFavourite(); });
one("#original_size").addEventListener("click", original);
one("#full_picture").addEventListener("click", original);
one("#compare_this").addEventListener("click", () => { const { id } = chosen(); close(); trigger("select", { library: answer.library, id }); });
one("#why").addEventListener("click", why);
one("#labelling").addEventListener("submit", (event) => { event.preventDefault(); label_(one("#give_label input").value); });
let swipe = null;
one("#stage").addEventListener("touchstart", ({ touches }) => { swipe = touches.length === 1 ? touches[0].clientX : null; }, { passive: true });
one("#stage").addEventListener("touchend", ({ changedTouches }) => {
  const moved = swipe === null ? 0 : changedTouches[0].clientX - swipe;
  if (Math.abs(moved) > 60 && !one("#stage").classList.contains("original")) step(moved < 0 ? 1 : -1);
}, { passive: true });

document.addEventListener("keydown", (event) => {
  if (!element.isConnected) return;
  const writing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key === "Escape" && !dialog.open) {
    if (all(".fold > button[aria-expanded=true]").length) shut();
    else if (picked.size) pick();
  }
  if (writing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && seen()) {
    event.preventDefault();
    one("#query_text input").focus();
  } else if (dialog.open && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
    event.preventDefault();
    step(event.key === "ArrowRight" ? 1 : -1);
  }
});
addEventListener("popstate", () => {
  if (!element.isConnected) return;
  if (dialog.open) dialog.close();
  const next = tidy(read());
  if (JSON.stringify(next) === JSON.stringify(tidy(state))) return;
  state = next;
  sent = true;
  draw();
  ask();
});
const size = one("#tile_size");
size.value = keep.kept("tile", innerWidth <= 640 ? 110 : 170);
const resize = () => { grid.style.setProperty("--tile", `${size.value}px`); whole(); };
size.addEventListener("input", () => { keep.keep("tile", Number(size.value)); resize(); more(); });
addEventListener("resize", () => { whole(); more(); });
addEventListener("scroll", more, { passive: true });
document.addEventListener("imgret:language", () => { speak(); described = null; draw(); ask(); });
document.addEventListener("imgret:libraries", () => { described = null; describe(); });

speak();
resize();
draw();
ask();
