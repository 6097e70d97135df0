// Requests to the server. A response that is an error becomes an Error with its message.

const limits = { fileBytes: Infinity };

async function request(path, fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof File) {
      if (value.size === 0) throw new Error(`${value.name} is empty (0 bytes)`);
      if (value.size > limits.fileBytes) throw new Error(`${value.name} is too large: a file may have ${Math.floor(limits.fileBytes / 1e6)} MB at most`);
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
    const answer = await response.json().catch(() => ({ error: `The server returned status ${response.status}.` }));
    if (response.ok) return answer;
    if (response.status !== 503 || attempt === 3) throw new Error(answer.error);
    const seconds = Math.min(answer.retry_after_s || 2, 20);
    showStatus(`The server is busy; trying again in ${seconds} s`, true);
    await new Promise(done => setTimeout(done, 1000 * seconds));
  }
}

async function showIndexSize() {
  try {
    const health = await (await fetch("/health")).json();
    limits.fileBytes = health.most_bytes;
    const number = new Intl.NumberFormat("en");
    document.getElementById("holds").textContent =
      `One recording is looked up among ${number.format(health.recordings)} recordings of ${number.format(health.works)} works; two are compared.`;
  } catch { /* The first request will show that the server cannot be reached. */ }
}

function showStatus(text, busy = false) {
  const state = document.getElementById("state");
  state.textContent = text;
  state.classList.toggle("busy", busy);
}

function showError(error) {
  const box = document.getElementById("error");
  box.hidden = !error;
  box.textContent = error ? error.message || String(error) : "";
  if (error) showStatus("");
}

const clock = seconds => `${Math.floor(Math.round(seconds) / 60)}:${String(Math.round(seconds) % 60).padStart(2, "0")}`;
const percent = share => share >= 0.9995 ? "> 99.9 %" : share > 0 && share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
