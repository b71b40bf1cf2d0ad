// Asks the server, and keeps every answer until the server has acknowledged it.
T4DStudy.Offline = class extends Error {};
T4DStudy.Refused = class extends Error {};

// Offline: nothing is known about what the server did, ask again. Refused: asking again would not help.
T4DStudy.call = async (name, ...values) => {
  const { Offline, Refused } = T4DStudy;
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), 15000);
  let answer;
  try {
    const response = await fetch(`gradio_api/run/study_${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ data: values }),
      signal: giveUp.signal,
      keepalive: true, // an answer given just before the page is closed still arrives
    });
    if (response.status === 413) throw new Refused((await response.json()).error || "The comment is too long.");
    if (!response.ok) throw new Offline("The server does not answer.");
    answer = (await response.json()).data[0];
  } catch (error) {
    throw error instanceof Refused ? error : new Offline("There is no connection to the server.");
  } finally {
    clearTimeout(timer);
  }
  if (answer.ok) return answer;
  throw answer.retry ? new Offline(answer.message) : new Refused(answer.message);
};

// Like call, again and again until there is an answer; `waiting(sentence)` after every failure, null after success.
T4DStudy.insist = async (waiting, name, ...values) => {
  for (let pause = 1000; ; pause = Math.min(pause * 1.5, 5000)) {
    try {
      const answer = await T4DStudy.call(name, ...values);
      waiting(null);
      return answer;
    } catch (error) {
      if (error instanceof T4DStudy.Refused) throw error;
      waiting(error.message);
      await new Promise((done) => setTimeout(done, pause * (0.8 + 0.4 * Math.random())));
    }
  }
};

// Entries {code, draft, submission}, sent one after the other in the order in which they were given.
T4DStudy.Outbox = class {
  constructor(entries, changed) {
    this.entries = entries;
    this.changed = changed; // called after every change of `entries` or `problem`
    this.problem = null; // why the oldest entry is not stored yet
    this.refusal = null; // why the last one never will be
    this.waiters = new Map();
    this.sending = null;
  }

  // Resolves with the acknowledgement; rejects with Refused.
  add(entry) {
    // A newer draft of a page holds all that an older one says. The one being sent may be stored already: it stays.
    const outdated = (old) =>
      old.draft && old !== this.sending && old.submission.token === entry.submission.token;
    for (const { submission } of this.entries.filter(outdated)) {
      this.waiters.get(submission.key)?.resolve(null);
      this.waiters.delete(submission.key);
    }
    this.entries = [...this.entries.filter((old) => !outdated(old)), entry];
    const settled = new Promise((resolve, reject) =>
      this.waiters.set(entry.submission.key, { resolve, reject }));
    settled.catch(() => {}); // whoever does not wait for a draft is told by `changed`
    this.changed();
    this.flush();
    return settled;
  }

  // Answers another tab has left, without those that are here already.
  adopt(entries) {
    const known = new Set(this.entries.map((entry) => entry.submission.key));
    this.entries = [...entries.filter((entry) => !known.has(entry.submission.key)), ...this.entries];
    this.changed();
    this.flush();
  }

  latest(token) {
    return this.entries.filter((entry) => entry.submission.token === token).at(-1)?.submission;
  }

  async flush() {
    if (this.sending) return;
    while (this.entries.length) {
      const entry = (this.sending = this.entries[0]);
      const waiter = this.waiters.get(entry.submission.key);
      let settle;
      try {
        const told = (sentence) => { this.problem = sentence; this.changed(); };
        const { ack } = await T4DStudy.insist(told, "answer", entry.code, entry.submission, entry.draft);
        this.refusal = null;
        settle = () => waiter?.resolve(ack);
      } catch (refused) {
        this.problem = null;
        this.refusal = refused.message;
        settle = () => waiter?.reject(refused);
      }
      this.entries = this.entries.filter((old) => old.submission.key !== entry.submission.key);
      this.waiters.delete(entry.submission.key);
      this.sending = null;
      this.changed();
      settle();
    }
  }
};
