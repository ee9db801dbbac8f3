// The map, on a canvas: drag, pinch and wheel move it; point at a dot, or walk with the arrow keys, to see its picture; the lasso
// (or Shift and dragging) takes several to the search. Thumbnails are drawn where few pictures are in sight.
const [MARGIN, DEEPEST, NEAR, MOST_CIRCLES, MOST_THUMBNAILS, MOST_TAKEN] = [1.1, 60, 12, 4000, 120, 300];
let plot = null; // what is drawn, of the value that the server has sent
const pictures = new Map(), looked = new Map();
const { make } = window.imgret;

function begin(canvas) {
  const data = JSON.parse(element.querySelector(".imgret-plot").textContent), panel = element.querySelector(".imgret-point");
  const pen = canvas.getContext("2d"), count = data.ids.length, fingers = new Map();
  let [zoom, cx, cy, at, pinned, wanted, lasso, taken, moved, drawing] = [1, 0, 0, -1, false, null, null, null, 0, 0], sheet = null, numbers = null;

  const wide = () => canvas.clientWidth, high = () => canvas.clientHeight;
  const scale = () => (Math.min(wide(), high()) / 2 / MARGIN) * zoom;
  const placing = () => { // asks for the size of the canvas once for all dots
    const [grown, left, top] = [scale(), wide() / 2, high() / 2];
    return (index) => [left + (data.x[index] - cx) * grown, top - (data.y[index] - cy) * grown];
  };
  const place = (index) => placing()(index);
  const inSight = ([x, y], by = 30, right = wide() + by, bottom = high() + by) => x > -by && y > -by && x < right && y < bottom;
  function draw() {
    drawing ||= requestAnimationFrame(() => {
      drawing = 0;
      if (canvas.isConnected && wide()) paint();
    });
  }
  function paint() {
    const style = getComputedStyle(canvas), paper = style.backgroundColor, ink = style.color, dense = devicePixelRatio || 1;
    if (canvas.width !== Math.round(wide() * dense)) canvas.width = Math.round(wide() * dense);
    if (canvas.height !== Math.round(high() * dense)) canvas.height = Math.round(high() * dense);
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, wide(), high());
    const size = Math.min(7, (count > 5000 ? 1.5 : count > 1000 ? 2.5 : 4) * Math.sqrt(zoom)), seen = [], spots = [], put = placing();
    const [right, bottom] = [wide() + 30, high() + 30];
    for (let index = 0; index < count; index++) {
      const spot = put(index);
      if (inSight(spot, 30, right, bottom)) seen.push(index), spots.push(spot);
    }
    const close = seen.length <= MOST_THUMBNAILS, side = seen.length <= 40 ? 64 : 44, alpha = taken ? 0.35 : 0.85;
    if (seen.length > MOST_CIRCLES) squares(seen, spots, Math.max(1, Math.round(size * dense)), alpha);
    else {
      pen.globalAlpha = alpha;
      data.colours.forEach((colour, number) => {
        pen.fillStyle = colour;
        pen.beginPath();
        seen.forEach((index, one) => {
          if (data.colour[index] === number) pen.moveTo(spots[one][0] + size, spots[one][1]), pen.arc(...spots[one], size, 0, 7);
        });
        pen.fill();
      });
      pen.globalAlpha = 1;
    }
    if (close) for (const index of seen) thumbnail(index, side);
    if (taken) for (const index of taken) ring(index, close ? side / 2 : size, data.colours[data.colour[index]], 2);
    if (!close || zoom === 1) names(paper, ink);
    if (at >= 0) {
      if (close) thumbnail(at, side + 12);
      ring(at, close ? side / 2 + 6 : size + 2, ink, 2);
    }
    if (lasso?.length > 1) {
      pen.beginPath();
      for (const [x, y] of lasso) pen.lineTo(x, y);
      pen.closePath();
      Object.assign(pen, { strokeStyle: ink, lineWidth: 1.5, fillStyle: "#8883" });
      pen.fill();
      pen.stroke();
    }
    canvas.dataset.zoom = zoom.toFixed(2);
    canvas.dataset.at = at < 0 ? "" : data.ids[at];
  }
  function squares(seen, spots, half, alpha) { // so many that only their pixels can be set in the time of a frame
    const { width, height } = canvas, dense = devicePixelRatio || 1;
    if (sheet?.width !== width || sheet.height !== height) sheet = pen.createImageData(width, height);
    const pixels = new Uint32Array(sheet.data.buffer), tints = inks().map((ink) => (ink & 0xffffff) | (Math.round(255 * alpha) << 24));
    pixels.fill(0);
    for (let one = 0; one < seen.length; one++) {
      const left = Math.max(0, Math.round(spots[one][0] * dense) - half), right = Math.min(width, Math.round(spots[one][0] * dense) + half);
      const top = Math.max(0, Math.round(spots[one][1] * dense) - half), bottom = Math.min(height, Math.round(spots[one][1] * dense) + half);
      for (let y = top; y < bottom && left < right; y++) pixels.fill(tints[data.colour[seen[one]]], y * width + left, y * width + right);
    }
    pen.putImageData(sheet, 0, 0);
  }
  function inks() { // the colours as numbers
    if (!numbers) {
      const strip = Object.assign(document.createElement("canvas"), { width: data.colours.length, height: 1 }).getContext("2d");
      data.colours.forEach((colour, x) => { strip.fillStyle = colour; strip.fillRect(x, 0, 1, 1); });
      numbers = [...new Uint32Array(strip.getImageData(0, 0, data.colours.length, 1).data.buffer)];
    }
    return numbers;
  }
  function ring(index, size, colour, width) {
    const [x, y] = place(index);
    pen.beginPath();
    if (size > 20) pen.rect(x - size, y - size, 2 * size, 2 * size);
    else pen.arc(x, y, size, 0, 7);
    Object.assign(pen, { strokeStyle: colour, lineWidth: width });
    pen.stroke();
  }
  function thumbnail(index, side) {
    const id = data.ids[index], [x, y] = place(index);
    if (!pictures.has(id)) {
      const image = make("img", { src: window.imgret.thumbnail(data.library, id) });
      image.decode().then(draw, () => {});
      pictures.set(id, image);
    }
    const image = pictures.get(id), least = Math.min(image.naturalWidth, image.naturalHeight);
    if (!image.complete || !least) return;
    pen.drawImage(image, (image.naturalWidth - least) / 2, (image.naturalHeight - least) / 2, least, least, x - side / 2, y - side / 2, side, side);
    Object.assign(pen, { strokeStyle: data.colours[data.colour[index]], lineWidth: 2 });
    pen.strokeRect(x - side / 2, y - side / 2, side, side);
  }
  function names(paper, ink) {
    Object.assign(pen, { font: "600 13px system-ui, sans-serif", textAlign: "center", textBaseline: "middle", lineWidth: 4, lineJoin: "round", strokeStyle: paper, fillStyle: ink });
    const there = [];
    for (const [name, x, y] of data.names) { // the largest first; what would lie over another is left out till there is room
      const [left, top] = [wide() / 2 + (x - cx) * scale(), high() / 2 - (y - cy) * scale()], half = pen.measureText(name).width / 2 + 4;
      if (!inSight([left, top], 0) || there.some(([l, t, h]) => Math.abs(l - left) < h + half && Math.abs(t - top) < 18)) continue;
      there.push([left, top, half]);
      pen.strokeText(name, left, top);
      pen.fillText(name, left, top);
    }
  }

  function nearest(x, y) {
    let best = -1, least = NEAR;
    for (let index = 0, put = placing(); index < count; index++) {
      const [left, top] = put(index), far = Math.hypot(left - x, top - y);
      if (far < least) [best, least] = [index, far];
    }
    return best;
  }
  async function show(index) {
    if (index === at && panel.firstChild) return;
    at = index;
    draw();
    const id = (wanted = data.ids[index]);
    await new Promise((later) => setTimeout(later, 60));
    if (wanted !== id) return;
    if (!looked.has(id)) looked.set(id, await server.look([data.library, id]));
    const found = looked.get(id);
    if (wanted !== id || !found) return;
    panel.replaceChildren(...(found.picture ? [make("img", { src: found.picture, alt: found.label })] : []), make("span", { textContent: found.label }), way(data.words.more, { library: data.library, image: id }));
  }
  function way(textContent, parameters) {
    const link = make("a", { textContent, href: window.imgret.address(parameters).href });
    link.onclick = (event) => {
      if (event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      window.imgret.search(parameters);
    };
    return link;
  }
  function take(path) {
    const inside = (x, y) => path.reduce((is, [px, py], i) => {
      const [qx, qy] = path[(i || path.length) - 1];
      return (py > y) !== (qy > y) && x < ((qx - px) * (y - py)) / (qy - py) + px ? !is : is;
    }, false);
    const put = placing(), found = data.ids.map((_, index) => index).filter((index) => inside(...put(index)));
    taken = found.length ? found : null;
    panel.replaceChildren();
    wanted = null;
    at = -1;
    draw();
    if (!taken) return;
    const mean = (axis) => taken.reduce((sum, index) => sum + axis[index], 0) / taken.length, [x, y] = [mean(data.x), mean(data.y)];
    const far = (index) => Math.hypot(data.x[index] - x, data.y[index] - y), shown = [...taken].sort((a, b) => far(a) - far(b)).slice(0, MOST_TAKEN);
    const text = (shown.length < taken.length ? data.words.take_some : data.words.take).replace("{count}", taken.length).replace("{shown}", shown.length);
    const few = make("div", { className: "imgret-few" }, ...shown.slice(0, 9).map((index) =>
      make("img", { src: window.imgret.thumbnail(data.library, data.ids[index]), alt: "" })));
    panel.replaceChildren(few, way(text, { library: data.library, where: "id=" + shown.map((index) => data.ids[index]).join("|") }));
  }

  function zoomTo(next, x = wide() / 2, y = high() / 2) {
    const wx = cx + (x - wide() / 2) / scale(), wy = cy - (y - high() / 2) / scale();
    zoom = Math.min(DEEPEST, Math.max(1, next));
    cx = wx - (x - wide() / 2) / scale();
    cy = wy + (y - high() / 2) / scale();
    hold();
  }
  function hold() {
    [cx, cy] = zoom === 1 ? [0, 0] : [Math.min(1, Math.max(-1, cx)), Math.min(1, Math.max(-1, cy))];
    draw();
  }
  const acts = {
    nearer: () => zoomTo(zoom * 1.6),
    farther: () => zoomTo(zoom / 1.6),
    reset: () => { taken = null; pinned = false; zoomTo(1); },
    lasso: () => tool.setAttribute("aria-pressed", String(!takes())),
  };
  const tool = element.querySelector("[data-act=lasso]"), takes = () => tool.getAttribute("aria-pressed") === "true";
  for (const button of element.querySelectorAll("[data-act]")) button.onclick = acts[button.dataset.act];

  const spot = (event) => { const frame = canvas.getBoundingClientRect(); return [event.clientX - frame.left, event.clientY - frame.top]; };
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, spot(event));
    moved = 0;
    lasso = fingers.size === 1 && (takes() || event.shiftKey) ? [spot(event)] : null;
  };
  canvas.onpointermove = (event) => {
    const [x, y] = spot(event), before = fingers.get(event.pointerId);
    if (!before) {
      const index = pinned || event.pointerType === "touch" ? -1 : nearest(x, y);
      canvas.style.cursor = index >= 0 ? "pointer" : takes() ? "crosshair" : "grab";
      return index >= 0 ? show(index) : undefined;
    }
    moved += Math.hypot(x - before[0], y - before[1]);
    fingers.set(event.pointerId, [x, y]);
    if (lasso) lasso.push([x, y]);
    else if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, found]) => found);
      const grown = Math.hypot(x - other[0], y - other[1]) / (Math.hypot(before[0] - other[0], before[1] - other[1]) || 1);
      zoomTo(zoom * grown, (x + other[0]) / 2, (y + other[1]) / 2);
    } else if (moved > 4) {
      cx -= (x - before[0]) / scale();
      cy += (y - before[1]) / scale();
      hold();
    }
    draw();
  };
  canvas.onpointerup = canvas.onpointercancel = (event) => {
    if (!fingers.delete(event.pointerId)) return;
    const path = lasso;
    lasso = null;
    if (path && moved > 8) {
      pinned = true;
      tool.setAttribute("aria-pressed", "false");
      return take(path);
    }
    if (moved > 4 || event.type === "pointercancel") return draw();
    const index = nearest(...spot(event));
    pinned = index >= 0;
    taken = null;
    if (pinned) show(index);
    draw();
  };
  canvas.ondblclick = (event) => zoomTo(zoom * 2, ...spot(event));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomTo(zoom * Math.exp(-event.deltaY / 400), ...spot(event));
  }, { passive: false });
  canvas.onkeydown = (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const act = { "+": acts.nearer, "=": acts.nearer, "-": acts.farther, 0: acts.reset, Escape: acts.reset }[event.key];
    if (event.key === "Enter") panel.querySelector("a")?.click();
    if (act) act();
    if (!step || !count) return;
    event.preventDefault();
    if (at < 0) return show(0);
    let best = at, least = Infinity;
    for (let index = 0; index < count; index++) {
      const [dx, dy] = [data.x[index] - data.x[at], data.y[index] - data.y[at]];
      const along = dx * step[0] + dy * step[1], across = Math.abs(dx * step[1]) + Math.abs(dy * step[0]);
      if (index !== at && along > 0 && along + 2 * across < least) [best, least] = [index, along + 2 * across];
    }
    if (!inSight(place(best), -20)) [cx, cy] = [data.x[best], data.y[best]];
    show(best);
  };
  new ResizeObserver(draw).observe(canvas);
  plot = canvas;
  draw();
}

const look = () => {
  const canvas = element.querySelector(".imgret-map canvas");
  if (canvas && canvas !== plot) begin(canvas);
};
new MutationObserver(look).observe(element, { childList: true, subtree: true });
look();
