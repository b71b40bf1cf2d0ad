// Refuses a file over the server's limit before it is sent, with one sentence; the server enforces the limit as well.
(() => {
  const limit = MAX_MEGABYTES * 2 ** 20;
  const refuse = (event, files) => {
    const large = [...(files || [])].find((file) => file.size > limit);
    const upload = document.getElementById("upload");
    if (!upload || !upload.contains(event.target)) return;
    document.getElementById("upload-refused")?.remove();
    if (!large) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    if (event.target.value) event.target.value = "";
    const card = document.createElement("div");
    card.id = "upload-refused";
    card.className = "t4d-card t4d-error";
    card.setAttribute("role", "alert");
    card.textContent =
      `${large.name} has ${Math.round(large.size / 2 ** 20)} MB; at most MAX_MEGABYTES MB are accepted, ` +
      "so reduce its textures or triangles.";
    upload.parentElement.append(card);
  };
  addEventListener("change", (event) => refuse(event, event.target.files), true);
  addEventListener("drop", (event) => refuse(event, event.dataTransfer?.files), true);
})();
