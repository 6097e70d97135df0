// One file is identified, two are compared; a recording of the microphone is a file.

// Number of works that are shown before the others are unfolded.
const SHOWN_WORKS = 4;
const page = { file: null, turn: 0, recorder: null };
const byId = id => document.getElementById(id);
const element = (name, className, text) => {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

function begin() {
  showError(null);
  closeComparison();
  byId("answer").hidden = true;
  return ++page.turn;
}

function playbackUrl(file) {
  comparisonView.urls.forEach(URL.revokeObjectURL);
  comparisonView.urls = [URL.createObjectURL(file)];
  return comparisonView.urls[0];
}

async function handleFiles(files) {
  const turn = begin();
  const [first, second] = files;
  try {
    if (!first) return;
    if (files.length > 2) throw new Error("One recording is looked up, two are compared; these are more.");
    if (second) await compareFiles(turn, first, second);
    else await identify(turn, first);
  } catch (error) {
    if (turn === page.turn) showError(error);
  }
}

async function identify(turn, file) {
  page.file = file;
  showStatus(`Listening to ${file.name}`, true);
  const answer = await request("/identify", { file });
  if (turn !== page.turn) return;
  showStatus("");
  showWorks(answer);
}

// What makes an answer less reliable.
function showWarnings(warnings) {
  byId("warnings").textContent = warnings.map(warning => `${warning}.`).join(" ");
  byId("warnings").hidden = !warnings.length;
}

function showWorks(answer) {
  byId("answer-title").textContent = answer.query.name;
  showWarnings(answer.warnings);
  const best = answer.works[0], none = answer.probability_of_none;
  const name = work => work.recording.work || work.recording.title || work.recording.file;
  byId("verdict").textContent = none === null
    ? "No probabilities: there is no calibration for this index. The works are in order of their scores."
    : !best || none >= 0.5 ? `Probably none of the works of the index (${percent(none)}).`
    : best.probability >= 0.9 ? `${["same-audio", "near-identical"].includes(best.kind) ? "The same recording as" : "A version of"} ${name(best)} (${percent(best.probability)}).`
    : `Perhaps a version of ${name(best)} (${percent(best.probability)}).`;
  const list = byId("works");
  list.replaceChildren();
  for (const work of answer.works) {
    const item = element("li"), button = element("button");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-controls", "comparison");
    const { title, performer, file, work: named } = work.recording;
    button.append(element("span", "title", named || title || file));
    button.append(element("span", "share", work.probability === null ? work.score.toFixed(3) : percent(work.probability)));
    const versions = work.versions > 1 ? `${work.versions} versions` : "";
    button.append(element("span", "more", [title === named ? "" : title, performer, file, versions].filter(Boolean).join(" · ")));
    button.append(bar(work.probability ?? Math.max(work.score, 0)));
    button.addEventListener("click", () => openWork(work, button));
    item.append(button);
    item.hidden = list.children.length >= SHOWN_WORKS && answer.works.length > SHOWN_WORKS + 1;
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
  byId("answer").hidden = false;
  const first = list.querySelector("button");
  if (first && (none === null || none < 0.5)) first.click();
}

function bar(share) {
  const outline = element("div", "bar"), filled = element("i");
  filled.style.width = `${Math.max(100 * share, 0.5)}%`;
  outline.append(filled);
  return outline;
}

// Compares the query with the best version of a work.
async function openWork(work, button) {
  const turn = ++page.turn;
  showError(null);
  byId("works").querySelectorAll("button[aria-expanded]").forEach(other => other.setAttribute("aria-expanded", String(other === button)));
  try {
    showStatus(`Aligning with ${work.recording.title || work.recording.file}`, true);
    const comparison = await request("/compare", { a: page.file, recording: work.recording.id, pictures: "1" });
    if (turn !== page.turn) return;
    showStatus("");
    await showComparison(comparison, [playbackUrl(page.file), comparison.recording.audio]);
  } catch (error) {
    if (turn === page.turn) { closeComparison(); showError(error); }
  }
}

async function compareFiles(turn, a, b) {
  showStatus(`Comparing ${a.name} and ${b.name}`, true);
  const comparison = await request("/compare", { a, b, pictures: "1" });
  if (turn !== page.turn) return;
  showStatus("");
  byId("answer-title").textContent = `${a.name} and ${b.name}`;
  showWarnings([]);
  const kind = { "same-audio": "The same file", "near-identical": "The same recording", "same-work": "Versions of one work", unsure: "Perhaps versions of one work", other: "Probably of two works" }[comparison.kind];
  byId("verdict").textContent = comparison.probability == null
    ? `${kind ? `${kind}. ` : ""}Score ${comparison.score.toFixed(3)}; there is no calibration to compute a probability.`
    : `${kind}: of one work with a probability of ${percent(comparison.probability)}.`;
  byId("works").replaceChildren();
  byId("answer").hidden = false;
  const first = playbackUrl(a);
  comparisonView.urls.push(URL.createObjectURL(b));
  await showComparison(comparison, [first, comparisonView.urls[1]]);
}

async function record() {
  if (page.recorder) { page.recorder.stop(); return; }
  const turn = begin();
  const button = byId("record");
  try {
    if (!navigator.mediaDevices || !window.MediaRecorder) throw new Error("This browser records only on https pages, or on this machine itself (localhost).");
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
    const recorder = page.recorder = new MediaRecorder(stream), chunks = [];
    const started = Date.now();
    const timer = setInterval(() => {
      const seconds = (Date.now() - started) / 1000;
      showStatus(`Recording, ${clock(seconds)}: 20 s or more are best`, true);
      if (seconds >= 120) recorder.stop();
    }, 250);
    recorder.addEventListener("dataavailable", event => chunks.push(event.data));
    recorder.addEventListener("stop", () => {
      clearInterval(timer);
      stream.getTracks().forEach(track => track.stop());
      page.recorder = null;
      button.textContent = "Record";
      button.setAttribute("aria-pressed", "false");
      const extension = recorder.mimeType.includes("mp4") ? "m4a" : recorder.mimeType.includes("ogg") ? "ogg" : "webm";
      if (turn === page.turn) handleFiles([new File(chunks, `recording.${extension}`, { type: recorder.mimeType })]);
    });
    recorder.start(1000);
    button.textContent = "Stop and ask";
    button.setAttribute("aria-pressed", "true");
  } catch (error) {
    page.recorder = null;
    showError(error.name === "NotAllowedError" ? new Error("The microphone was not allowed.") : error);
  }
}

byId("choose").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", event => { handleFiles([...event.target.files]); event.target.value = ""; });
byId("record").addEventListener("click", record);
for (const name of ["dragenter", "dragover"]) addEventListener(name, event => { event.preventDefault(); byId("drop").classList.add("over"); });
for (const name of ["dragleave", "drop"]) addEventListener(name, event => { if (name === "drop" || !event.relatedTarget) byId("drop").classList.remove("over"); });
addEventListener("drop", event => { event.preventDefault(); if (event.dataTransfer.files.length) handleFiles([...event.dataTransfer.files]); });
showIndexSize();
