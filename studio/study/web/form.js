// The rating grid: one radio group per row and video.
T4DStudy.Form = class {
  // `page` as the server gives it; `given`: scores; `chosen()` is called after every choice of the rater.
  constructor(page, given, help, chosen) {
    this.page = page;
    this.scores = { ...given };
    this.help = help;
    this.chosen = chosen;
    this.rows = []; // {key, group, inputs, said}
    this.at = 0;
  }

  grid(slot) {
    const { h } = T4DStudy;
    const rows = this.page.criteria.map((row) => this.#row(slot, row));
    return h("div", { class: "study-grid" }, ...rows);
  }

  get missing() {
    return this.rows.filter((row) => !(row.key in this.scores));
  }

  // Chooses a level of the current row, as the keys 1 .. 9 do.
  choose(level) {
    const row = this.rows[this.at];
    const input = row?.inputs[level - 1];
    if (!input || input.disabled) return;
    input.checked = true;
    this.#set(row, level);
    this.go(Math.min(this.at + 1, this.rows.length - 1));
  }

  go(index, scroll = true) {
    this.at = Math.max(0, Math.min(index, this.rows.length - 1));
    this.rows.forEach((row, i) => row.group.classList.toggle("current", i === this.at));
    const row = this.rows[this.at];
    const input = row.inputs.find((one) => one.checked) ?? row.inputs[0];
    input.focus({ preventScroll: true });
    if (scroll) row.group.scrollIntoView({ block: "nearest" });
  }

  // Marks the rows without a score and goes to the first.
  complain() {
    for (const row of this.rows) row.group.classList.toggle("missing", !(row.key in this.scores));
    if (this.missing.length) this.go(this.rows.indexOf(this.missing[0]));
  }

  #set(row, level) {
    this.scores[row.key] = level;
    row.group.classList.remove("missing");
    row.group.classList.add("answered");
    this.#say(row);
    this.chosen();
  }

  #say(row) {
    const level = this.scores[row.key];
    const inner = level > 1 && level < this.page.levels;
    row.said.textContent = inner ? (row.anchors[level] ?? "") : "";
    row.ends[0].classList.toggle("study-said", level === 1);
    row.ends[1].classList.toggle("study-said", level === this.page.levels);
  }

  #row(slot, { id, question, anchors }) {
    const { h } = T4DStudy;
    const key = `${slot}/${id}`;
    const name = `study-${this.page.token}-${key}`;
    const index = this.rows.length;
    const said = h("span", { class: "study-said" });
    const ends = [anchors[1], anchors[this.page.levels]].map((text) => h("span", {}, text ?? ""));
    const row = { key, anchors, said, ends, inputs: [] };
    const levels = Array.from({ length: this.page.levels }, (_, i) => i + 1).map((level) => {
      const input = h("input", {
        type: "radio", name, value: level, checked: this.scores[key] === level, disabled: !this.page.editable,
        "aria-label": anchors[level] ? `${level}, ${anchors[level]}` : `${level} of ${this.page.levels}`,
        onchange: () => { this.at = index; this.#set(row, level); },
        onfocus: () => { if (this.at !== index) this.go(index, false); },
      });
      row.inputs.push(input);
      return h("label", { title: anchors[level] ?? null }, input, h("span", {}, String(level)));
    });
    const help = this.help[id];
    row.group = h("fieldset", { class: "study-row" + (key in this.scores ? " answered" : ""), "data-row": key },
      h("legend", {}, h("span", { class: "study-question" }, question, h("span", { class: "study-needed", "aria-hidden": "true" }, "\u00a0*")),
        help && h("span", { class: "study-help" }, help)),
      h("div", { class: "study-levels" },
        h("div", { class: "study-choices" }, ...levels),
        h("div", { class: "study-ends", "aria-hidden": "true" }, ends[0], said, ends[1])));
    this.rows.push(row);
    this.#say(row);
    return row.group;
  }
};
