// A muted, looping video that measures how long it has really played.
T4DStudy.player = (source, label, changed) => {
  const { h } = T4DStudy;
  const video = h("video", {
    src: source, muted: true, loop: true, playsinline: true, preload: "auto", disablepictureinpicture: true,
    "aria-label": label, tabindex: -1,
  });
  video.muted = true; // the attribute alone does not allow autoplay on an element made by a script
  const button = h("button", { type: "button", class: "study-play", "aria-label": `Pause ${label}` });
  const note = h("p", { class: "study-video-note", role: "alert", hidden: true });
  const again = h("button", { type: "button", class: "study-link", onclick: () => { note.hidden = true; video.load(); play(); } },
    "Load it again");
  const box = h("div", { class: "study-video" }, video, button, note);
  const player = { box, video, watched: 0 };

  const play = () => video.play().catch(() => {}); // where autoplay is not allowed the button stays
  player.toggle = () => (video.paused ? play() : video.pause());
  player.play = play;
  const shown = () => {
    box.classList.toggle("paused", video.paused);
    button.setAttribute("aria-label", `${video.paused ? "Play" : "Pause"} ${label}`);
  };
  for (const event of ["play", "pause", "loadeddata"]) video.addEventListener(event, shown);
  video.addEventListener("error", () => {
    note.replaceChildren("The video could not be loaded. ", again);
    note.hidden = false;
  });
  button.addEventListener("click", player.toggle);
  video.addEventListener("click", player.toggle);

  let last = performance.now();
  let position = -1;
  const timer = setInterval(() => {
    const now = performance.now();
    const moved = video.currentTime !== position;
    // A throttled timer of a hidden tab must not count minutes at once.
    if (moved && !video.paused && !document.hidden) {
      player.watched += Math.min(now - last, 400) / 1000;
      changed();
    }
    last = now;
    position = video.currentTime;
  }, 100);
  player.stop = () => { clearInterval(timer); video.pause(); video.removeAttribute("src"); video.load(); };
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play();
  shown();
  return player;
};

// Keeps several players at one moment of their loops.
T4DStudy.together = (players) => {
  if (players.length < 2) return () => {};
  const timer = setInterval(() => {
    const [first, ...others] = players.map((player) => player.video);
    if (first.paused || first.seeking || !first.duration) return;
    for (const other of others) {
      const apart = Math.abs(other.currentTime - first.currentTime);
      if (other.readyState > 2 && !other.paused && Math.min(apart, first.duration - apart) > 0.12)
        other.currentTime = first.currentTime;
    }
  }, 1000);
  return () => clearInterval(timer);
};
