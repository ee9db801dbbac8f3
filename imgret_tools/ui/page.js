// What all of the page shares in the browser: the language, the address that holds the search, and what is kept in this browser
// only (history, favourites, the tiles' size). Texts that come from outside are set as text, never as markup.
window.imgret = (() => {
  const PARAMETERS = ["library", "text", "not_text", "image", "measure", "space", "k", "where", "match", "also", "refine", "sort", "group"];
  const MOST = { history: 30, favourites: 200 };
  const one = (selector) => document.querySelector(selector);

  const kept = (name, otherwise) => {
    try { return JSON.parse(localStorage.getItem("imgret." + name)) ?? otherwise; } catch { return otherwise; }
  };
  const keep = (name, value) => {
    try { localStorage.setItem("imgret." + name, JSON.stringify(value)); } catch { /* full or forbidden */ }
  };
  const list = (name) => { const found = kept(name, []); return Array.isArray(found) ? found : []; };
  const write = (name, entries) => { keep(name, entries.slice(0, MOST[name])); draw(); };
  const address = (parameters) => {
    const url = new URL(location.href);
    for (const name of [...PARAMETERS, "offset"]) url.searchParams.delete(name); // older links have an offset
    for (const [name, value] of Object.entries(parameters || {})) url.searchParams.set(name, value);
    return url;
  };
  const make = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  };
  const thumbnail = (library, id) => `thumbnail/${encodeURIComponent(library)}/${encodeURIComponent(id)}`;

  // The language: of the address, or as chosen before, or the browser's. The address says it, so that the server knows.
  const asked = new URL(location.href), chosen = kept("language", null);
  if (!asked.searchParams.get("lang") && chosen) {
    asked.searchParams.set("lang", chosen);
    history.replaceState(history.state, "", asked);
  }
  const first = asked.searchParams.get("lang") || navigator.language || "en";
  let language = first.toLowerCase().startsWith("vi") ? "vi" : "en";
  document.documentElement.lang = language;
  function speak(other) {
    document.documentElement.lang = other;
    if (other === language) return;
    language = other;
    draw();
    document.dispatchEvent(new CustomEvent("imgret:language"));
  }
  function choose(other) {
    keep("language", other);
    const url = new URL(location.href);
    url.searchParams.set("lang", other);
    history.replaceState(history.state, "", url);
    speak(other);
  }

  const same = (library, id) => (entry) => entry.library === library && entry.id === id;
  function draw() {
    const past = one("#history .kept"), favourites = one("#favourites .kept");
    if (past) past.replaceChildren(...list("history").filter(({ parameters }) => parameters).map(({ time, title, parameters }) => {
      const when = make("time", { dateTime: new Date(time).toISOString(), textContent: new Date(time).toLocaleString(language) });
      return make("li", {}, make("a", { href: address(parameters).href, textContent: title }), " ", when);
    }));
    if (favourites) favourites.replaceChildren(...list("favourites").map(({ library, id, label, picture }) => {
      const away = make("button", { type: "button", textContent: "✕", ariaLabel: "✕ " + (label || id) });
      away.onclick = (event) => { event.stopPropagation(); write("favourites", list("favourites").filter((entry) => !same(library, id)(entry))); };
      const link = make("a", { href: address({ library, image: id }).href }, make("img", { src: picture, alt: "" }), label || id);
      return make("li", {}, link, away);
    }));
  }
  function searched(title, parameters) {
    const before = list("history")[0];
    if (before?.title === title && JSON.stringify(before.parameters) === JSON.stringify(parameters)) return;
    const equal = (entry) => JSON.stringify(entry.parameters) === JSON.stringify(parameters);
    write("history", [{ time: Date.now(), title, parameters }, ...list("history").filter((entry) => !equal(entry))]);
  }
  function favourite(library, { id, name }, shown) {
    const others = list("favourites").filter((entry) => !same(library, id)(entry));
    if (others.length < list("favourites").length) return write("favourites", others);
    if (!shown?.naturalWidth) return;
    const scale = Math.min(1, 160 / Math.max(shown.naturalWidth, shown.naturalHeight));
    const canvas = make("canvas", { width: shown.naturalWidth * scale, height: shown.naturalHeight * scale });
    canvas.getContext("2d").drawImage(shown, 0, 0, canvas.width, canvas.height);
    write("favourites", [{ library, id, label: name, picture: canvas.toDataURL("image/jpeg", 0.8) }, ...others]);
  }

  // From another tab to the search, without loading the page anew.
  function search(parameters) {
    one("#search_tab-button")?.click();
    history.pushState(null, "", address(parameters));
    dispatchEvent(new PopStateEvent("popstate"));
  }

  // Gradio names upload boxes by a text that nobody sees; who cannot see them needs what is there.
  let naming = 0;
  new MutationObserver(() => {
    naming ||= requestAnimationFrame(() => {
      naming = 0;
      for (const box of document.querySelectorAll("button.upload-container")) box.ariaLabel = box.innerText.trim() || box.ariaLabel;
    });
  }).observe(document, { childList: true, subtree: true });

  return {
    PARAMETERS, address, make, thumbnail, kept, keep, draw, searched, favourite, choose, search,
    isFavourite: (library, id) => list("favourites").some(same(library, id)),
    clear: () => write("history", []),
    language: speak,
    spoken: () => language,
  };
})();
