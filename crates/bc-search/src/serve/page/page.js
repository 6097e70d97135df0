// One file is identified, two are compared; a recording of the microphone is a file.

// Works of an answer that are shown at once.
const SHOWN = 4;
const page = { file: null, turn: 0, recorder: null };
const at = id => document.getElementById(id);
const element = (name, kind, text) => {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
};

function begin() {
  fail(null);
  closeBeside();
  at("answer").hidden = true;
  return ++page.turn;
}

function heardFrom(file) {
  beside.urls.forEach(URL.revokeObjectURL);
  beside.urls = [URL.createObjectURL(file)];
  return beside.urls[0];
}

async function take(files) {
  const turn = begin();
  const [first, second] = files;
  try {
    if (!first) return;
    if (files.length > 2) throw new Error("One recording is looked up, two are compared; these are more.");
    if (second) await compareFiles(turn, first, second);
    else await identify(turn, first);
  } catch (error) {
    if (turn === page.turn) fail(error);
  }
}

async function identify(turn, file) {
  page.file = file;
  say(`Listening to ${file.name}`, true);
  const answer = await ask("/identify", { file });
  if (turn !== page.turn) return;
  say("");
  showWorks(answer);
}

function showWorks(answer) {
  at("answer-title").textContent = answer.query.name;
  const best = answer.works[0], none = answer.probability_of_none;
  const name = work => work.recording.work || work.recording.title || work.recording.file;
  at("verdict").textContent = none === null
    ? "No probabilities: there is no calibration for this index. The works are in order of their scores."
    : !best || none >= 0.5 ? `Probably none of the works of the index (${percent(none)}).`
    : best.probability >= 0.9 ? `${best.kind === "same-audio" ? "The same recording as" : "A version of"} ${name(best)} (${percent(best.probability)}).`
    : `Perhaps a version of ${name(best)} (${percent(best.probability)}).`;
  const list = at("works");
  list.replaceChildren();
  for (const work of answer.works) {
    const item = element("li"), button = element("button");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-controls", "beside");
    const { title, performer, file, work: named } = work.recording;
    button.append(element("span", "title", named || title || file));
    button.append(element("span", "share", work.probability === null ? work.score.toFixed(3) : percent(work.probability)));
    const versions = work.versions > 1 ? `${work.versions} versions` : "";
    button.append(element("span", "more", [title === named ? "" : title, performer, file, versions].filter(Boolean).join(" · ")));
    button.append(bar(work.probability ?? Math.max(work.score, 0)));
    button.addEventListener("click", () => open(work, button));
    item.append(button);
    item.hidden = list.children.length >= SHOWN && answer.works.length > SHOWN + 1;
    list.append(item);
  }
  const hidden = list.querySelectorAll("li[hidden]");
  if (hidden.length) {
    const item = element("li"), button = element("button", "rest", `${hidden.length} more`);
    button.type = "button";
    button.addEventListener("click", () => {
      item.remove();
      hidden.forEach(other => { other.hidden = false; });
      hidden[0].querySelector("button").focus();
    });
    item.append(button);
    list.append(item);
  }
  if (none !== null) {
    const item = element("li"), row = element("div", "none");
    row.append(element("span", "title", "None of them"), element("span", "share", percent(none)), bar(none));
    item.append(row);
    list.append(item);
  }
  at("answer").hidden = false;
  const first = list.querySelector("button");
  if (first && (none === null || none < 0.5)) first.click();
}

function bar(share) {
  const made = element("div", "bar"), filled = element("i");
  filled.style.width = `${Math.max(100 * share, 0.5)}%`;
  made.append(filled);
  return made;
}

// The query beside the best version of a work.
async function open(work, button) {
  const turn = ++page.turn;
  fail(null);
  at("works").querySelectorAll("button[aria-expanded]").forEach(other => other.setAttribute("aria-expanded", String(other === button)));
  try {
    say(`Aligning with ${work.recording.title || work.recording.file}`, true);
    const facts = await ask("/compare", { a: page.file, recording: work.recording.id, pictures: "1" });
    if (turn !== page.turn) return;
    say("");
    await showBeside(facts, [heardFrom(page.file), facts.recording.audio]);
  } catch (error) {
    if (turn === page.turn) { closeBeside(); fail(error); }
  }
}

async function compareFiles(turn, a, b) {
  say(`Comparing ${a.name} and ${b.name}`, true);
  const facts = await ask("/compare", { a, b, pictures: "1" });
  if (turn !== page.turn) return;
  say("");
  at("answer-title").textContent = `${a.name} and ${b.name}`;
  const kind = { "same-audio": "The same recording", "same-work": "Versions of one work", unsure: "Perhaps versions of one work", other: "Probably of two works" }[facts.kind];
  at("verdict").textContent = facts.probability === null
    ? `Score ${facts.score.toFixed(3)}; there is no calibration that makes it a probability.`
    : `${kind}: of one work with a probability of ${percent(facts.probability)}.`;
  at("works").replaceChildren();
  at("answer").hidden = false;
  const first = heardFrom(a);
  beside.urls.push(URL.createObjectURL(b));
  await showBeside(facts, [first, beside.urls[1]]);
}

async function record() {
  if (page.recorder) { page.recorder.stop(); return; }
  const turn = begin();
  const button = at("record");
  try {
    if (!navigator.mediaDevices || !window.MediaRecorder) throw new Error("This browser records only on https pages, or on this machine itself (localhost).");
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
    const recorder = page.recorder = new MediaRecorder(stream), pieces = [];
    const started = Date.now();
    const tick = setInterval(() => {
      const seconds = (Date.now() - started) / 1000;
      say(`Recording, ${clock(seconds)}: 20 s or more are best`, true);
      if (seconds >= 120) recorder.stop();
    }, 250);
    recorder.addEventListener("dataavailable", event => pieces.push(event.data));
    recorder.addEventListener("stop", () => {
      clearInterval(tick);
      stream.getTracks().forEach(one => one.stop());
      page.recorder = null;
      button.textContent = "Record";
      button.setAttribute("aria-pressed", "false");
      const kind = recorder.mimeType.includes("mp4") ? "m4a" : recorder.mimeType.includes("ogg") ? "ogg" : "webm";
      if (turn === page.turn) take([new File(pieces, `recording.${kind}`, { type: recorder.mimeType })]);
    });
    recorder.start(1000);
    button.textContent = "Stop and ask";
    button.setAttribute("aria-pressed", "true");
  } catch (error) {
    page.recorder = null;
    fail(error.name === "NotAllowedError" ? new Error("The microphone was not allowed.") : error);
  }
}

at("choose").addEventListener("click", () => at("files").click());
at("files").addEventListener("change", event => { take([...event.target.files]); event.target.value = ""; });
at("record").addEventListener("click", record);
for (const name of ["dragenter", "dragover"]) addEventListener(name, event => { event.preventDefault(); at("drop").classList.add("over"); });
for (const name of ["dragleave", "drop"]) addEventListener(name, event => { if (name === "drop" || !event.relatedTarget) at("drop").classList.remove("over"); });
addEventListener("drop", event => { event.preventDefault(); if (event.dataTransfer.files.length) take([...event.dataTransfer.files]); });
greet();
