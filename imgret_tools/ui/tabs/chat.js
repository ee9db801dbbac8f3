// A picture of an answer opens large in a dialog; Escape, the button or a click beside it closes it.
const dialog = document.createElement("dialog");
dialog.className = "imgret-large";
dialog.addEventListener("click", () => dialog.close());
document.body.append(dialog);

document.addEventListener("click", async ({ target }) => {
  const button = target.closest?.("#chat button[data-id]");
  if (!button || !element.isConnected) return;
  const found = await server.look([button.dataset.library, button.dataset.id]);
  if (!found) return;
  const picture = Object.assign(document.createElement("img"), { src: found.picture, alt: found.label });
  const close = Object.assign(document.createElement("button"), { textContent: "✕", autofocus: true });
  close.setAttribute("aria-label", document.documentElement.lang === "vi" ? "Đóng" : "Close");
  const link = Object.assign(document.createElement("a"), { textContent: found.label });
  link.href = `${location.pathname}?${new URLSearchParams({ library: button.dataset.library, image: button.dataset.id })}`;
  dialog.setAttribute("aria-label", found.label);
  dialog.replaceChildren(close, picture, link);
  if (!dialog.open) dialog.showModal();
});
