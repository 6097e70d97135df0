// Comparison of two recordings: pictures, matched sections and playback.

const comparisonView = { player: null, pictures: [null, null], frame: 0, urls: [] };
const sectionColour = number => getComputedStyle(document.documentElement).getPropertyValue(`--s${number % 6}`).trim();
const track = which => document.getElementById(which === 0 ? "track-a" : "track-b");

// Maps grey levels to colours, from dark blue to yellow.
function colourise(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const stops = [[14, 19, 26], [24, 62, 92], [38, 126, 136], [150, 190, 110], [252, 236, 170]];
  for (let pixel = 0; pixel < pixels.data.length; pixel += 4) {
    const position = pixels.data[pixel] / 255 * (stops.length - 1), low = Math.min(Math.floor(position), stops.length - 2), fraction = position - low;
    for (let colour = 0; colour < 3; colour++) pixels.data[pixel + colour] = stops[low][colour] + fraction * (stops[low + 1][colour] - stops[low][colour]);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function loadPicture(url) {
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(colourise(image));
    image.onerror = failed;
    image.src = url;
  });
}

function draw() {
  const { player } = comparisonView;
  if (!player) return;
  const sections = player.sections, now = player.section(player.heard, player.time());
  for (const which of [0, 1]) {
    const canvas = track(which).querySelector("canvas"), duration = player.durations[which];
    const scale = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    const [width, height] = [Math.round(box.width * scale), Math.round(box.height * scale)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d"), side = which === 0 ? "a" : "b";
    context.clearRect(0, 0, width, height);
    if (comparisonView.pictures[which]) context.drawImage(comparisonView.pictures[which], 0, 0, width, height);
    const edge = 5 * scale;
    sections.forEach((part, number) => {
      const from = part[`start_${side}`] / duration * width, to = part[`end_${side}`] / duration * width;
      context.fillStyle = sectionColour(number);
      context.fillRect(from, which === 0 ? height - edge : 0, Math.max(to - from - scale, scale), edge);
    });
    const heard = which === player.heard || player.together;
    const matching = which === player.heard ? player.time() : player.matching(player.heard, player.time());
    const position = heard && which !== player.heard && player.playing ? player.time(which) : matching;
    if (position !== null) {
      context.fillStyle = which === player.heard ? "#fff" : "#ffffff99";
      context.fillRect(position / duration * width - scale, 0, 2 * scale, height);
    }
    track(which).classList.toggle("heard", which === player.heard);
    track(which).querySelector(".name span").textContent = player.failed[which]
      ? `${clock(duration)}, cannot be played: ${player.failed[which]}`
      : `${clock(player.time(which))} of ${clock(duration)}`;
    canvas.setAttribute("aria-valuenow", Math.round(player.time(which)));
    canvas.setAttribute("aria-valuetext", `${clock(player.time(which))} of ${clock(duration)}`);
  }
  document.querySelectorAll("#ribbons polygon").forEach((ribbon, number) => ribbon.classList.toggle("now", number === now));
  document.getElementById("play").textContent = player.playing ? "Pause" : "Play";
  document.getElementById("both").setAttribute("aria-pressed", player.together);
  document.getElementById("play").disabled = !!player.failed[player.heard];
  document.getElementById("other").disabled = !!player.failed[1 - player.heard];
  document.getElementById("both").disabled = !sections.length || player.failed.some(Boolean);
  for (const name of ["before", "after"]) document.getElementById(name).disabled = !sections.length;
  cancelAnimationFrame(comparisonView.frame);
  if (player.playing) comparisonView.frame = requestAnimationFrame(() => { player.follow(); draw(); });
}

function describeAlignment(comparison) {
  if (!comparison.alignment) return `They could not be aligned: ${comparison.alignment_unavailable}.`;
  const { key_shift, tempo_ratio, sections } = comparison.alignment;
  if (!sections.length) return "No part of one matches a part of the other.";
  const key = key_shift === 0 ? "in the same key as the first"
    : `${Math.abs(key_shift)} semitone${Math.abs(key_shift) === 1 ? "" : "s"} ${key_shift > 0 ? "higher" : "lower"} than the first`;
  const tempo = Math.abs(tempo_ratio - 1) < 0.015 ? "at the same tempo" : `at ${tempo_ratio.toFixed(2)} times its tempo`;
  const seconds = sections.reduce((sum, part) => sum + part.end_a - part.start_a, 0);
  const share = Math.min(seconds / comparison.a.duration_s, 1);
  return `The second sounds ${key}, ${tempo}. ${sections.length} matched section${sections.length === 1 ? "" : "s"}, ${Math.round(100 * share)} % of the first.`;
}

function drawRibbons(comparison) {
  const svg = document.getElementById("ribbons");
  svg.setAttribute("viewBox", "0 0 1000 50");
  svg.replaceChildren();
  const list = document.getElementById("sections");
  list.replaceChildren();
  const sections = comparison.alignment ? comparison.alignment.sections : [];
  sections.forEach((part, number) => {
    const x = (seconds, duration) => (1000 * seconds / duration).toFixed(1);
    const ribbon = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
    const [a, b] = [comparison.a.duration_s, comparison.b.duration_s];
    ribbon.setAttribute("points", `${x(part.start_a, a)},0 ${x(part.end_a, a)},0 ${x(part.end_b, b)},50 ${x(part.start_b, b)},50`);
    ribbon.style.fill = `var(--s${number % 6})`;
    svg.append(ribbon);
    const item = document.createElement("li"), button = document.createElement("button");
    button.type = "button";
    button.style.setProperty("--c", `var(--s${number % 6})`);
    button.textContent = `${clock(part.start_a)}–${clock(part.end_a)} ≈ ${clock(part.start_b)}–${clock(part.end_b)}`;
    button.addEventListener("click", () => { comparisonView.player.seek(0, part.start_a); comparisonView.player.play(); });
    item.append(button);
    list.append(item);
  });
}

// comparison: a response of /compare. sources: URLs of the audio of both.
async function showComparison(comparison, sources) {
  closeComparison();
  const section = document.getElementById("comparison");
  section.hidden = false;
  const pictures = await Promise.all([comparison.a, comparison.b].map(recording => recording.picture ? loadPicture(recording.picture).catch(() => null) : null));
  comparisonView.pictures = pictures;
  [comparison.a, comparison.b].forEach((recording, which) => {
    track(which).querySelector(".name b").textContent = recording.name;
    const canvas = track(which).querySelector("canvas");
    canvas.setAttribute("aria-label", `${which === 0 ? "First" : "Second"} recording: ${recording.name}. Position in seconds`);
    canvas.setAttribute("aria-valuemax", Math.round(recording.duration_s));
  });
  document.getElementById("alignment").textContent = describeAlignment(comparison);
  drawRibbons(comparison);
  comparisonView.player = new Player(sources, [comparison.a.duration_s, comparison.b.duration_s], comparison.alignment, draw);
  const first = comparisonView.player.sections[0];
  if (first) comparisonView.player.audio.forEach((audio, which) => audio.addEventListener("loadedmetadata", () => {
    audio.currentTime = which === 0 ? first.start_a : first.start_b;
  }, { once: true }));
  draw();
  section.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

function closeComparison() {
  cancelAnimationFrame(comparisonView.frame);
  if (comparisonView.player) comparisonView.player.close();
  Object.assign(comparisonView, { player: null, pictures: [null, null] });
  document.getElementById("comparison").hidden = true;
}

for (const which of [0, 1]) {
  const canvas = track(which).querySelector("canvas");
  canvas.addEventListener("click", event => {
    const box = canvas.getBoundingClientRect(), player = comparisonView.player;
    player.seek(which, (event.clientX - box.left) / box.width * player.durations[which]);
    player.play(which);
  });
  canvas.addEventListener("keydown", event => {
    const seconds = { ArrowLeft: -5, ArrowRight: 5, ArrowDown: -5, ArrowUp: 5, PageDown: -30, PageUp: 30 }[event.key];
    const player = comparisonView.player;
    if (seconds) player.seek(which, player.time(which) + seconds);
    else if (event.key === "Home") player.seek(which, 0);
    else if (event.key === "End") player.seek(which, player.durations[which]);
    else if (event.key === "Enter") player.play(which);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

const actions = {
  play: player => player.toggle(),
  other: player => player.swap(),
  both: player => player.setTogether(!player.together),
  before: player => player.step(-1),
  after: player => player.step(1),
};
for (const [name, action] of Object.entries(actions)) {
  document.getElementById(name).addEventListener("click", () => comparisonView.player && action(comparisonView.player));
}
document.addEventListener("keydown", event => {
  const player = comparisonView.player;
  if (!player || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, button") && [" ", "Enter"].includes(event.key)) return;
  const action = { " ": actions.play, x: actions.other, b: actions.both, "[": actions.before, "]": actions.after,
    ArrowLeft: () => player.seek(player.heard, player.time() - 5), ArrowRight: () => player.seek(player.heard, player.time() + 5) }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action(player);
});
addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
