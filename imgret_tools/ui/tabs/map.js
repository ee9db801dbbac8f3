// The map: point at a dot, or walk with the arrow keys, to see its picture; click or Enter pins it with its link; the wheel zooms.
const shown = new Map();
let pinned = false, wanted = null;

const panel = () => element.querySelector(".imgret-point");
const dot = (target) => target.closest?.("circle[data-id]");

async function show(circle) {
  const map = element.querySelector("svg");
  element.querySelector("circle.at")?.classList.remove("at");
  circle.classList.add("at");
  circle.parentNode.append(circle);
  const id = (wanted = circle.dataset.id);
  await new Promise((later) => setTimeout(later, 60));
  if (wanted !== id) return;
  if (!shown.has(id)) shown.set(id, await server.look([map.dataset.library, id]));
  const found = shown.get(id);
  if (wanted !== id || !found) return;
  const picture = Object.assign(document.createElement("img"), { src: found.picture, alt: found.label });
  const name = Object.assign(document.createElement("span"), { textContent: found.label });
  const link = Object.assign(document.createElement("a"), { textContent: map.dataset.more });
  link.href = `${location.pathname}?${new URLSearchParams({ library: map.dataset.library, image: id })}`;
  panel().replaceChildren(picture, name, link);
}

element.addEventListener("mouseover", ({ target }) => dot(target) && !pinned && show(dot(target)));
element.addEventListener("click", ({ target }) => {
  if (target.closest(".imgret-point")) return;
  pinned = Boolean(dot(target));
  if (pinned) show(dot(target));
});
element.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (event.key === "Enter") panel().querySelector("a")?.click();
  if (!step) return;
  event.preventDefault();
  const place = (circle) => [circle.cx.baseVal.value, circle.cy.baseVal.value];
  const circles = [...element.querySelectorAll("circle[data-id]")], here = element.querySelector("circle.at");
  if (!here) return circles.length && show(circles[0]);
  const [x, y] = place(here);
  let best = null, least = Infinity;
  for (const circle of circles) {
    const [along, across] = [0, 1].map((turn) => {
      const [dx, dy] = [place(circle)[0] - x, place(circle)[1] - y];
      return turn ? Math.abs(dx * step[1]) + Math.abs(dy * step[0]) : dx * step[0] + dy * step[1];
    });
    if (circle !== here && along > 0 && along + 2 * across < least) [best, least] = [circle, along + 2 * across];
  }
  if (best) show(best);
});
element.addEventListener("wheel", (event) => {
  const map = event.target.closest?.("svg");
  if (!map) return;
  event.preventDefault();
  const box = map.viewBox.baseVal, frame = map.getBoundingClientRect(), factor = event.deltaY < 0 ? 0.8 : 1.25;
  const width = Math.min(2.2, Math.max(0.05, box.width * factor));
  const [u, v] = [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
  box.x += (box.width - width) * u;
  box.y += (box.height - width) * v;
  box.width = box.height = width;
  for (const circle of map.querySelectorAll("circle")) circle.setAttribute("r", 0.016 * Math.sqrt(width / 2.2));
}, { passive: false });
