// What the rater sees: information and consent, a page of the study, the end, and messages.
T4DStudy.screens = {
  welcome(settings, begin, preview) {
    const { h } = T4DStudy;
    const sheet = h("div", { class: "study-sheet" });
    sheet.innerHTML = settings.consent; // made by the server, with raw HTML switched off
    for (const link of sheet.querySelectorAll("a")) Object.assign(link, { target: "_blank", rel: "noopener noreferrer" });
    const agree = h("input", { type: "checkbox", id: "study-agree", onchange: () => (start.disabled = !agree.checked) });
    const start = h("button", { type: "submit", class: "study-primary", disabled: true }, "Start");
    const problem = h("p", { class: "study-problem", role: "alert", hidden: true });
    const submit = async (event) => {
      event.preventDefault();
      start.disabled = true;
      await begin((sentence) => { problem.textContent = sentence ?? ""; problem.hidden = !sentence; });
      start.disabled = !agree.checked;
    };
    const code = h("input", { type: "text", id: "study-code", autocomplete: "off", spellcheck: "false", maxlength: 64 });
    const resume = (event) => { event.preventDefault(); if (code.value.trim()) begin.resume(code.value.trim()); };
    return h("section", { class: "study-narrow" },
      h("div", { class: "study-card" },
        h("h1", { tabindex: -1 }, settings.title), sheet,
        settings.contact && h("p", { class: "study-contact" }, `Contact: ${settings.contact}`),
        preview
          ? h("p", { class: "study-problem" }, "This is a preview: accept the task first, then the study can start.")
          : h("form", { onsubmit: submit, class: "study-agree" },
              h("label", { for: "study-agree" }, agree, h("span", {}, settings.agree)), start, problem)),
      !preview && h("details", { class: "study-resume" },
        h("summary", {}, "I have started before and have a code"),
        h("form", { onsubmit: resume },
          h("label", { for: "study-code" }, "Your code"), code,
          h("button", { type: "submit" }, "Continue"))));
  },

  page(page, settings, rater) {
    const { h } = T4DStudy;
    const side = page.videos.length > 1;
    const given = rater.given(page);
    const note = h("p", { class: "study-note", role: "status", "aria-live": "polite" });
    const next = h("button", { type: "button", class: "study-primary study-next", "aria-describedby": "study-note" },
      page.index + 1 === page.pages ? "Finish" : "Next");
    note.id = "study-note";
    const screen = { players: [], visible: 0, busy: false, typing: null };
    screen.stopTyping = () => { clearTimeout(screen.typing); screen.typing = null; };
    screen.typed = () => { if (screen.typing !== null) { screen.stopTyping(); changed(); } };
    const changed = () => { refresh(); rater.draft(page, screen); };
    screen.form = new T4DStudy.Form(page, given.scores, settings.help, changed);
    // Less than a tick of the clock is no waiting: what the note no longer asks for must not hold the button back.
    const watchedLeft = () => Math.max(...screen.players.map((player) => page.min_watch_s - player.watched)) - 0.05;
    const refresh = () => {
      const rows = screen.form.missing.length;
      const left = screen.players.length ? Math.ceil(watchedLeft()) : 0;
      const todo = [];
      if (rows) todo.push(`${rows} ${rows === 1 ? "row needs" : "rows need"} a score`);
      if (left > 0) todo.push(`watch ${left} s more`);
      const sentence = todo.length ? `To go on: ${todo.join(", ")}` : "";
      next.classList.toggle("ready", !todo.length);
      next.setAttribute("aria-disabled", String(todo.length > 0 || screen.busy));
      if (note.textContent !== sentence && !screen.busy) note.textContent = sentence;
    };
    screen.comment = page.comments && h("textarea", {
      id: "study-comment", maxlength: settings.maxComment, rows: 2, disabled: !page.editable,
      oninput: () => { screen.stopTyping(); screen.typing = setTimeout(screen.typed, 600); },
    });
    if (screen.comment) screen.comment.value = given.comment;
    const results = page.videos.map(({ slot, media }, i) => {
      const label = side ? `Result ${slot}` : page.result ? `Result ${page.result}` : "Result";
      const player = T4DStudy.player(`media/${encodeURIComponent(media)}`, label, refresh);
      player.watched = given.watched;
      screen.players.push(player);
      return { label, box: player.box, grid: screen.form.grid(slot), i };
    });
    const apart = T4DStudy.together(screen.players);
    // What is chosen while a page is being sent would be shown and never stored.
    const freeze = (frozen) => {
      for (const { grid } of results) grid.inert = frozen;
      if (screen.comment) screen.comment.readOnly = frozen;
    };
    screen.submit = async () => {
      if (screen.busy) return;
      if (!page.editable) return rater.show(page.index + 1);
      if (screen.form.missing.length) return screen.form.complain();
      if (watchedLeft() > 0) return void next.classList.add("wait");
      screen.busy = true;
      freeze(true);
      next.setAttribute("aria-disabled", "true");
      note.textContent = "Saving …";
      const sentence = await rater.submit(page, screen);
      screen.busy = false;
      freeze(false);
      if (sentence) note.textContent = sentence;
    };
    next.addEventListener("click", screen.submit);
    next.addEventListener("animationend", () => next.classList.remove("wait"));
    const unlisten = T4DStudy.keys(screen);
    const timer = setInterval(() => { if (!document.hidden) screen.visible += 0.25; }, 250);
    screen.close = () => {
      clearInterval(timer);
      screen.stopTyping();
      unlisten();
      apart();
      screen.players.forEach((player) => player.stop());
    };
    const enlarge = h("dialog", { class: "study-large", onclick: () => enlarge.close() },
      h("img", { src: `media/${encodeURIComponent(page.reference)}`, alt: "Reference image, enlarged" }));
    const material = h("div", { class: "study-material" },
      h("figure", { class: "study-reference" },
        h("button", { type: "button", class: "study-zoom", "aria-label": "Enlarge the reference image", onclick: () => enlarge.showModal() },
          h("img", { src: `media/${encodeURIComponent(page.reference)}`, alt: "Reference image of the object" })),
        h("figcaption", {}, "Reference image")),
      h("div", { class: "study-prompt" }, h("h3", {}, "Text prompt"), h("blockquote", {}, page.prompt)), enlarge);
    const form = ({ label, grid }) => h("div", { class: "study-form" },
      h("h3", {}, side ? "Scores" : `Scores of ${label.toLowerCase()}`), grid);
    const comment = screen.comment && h("div", { class: "study-comment" },
      h("label", { for: "study-comment" }, "Comment (optional)"), screen.comment);
    const body = side
      ? h("div", { class: "study-side" }, material,
          h("div", { class: "study-results" }, ...results.map((one) =>
            h("section", { class: "study-result", "aria-label": one.label }, h("h3", {}, one.label), one.box, form(one)))), comment)
      : h("div", { class: "study-single" },
          h("section", { class: "study-result", "aria-label": results[0].label }, h("h3", {}, results[0].label), results[0].box),
          h("div", { class: "study-right" }, material, form(results[0]), comment));
    screen.node = h("section", { class: "study-page" },
      page.practice && h("p", { class: "study-practice" }, h("b", {}, "Practice. "), "These scores do not count; try everything out."),
      settings.practice > 0 && page.index === settings.practice &&
        h("p", { class: "study-practice" }, h("b", {}, "Practice is over. "), "From here on your scores count."),
      h("div", { class: "study-heading" }, h("h2", { tabindex: -1 }, page.title), h("p", {}, settings.instructions)),
      body,
      h("div", { class: "study-actions" },
        settings.back && page.index > 0
          ? h("button", { type: "button", class: "study-back", onclick: () => rater.show(page.index - 1) }, "Back") : h("span", {}),
        note, next),
      h("p", { class: "study-keys", "aria-hidden": "true" }, h("kbd", {}, "1"), "–", h("kbd", {}, String(page.levels)), " score the marked row · ",
        h("kbd", {}, "↑"), h("kbd", {}, "↓"), " change the row · ", h("kbd", {}, "Enter"), " next · ", h("kbd", {}, "Space"), " pause"));
    screen.form.at = Math.max(0, screen.form.rows.indexOf(screen.form.missing[0]));
    screen.form.rows[screen.form.at].group.classList.add("current");
    refresh();
    return screen;
  },

  done(finished, number, another, turk) {
    const { h } = T4DStudy;
    const copy = h("button", { type: "button", onclick: () => T4DStudy.copy(finished.code, copy) }, "Copy");
    return h("section", { class: "study-narrow" }, h("div", { class: "study-card study-done" },
      h("h1", { tabindex: -1 }, "Thank you!"),
      h("p", {}, "All your answers are stored. You may close this page."),
      finished.code && h("div", { class: "study-completion" },
        h("span", {}, "Your completion code"), h("code", { id: "study-completion" }, finished.code), copy),
      finished.redirect && h("a", { class: "study-primary", href: finished.redirect, rel: "noreferrer" },
        `Continue to ${new URL(finished.redirect).hostname}`),
      turk && h("form", { method: "post", action: turk.action },
        h("input", { type: "hidden", name: "assignmentId", value: turk.assignment }),
        h("input", { type: "hidden", name: "completionCode", value: finished.code ?? "" }),
        h("button", { type: "submit", class: "study-primary" }, "Submit to Mechanical Turk")),
      number,
      another && h("button", { type: "button", class: "study-link study-another", onclick: another }, "Start as another person")));
  },

  message(title, sentence, ...buttons) {
    const { h } = T4DStudy;
    return h("section", { class: "study-narrow" }, h("div", { class: "study-card" },
      h("h1", { tabindex: -1 }, title), h("p", { role: "alert" }, sentence),
      h("div", { class: "study-actions" }, ...buttons.map(([label, press]) =>
        h("button", { type: "button", class: "study-primary", onclick: press }, label)))));
  },
};
