// Plays two recordings at matching positions: one at a time, or both.

class Player {
  // sources: two URLs, or null where there is no audio. alignment: sections and path, or null.
  constructor(sources, durations, alignment, changed) {
    this.durations = durations;
    this.sections = alignment ? alignment.sections : [];
    this.path = alignment ? alignment.path : [];
    this.tempo = alignment ? alignment.tempo_ratio : 1;
    this.changed = changed;
    this.heard = sources[0] ? 0 : 1;
    this.together = false;
    this.failed = [null, null];
    this.audio = sources.map((source, which) => {
      const audio = new Audio();
      audio.preload = "auto";
      audio.preservesPitch = true;
      if (source) audio.src = source;
      else this.failed[which] = "its audio is missing";
      audio.addEventListener("error", () => { if (source) { this.failed[which] = "this browser cannot play its format"; changed(); } });
      for (const event of ["play", "pause", "seeked", "ended", "loadedmetadata"]) audio.addEventListener(event, () => changed());
      return audio;
    });
  }

  get playing() { return !this.audio[this.heard].paused; }
  time(which = this.heard) { return this.audio[which].currentTime; }

  // The position in the other recording that matches `seconds` of `which`; null outside all sections.
  matching(which, seconds) {
    const [own, other] = which === 0 ? ["a", "b"] : ["b", "a"];
    const section = this.section(which, seconds);
    if (section === null) return null;
    const part = this.sections[section];
    const from = part[`start_${own}`], to = part[`end_${own}`];
    const inside = this.path
      .filter(([a, b]) => a >= part.start_a && a <= part.end_a && b >= part.start_b && b <= part.end_b)
      .map(point => which === 0 ? point : [point[1], point[0]])
      .sort((one, two) => one[0] - two[0]);
    const points = [[from, part[`start_${other}`]], ...inside, [to, part[`end_${other}`]]];
    let next = points.findIndex(point => point[0] >= seconds);
    if (next < 0) next = points.length - 1;
    if (next === 0) return points[0][1];
    const [before, after] = [points[next - 1], points[next]];
    const fraction = after[0] > before[0] ? (seconds - before[0]) / (after[0] - before[0]) : 0;
    return before[1] + fraction * (after[1] - before[1]);
  }

  section(which, seconds) {
    const own = which === 0 ? "a" : "b";
    const found = this.sections.findIndex(part => seconds >= part[`start_${own}`] - 0.05 && seconds < part[`end_${own}`]);
    return found < 0 ? null : found;
  }

  async play(which = this.heard) {
    if (this.failed[which]) return;
    this.audio[1 - which].pause();
    this.heard = which;
    this.audio[which].playbackRate = 1;
    await this.audio[which].play().catch(error => { if (error.name !== "AbortError") this.failed[which] = error.message; });
    this.follow();
    this.changed();
  }

  pause() { this.audio.forEach(audio => audio.pause()); this.changed(); }
  toggle() { return this.playing ? this.pause() : this.play(); }

  seek(which, seconds) {
    this.audio[which].currentTime = Math.min(Math.max(seconds, 0), Math.max(this.durations[which] - 0.05, 0));
    if (which !== this.heard) { this.audio[this.heard].pause(); this.heard = which; }
    this.follow();
    this.changed();
  }

  // Switches to the other recording at the matching position, or at the nearest section if nothing matches.
  async swap() {
    const to = 1 - this.heard, wasPlaying = this.playing, now = this.time();
    if (this.failed[to]) return;
    let position = this.matching(this.heard, now);
    if (position === null && this.sections.length) {
      const own = this.heard === 0 ? "a" : "b", other = to === 0 ? "a" : "b";
      const distance = part => Math.min(Math.abs(part[`start_${own}`] - now), Math.abs(part[`end_${own}`] - now));
      const nearest = this.sections.reduce((best, part) => distance(part) < distance(best) ? part : best);
      position = nearest[`start_${other}`];
    }
    this.audio[this.heard].pause();
    this.seek(to, position === null ? now : position);
    if (wasPlaying) await this.play(to);
  }

  // If both play at once, the second follows the first: it plays within matched sections, and its tempo is adjusted to that of the first.
  follow() {
    const other = this.audio[1 - this.heard];
    const position = this.together && this.playing ? this.matching(this.heard, this.time()) : null;
    if (position === null || this.failed[1 - this.heard]) {
      if (!other.paused && this.together) other.pause();
      return;
    }
    const lag = position - other.currentTime;
    const rate = this.heard === 0 ? 1 / this.tempo : this.tempo;
    if (Math.abs(lag) > 0.25) other.currentTime = position;
    other.playbackRate = Math.min(Math.max(rate * (1 + Math.min(Math.max(lag, -0.2), 0.2)), 0.5), 2);
    if (other.paused) other.play().catch(() => {});
  }

  setTogether(together) {
    this.together = together;
    if (!together) this.audio[1 - this.heard].pause();
    this.follow();
    this.changed();
  }

  step(direction) {
    if (!this.sections.length) return;
    const own = this.heard === 0 ? "a" : "b", now = this.time();
    const starts = this.sections.map(part => part[`start_${own}`]).sort((one, two) => one - two);
    const next = direction > 0 ? starts.find(start => start > now + 0.1) : starts.filter(start => start < now - 1.5).pop();
    this.seek(this.heard, next ?? (direction > 0 ? starts[starts.length - 1] : starts[0]));
  }

  close() {
    this.audio.forEach(audio => { audio.pause(); audio.removeAttribute("src"); audio.load(); });
  }
}
