// What the page does in the browser: the address that holds the search, history and favourites (kept in this browser only),
// keys, and the language of the document. Texts that come from outside are set as text, never as markup.
window.imgret = (() => {
  const PARAMETERS = ["library", "text", "not_text", "image", "measure", "space", "k", "where", "match", "also", "offset"];
  const MOST = { history: 30, favourites: 200 };
  const one = (selector) => document.querySelector(selector);

  const read = (name) => {
    try { return JSON.parse(localStorage.getItem("imgret." + name)) || []; } catch { return []; }
  };
  const write = (name, entries) => {
    try { localStorage.setItem("imgret." + name, JSON.stringify(entries.slice(0, MOST[name]))); } catch { /* full or forbidden */ }
    draw();
  };
  const address = (parameters) => {
    const url = new URL(location.href);
    for (const name of PARAMETERS) url.searchParams.delete(name);
    for (const [name, value] of Object.entries(parameters || {})) url.searchParams.set(name, value);
    return url;
  };
  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  function draw() {
    const history = one("#history .kept"), favourites = one("#favourites .kept");
    if (history) history.replaceChildren(...read("history").map(({ time, title, parameters }) => {
      const when = element("time", { dateTime: new Date(time).toISOString(), textContent: new Date(time).toLocaleString(document.documentElement.lang) });
      const what = parameters ? element("a", { href: address(parameters).href, textContent: title }) : element("span", { textContent: title });
      return element("li", {}, what, " ", when);
    }));
    if (favourites) favourites.replaceChildren(...read("favourites").map(({ library, id, label, picture }) => {
      const away = element("button", { type: "button", textContent: "✕", ariaLabel: "✕ " + (label || id) });
      away.onclick = () => write("favourites", read("favourites").filter((kept) => kept.library !== library || kept.id !== id));
      const link = element("a", { href: address({ library, image: id }).href }, element("img", { src: picture, alt: label || id }), label || id);
      return element("li", {}, link, away);
    }));
  }

  function searched(told) {
    if (!told) return;
    const { title, parameters } = told, url = address(parameters);
    if (innerWidth <= 640) one("#status")?.scrollIntoView({ behavior: "smooth" });
    if (url.href !== location.href) history.pushState(null, "", url);
    if (!parameters.offset) {
      const repeatable = parameters.text || parameters.image || parameters.also ? parameters : null;
      const same = (entry) => entry.title === title && JSON.stringify(entry.parameters) === JSON.stringify(repeatable);
      write("history", [{ time: Date.now(), title, parameters: repeatable }, ...read("history").filter((entry) => !same(entry))]);
    }
  }

  function favourite() {
    const shown = one("#full_picture img"), { library, id, label } = one("#facts table")?.dataset || {};
    if (!shown || !id) return;
    const scale = Math.min(1, 160 / Math.max(shown.naturalWidth, shown.naturalHeight));
    const canvas = element("canvas", { width: shown.naturalWidth * scale, height: shown.naturalHeight * scale });
    canvas.getContext("2d").drawImage(shown, 0, 0, canvas.width, canvas.height);
    const others = read("favourites").filter((kept) => kept.library !== library || kept.id !== id);
    write("favourites", [{ library, id, label, picture: canvas.toDataURL("image/jpeg", 0.8) }, ...others]);
  }

  // Gradio calls hits "Thumbnail 1 of 12" and upload boxes by a text that nobody sees; who cannot see them needs what is there.
  function nameButtons() {
    for (const hit of hits()) hit.ariaLabel = hit.querySelector(".caption-label")?.textContent || hit.ariaLabel;
    for (const box of document.querySelectorAll("button.upload-container")) box.ariaLabel = box.innerText.trim() || box.ariaLabel;
  }

  const hits = () => [...document.querySelectorAll("#hits .grid-container button")];
  let selected = 0, naming = 0;
  new MutationObserver(() => {
    naming ||= requestAnimationFrame(() => { naming = 0; nameButtons(); });
  }).observe(document, { childList: true, subtree: true });
  document.addEventListener("click", ({ target }) => {
    const at = hits().indexOf(target.closest?.("#hits .grid-container button"));
    if (at >= 0) selected = at;
  });
  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest?.("input, textarea, select, [contenteditable]");
    const open = one("#detail")?.getClientRects().length && one("#close_detail");
    if (event.key === "/" && !writing) {
      event.preventDefault();
      one("#query_text textarea, #query_text input")?.focus();
    } else if (event.key === "Escape" && open) {
      open.click();
      hits()[selected]?.focus();
    } else if ((event.key === "ArrowRight" || event.key === "ArrowLeft") && open && !writing) {
      const next = hits()[selected + (event.key === "ArrowRight" ? 1 : -1)];
      if (next) { event.preventDefault(); next.click(); }
    }
  });
  addEventListener("popstate", () => location.reload());

  return {
    draw, searched, favourite,
    clear: () => write("history", []),
    copy: () => navigator.clipboard?.writeText(location.href),
    language: (chosen) => { document.documentElement.lang = chosen; draw(); },
  };
})();
