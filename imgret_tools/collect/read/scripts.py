"""The JavaScript that reads and moves a page; each is one function for playwright's `evaluate`."""

COLLECT = """
async ([placeholderWidth, placeholderHeight]) => {
  const loading = [...document.images].filter(image => !image.complete && image.loading !== 'lazy');
  const ended = image => new Promise(done => {
    image.addEventListener('load', done, {once: true});
    image.addEventListener('error', done, {once: true});
  });
  await Promise.race([Promise.all(loading.map(ended)), new Promise(done => setTimeout(done, 1000))]);
  const all = [];
  const walk = root => {
    for (const element of root.querySelectorAll('*')) {
      all.push(element);
      if (element.shadowRoot) walk(element.shadowRoot);
    }
  };
  walk(document);
  const link = element => { const a = element.closest('a[href]'); return a ? a.href : ''; };
  const license = element => {
    const box = element.closest('figure, li, article');
    const a = box && box.querySelector('a[rel~="license"]');
    return a ? a.href : '';
  };
  const attributes = element => Object.fromEntries([...element.attributes].map(a => [a.name, a.value]));
  const images = [];
  for (const element of all) {
    const box = element.getBoundingClientRect();
    if (element.tagName === 'IMG') {
      const unknown = (element.naturalWidth === placeholderWidth && element.naturalHeight === placeholderHeight
        && Math.round(box.width) === placeholderWidth) || !element.complete || !element.naturalWidth;
      const sources = element.parentElement && element.parentElement.tagName === 'PICTURE'
        ? [...element.parentElement.querySelectorAll('source')].map(attributes) : [];
      images.push({
        kind: 'img',
        src: element.getAttribute('src') || '',
        attributes: attributes(element),
        sources: sources,
        link: link(element),
        width: unknown ? +(element.getAttribute('width') || 0) || 0 : box.width,
        height: unknown ? +(element.getAttribute('height') || 0) || 0 : box.height,
        license: license(element),
      });
    } else {
      const image = getComputedStyle(element).backgroundImage;
      const match = image && image !== 'none' && image.match(/url\\(["']?(.*?)["']?\\)/);
      const waiting = !match && element.tagName !== 'SOURCE' && [...element.attributes].some(a => /^data-.*(bg|background)/.test(a.name));
      if (match || waiting) images.push({
        kind: 'background', src: match ? match[1] : '', link: link(element),
        attributes: waiting ? attributes(element) : {},
        width: box.width, height: box.height, license: license(element),
      });
    }
  }
  const contents = selector => [...document.querySelectorAll(selector)].map(meta => meta.content || '');
  for (const src of contents('meta[property="og:image"], meta[property="og:image:secure_url"]'))
    images.push({kind: 'og', src});
  const page = [...document.querySelectorAll('link[rel~="license"], a[rel~="license"]')]
    .find(element => !element.closest('figure, li, article'));
  return {
    base: document.baseURI,
    images,
    license: page ? page.href : contents('meta[name="dcterms.license"]')[0] || '',
    linked_data: [...document.querySelectorAll('script[type="application/ld+json"]')].map(script => script.textContent),
    robots: contents('meta[name="robots"], meta[name="imgret-collect"]'),
  };
}
"""

SCROLL = """
() => {
  let area = document.scrollingElement || document.documentElement;
  if (area.scrollHeight - area.clientHeight < 50) {
    for (const element of document.querySelectorAll('*')) {
      const room = element.scrollHeight - element.clientHeight;
      if (room > area.scrollHeight - area.clientHeight && /auto|scroll/.test(getComputedStyle(element).overflowY))
        area = element;
    }
  }
  const bottom = () => area.scrollTop + area.clientHeight >= area.scrollHeight - 2;
  const before = bottom();
  if (before) {  // a page shorter than the window still has listeners to wake, and observers look again
    area.scrollBy({top: -200, behavior: 'instant'});
    window.dispatchEvent(new Event('scroll'));
  }
  area.scrollBy({top: area.clientHeight * 0.9, behavior: 'instant'});
  return before && bottom();
}
"""

STATE = """
() => {
  const shown = [...document.images].map(image => image.getAttribute('src')).join('|').length;
  return [location.href, document.querySelectorAll('*').length, document.documentElement.scrollHeight, shown].join(' ');
}
"""

FIND_MORE = """
() => {
  const says = new RegExp('\\\\b(load|show|see|view|get)\\\\s+more\\\\b'
    + '|\\\\bmore\\\\s+(results|images|photos|pictures)\\\\b|xem thêm|tải thêm|hiển thị thêm', 'i');
  const named = /(load|show|view|see)[-_]?more|more[-_]?(btn|button)|btn[-_]?more/i;
  for (const element of document.querySelectorAll('button, a, [role="button"], input[type="button"]')) {
    const text = (element.innerText || element.value || element.getAttribute('aria-label') || '').trim();
    const names = `${element.id} ${element.getAttribute('class') || ''}`;
    if (!(text.length < 60 && says.test(text)) && !named.test(names)) continue;
    const box = element.getBoundingClientRect();
    if (element.disabled || !box.width || !box.height || getComputedStyle(element).visibility === 'hidden') continue;
    if (element.href && new URL(element.href, document.baseURI).origin !== location.origin) continue;
    return element;
  }
  return null;
}
"""
