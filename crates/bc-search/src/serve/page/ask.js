// Asking the server. Every answer that is none becomes an error in words.

const most = { bytes: Infinity };

async function ask(path, fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof File) {
      if (value.size === 0) throw new Error(`${value.name} is empty (0 bytes)`);
      if (value.size > most.bytes) throw new Error(`${value.name} is too large: a file may have ${Math.floor(most.bytes / 1e6)} MB at most`);
      form.append(name, value, value.name);
    } else form.append(name, value);
  }
  for (let attempt = 0; ; attempt++) {
    let response;
    try {
      response = await fetch(path, { method: "POST", body: form });
    } catch {
      throw new Error("The server cannot be reached, or it has closed the connection. Is it still running?");
    }
    const answer = await response.json().catch(() => ({ error: `The server says ${response.status}.` }));
    if (response.ok) return answer;
    if (response.status !== 503 || attempt === 3) throw new Error(answer.error);
    const seconds = Math.min(answer.retry_after_s || 2, 20);
    say(`The server is busy; trying again in ${seconds} s`, true);
    await new Promise(done => setTimeout(done, 1000 * seconds));
  }
}

async function greet() {
  try {
    const health = await (await fetch("/health")).json();
    most.bytes = health.most_bytes;
    const number = new Intl.NumberFormat("en");
    document.getElementById("holds").textContent =
      `One recording is looked up among ${number.format(health.recordings)} recordings of ${number.format(health.works)} works; two are compared.`;
  } catch { /* The page says so once somebody asks. */ }
}

function say(text, busy = false) {
  const state = document.getElementById("state");
  state.textContent = text;
  state.classList.toggle("busy", busy);
}

function fail(error) {
  const box = document.getElementById("error");
  box.hidden = !error;
  box.textContent = error ? error.message || String(error) : "";
  if (error) say("");
}

const clock = seconds => `${Math.floor(Math.round(seconds) / 60)}:${String(Math.round(seconds) % 60).padStart(2, "0")}`;
const percent = share => share >= 0.9995 ? "> 99.9 %" : share > 0 && share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
