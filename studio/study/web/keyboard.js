// Keys of the rating page: 1 .. 9 score the current row and go on, up and down change the row, Enter submits,
// space stops and starts the videos. Left, right and Tab stay the browser's own.
T4DStudy.keys = (screen) => {
  const listen = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const tag = event.target.tagName;
    const typing = tag === "TEXTAREA" || (tag === "INPUT" && event.target.type !== "radio");
    const pressing = ["BUTTON", "A", "SUMMARY"].includes(tag); // Enter and space press what has the focus
    if (typing) return;
    if (/^[1-9]$/.test(event.key)) { if (!screen.busy) screen.form.choose(Number(event.key)); }
    else if (event.key === "ArrowDown") screen.form.go(screen.form.at + 1);
    else if (event.key === "ArrowUp") screen.form.go(screen.form.at - 1);
    else if (event.key === "Enter" && !pressing && !event.repeat) screen.submit();
    else if (event.key === " " && !pressing) screen.players.forEach((player) => player.toggle());
    else return;
    event.preventDefault();
  };
  document.addEventListener("keydown", listen);
  return () => document.removeEventListener("keydown", listen);
};
