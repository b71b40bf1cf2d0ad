// One rater's way through the study. `kept` outlives the page: {code, outbox, watched, address}.
T4DStudy.Rater = class {
  constructor(root, settings, save) {
    const { h } = T4DStudy;
    this.settings = settings;
    this.save = save;
    this.progress = h("div", { class: "study-progress", hidden: true });
    this.main = h("main", {});
    this.saved = h("p", { class: "study-saved", role: "status", "aria-live": "polite" });
    this.later = h("details", { class: "study-later", hidden: true });
    root.replaceChildren(this.progress, this.main, h("footer", { class: "study-footer" }, this.saved, this.later));
    this.screen = null;
  }

  open(kept) {
    const address = new URL(location.href);
    const fragment = new URLSearchParams(address.hash.slice(1));
    const resume = fragment.get("resume") ?? address.searchParams.get("resume");
    address.searchParams.delete("resume");
    address.hash = "";
    if (resume) history.replaceState(null, "", address);
    const external = Object.fromEntries(
      this.settings.params.filter((name) => address.searchParams.has(name)).map((name) => [name, address.searchParams.get(name)]));
    // A laboratory's next participant comes with other parameters: then the browser's code is somebody else's.
    const same = !Object.keys(external).length || JSON.stringify(external) === JSON.stringify(kept.external);
    this.external = Object.keys(external).length ? external : (kept.external ?? {});
    this.turkSubmit = address.searchParams.get("turkSubmitTo") ?? (same ? kept.turkSubmit : null);
    this.code = resume ?? (same ? kept.code : null) ?? null;
    this.watched = kept.watched ?? {};
    this.outbox = new T4DStudy.Outbox([], () => this.#changed());
    this.outbox.adopt(kept.outbox ?? []);
    this.tabs = new T4DStudy.Tabs(this.settings.name, this.outbox, () => this.#elsewhere());
    addEventListener("pagehide", () => { this.#remember(); this.#keep(); });
    this.tabs.claim();
    return this.code ? this.resume(this.code) : this.#welcome();
  }

  async resume(code) {
    this.code = code;
    try {
      const { rater } = await T4DStudy.insist((sentence) => this.#problem(sentence), "join", code, {});
      this.number = rater.number;
      this.#keep();
      if (rater.phase === "consent") return this.#welcome();
      return rater.phase === "done" ? this.finish() : this.show(rater.page);
    } catch (refused) {
      const anew = () => { this.code = null; this.#keep(); this.#welcome(); };
      this.#put(T4DStudy.screens.message("This did not work", refused.message, ["Start without a code", anew]));
    }
  }

  async show(index) {
    this.#remember();
    try {
      const { page } = await T4DStudy.insist((sentence) => this.#problem(sentence), "page", this.code, index);
      const screen = T4DStudy.screens.page(page, this.settings, this);
      this.#put(screen.node, screen);
      this.#progress(page.index, page.pages);
      this.#keep();
    } catch (refused) {
      this.#put(T4DStudy.screens.message("This page cannot be shown", refused.message,
        ["Go to the first open page", () => this.resume(this.code)]));
    }
  }

  // Scores and comment of a page: unsent ones before those of the server.
  given(page) {
    const unsent = this.outbox.latest(page.token);
    const { scores, comment } = unsent ?? page;
    return { scores, comment, watched: Math.max(this.watched[page.token] ?? 0, page.answered ? page.min_watch_s : 0) };
  }

  draft(page, screen) {
    if (page.editable && !screen.busy) this.outbox.add(this.#entry(page, screen, true));
  }

  // A sentence where it could not be stored; else the next page is shown.
  async submit(page, screen) {
    screen.stopTyping();
    try {
      const ack = await this.outbox.add(this.#entry(page, screen, false));
      if (this.screen !== screen) return null;
      delete this.watched[page.token];
      await (ack.next_page === null ? this.finish() : this.show(ack.next_page));
      return null;
    } catch (refused) {
      return refused.message;
    }
  }

  async finish() {
    try {
      const { finished } = await T4DStudy.insist((sentence) => this.#problem(sentence), "finish", this.code);
      this.watched = {};
      this.#keep();
      const recruited = Object.keys(this.external).length > 0;
      const number = this.#number();
      this.#put(T4DStudy.screens.done(finished, number, recruited ? null : () => this.#anew(), this.#turk()));
      this.#progress(1, 1);
    } catch (refused) {
      this.#put(T4DStudy.screens.message("Not finished yet", refused.message,
        ["Go to the first open page", () => this.show(null)]));
    }
  }

  #entry(page, screen, draft) {
    const before = this.outbox.latest(page.token)?.edit ?? 0;
    // The time, so that of two devices the later change counts, whichever arrives first.
    page.edit = Math.max(Date.now(), page.edit + 1, before + 1);
    const watched = Math.min(...screen.players.map((player) => player.watched));
    const submission = {
      key: T4DStudy.uuid(), token: page.token, scores: { ...screen.form.scores },
      comment: screen.comment ? screen.comment.value : "",
      watched_s: Math.round(watched * 100) / 100, page_s: Math.round(screen.visible * 100) / 100, edit: page.edit,
    };
    this.watched[page.token] = watched;
    screen.token = page.token;
    return { code: this.code, draft, submission };
  }

  #welcome() {
    const begin = async (told) => {
      try {
        if (!this.code) {
          const { rater } = await T4DStudy.insist(told, "join", null, this.external);
          this.code = rater.code;
          this.#keep();
        }
        const { rater } = await T4DStudy.insist(told, "consent", this.code);
        this.number = rater.number;
        await (rater.phase === "done" ? this.finish() : this.show(rater.page));
      } catch (refused) {
        told(refused.message);
      }
    };
    begin.resume = (code) => this.resume(code);
    const preview = this.external.assignmentId === "ASSIGNMENT_ID_NOT_AVAILABLE";
    this.#put(T4DStudy.screens.welcome(this.settings, begin, preview));
  }

  #anew() {
    this.code = null;
    this.external = {};
    this.#keep();
    this.#welcome();
  }

  #turk() {
    try {
      const host = new URL(this.turkSubmit);
      const ours = host.protocol === "https:" && /(^|\.)mturk\.com$/.test(host.hostname);
      return ours && this.external.assignmentId
        ? { action: new URL("/mturk/externalSubmit", host).href, assignment: this.external.assignmentId } : null;
    } catch {
      return null;
    }
  }

  #elsewhere() {
    this.keptText = null; // from now on the other tab writes the browser's store
    this.#put(T4DStudy.screens.message("The study goes on in another tab",
      "This page was opened in a newer tab or window of this browser. Go on there; nothing is lost.",
      ["Continue here instead", async () => { await this.tabs.claim(); this.code ? this.resume(this.code) : this.#welcome(); }]));
  }

  #put(node, screen = null) {
    this.screen?.close();
    this.screen = screen;
    if (!screen) this.progress.hidden = true;
    this.main.replaceChildren(node);
    this.#problem(null);
    this.#later(Boolean(screen));
    scrollTo(0, 0);
    node.querySelector("h1, h2")?.focus({ preventScroll: true });
  }

  #progress(index, pages) {
    const { h } = T4DStudy;
    const said = index < pages ? `Page ${index + 1} of ${pages}` : "";
    this.progress.hidden = !said;
    this.progress.replaceChildren(h("span", {}, this.settings.title), h("span", { class: "study-count" }, said),
      h("progress", { max: pages, value: index, "aria-label": said }));
  }

  #later(offered) {
    const { h } = T4DStudy;
    this.later.hidden = !offered;
    this.later.open = false;
    if (!offered) return;
    const link = new URL(location.href);
    link.hash = `resume=${this.code}`; // behind the #, so that it reaches no server's log
    const copyLink = h("button", { type: "button", onclick: () => T4DStudy.copy(link.href, copyLink) }, "Copy a link");
    const copyCode = h("button", { type: "button", onclick: () => T4DStudy.copy(this.code, copyCode) }, "Copy the code");
    this.later.replaceChildren(h("summary", {}, "Continue later or on another device"),
      h("p", {}, "On this device just open the page again. Elsewhere, use this code (keep it to yourself):"),
      h("p", { class: "study-code" }, h("code", {}, this.code), copyCode, copyLink),
      this.#number(),
      h("button", { type: "button", class: "study-link", onclick: () => this.#anew() }, "I am somebody else: start anew"));
  }

  #number() {
    const { h } = T4DStudy;
    const whom = this.settings.contact ? ` to ${this.settings.contact}` : "";
    return h("p", { class: "study-number" }, `Your number, to give${whom} if you want your data or its deletion: `,
      h("code", {}, this.number));
  }

  #problem(sentence) {
    this.trouble = sentence;
    this.#changed();
  }

  #changed() {
    const count = this.outbox?.entries.length ?? 0;
    const problem = this.outbox?.problem ?? this.trouble;
    const refusal = this.outbox?.refusal;
    this.saved.classList.toggle("problem", Boolean(problem || refusal));
    const text = problem
      ? `${problem} ${count ? "Your answers are kept on this device and sent again." : "Trying again …"}`
      : count ? "Saving …" : refusal ?? (this.answered ? "All answers saved" : "");
    if (this.saved.textContent !== text) this.saved.textContent = text;
    if (count) this.answered = true;
    this.#keep();
  }

  #remember() {
    this.screen?.typed();
    if (this.screen?.token) this.watched[this.screen.token] = Math.min(...this.screen.players.map((player) => player.watched));
  }

  #keep() {
    const { code, watched, external, turkSubmit } = this;
    const outbox = this.outbox?.entries ?? [];
    const text = JSON.stringify({ code, watched, external, turkSubmit, outbox });
    if (text !== this.keptText && this.outbox && (this.tabs?.active ?? true)) this.save((this.keptText = text));
  }
};

// Of several tabs of one browser only the newest rates; it takes over what the others have not sent yet.
T4DStudy.Tabs = class {
  constructor(name, outbox, lost) {
    this.me = T4DStudy.uuid();
    this.outbox = outbox;
    this.channel = "BroadcastChannel" in window ? new BroadcastChannel(name) : null;
    this.active = true;
    this.channel?.addEventListener("message", ({ data }) => {
      if (data.claim && data.claim !== this.me) {
        if (outbox.entries.length) this.channel.postMessage({ unsent: outbox.entries, to: data.claim });
        if (this.active) { this.active = false; lost(); }
      }
      if (data.to === this.me) outbox.adopt(data.unsent);
    });
  }

  async claim() {
    this.active = true;
    this.channel?.postMessage({ claim: this.me });
    await new Promise((done) => setTimeout(done, 50)); // time for the others to hand over
  }
};

T4DStudy.start = (element, props, watch, save) => {
  const rater = new T4DStudy.Rater(element.querySelector("#study-root"), props.settings, (text) => {
    props.value = text;
    save();
  });
  let opened = false;
  const open = () => {
    const kept = JSON.parse(props.value || "{}");
    if (opened || !kept.opened) return; // the browser's store has not been read yet
    opened = true;
    rater.open(kept);
  };
  watch("value", open);
  open();
};
