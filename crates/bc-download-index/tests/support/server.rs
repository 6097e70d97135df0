//! A server of small WAVs that misbehaves on request.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

type Log = Arc<Mutex<HashMap<String, Vec<Instant>>>>;

/// Serves `/<behaviour>-<n>….wav`: its first `n` requests fail as the name says, later ones do
/// not. `gone`: 404. `busy`: 429 with Retry-After of two seconds. `error`: 503. `short`: half the body, then the
/// end. `stall`: half the body, then nothing. Anything else is good at once.
pub struct Server {
    pub port: u16,
    log: Log,
}

impl Server {
    /// Each body takes `body` to come.
    pub fn start(body: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), log: Log::default() };
        let log = Arc::clone(&server.log);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                // A client that was killed in the middle is no error here.
                std::thread::spawn(move || drop(answer(stream, &log, body)));
            }
        });
        server
    }

    /// When the file of an id was asked for, or a header `cookie: …` came.
    pub fn requests(&self, id: &str) -> Vec<Instant> {
        self.log.lock().unwrap().get(id).cloned().unwrap_or_default()
    }

    /// The settings that lead to it.
    pub fn settings(&self) -> Vec<String> {
        let url = format!("download.url=http://127.0.0.1:{}/{{id}}.wav", self.port);
        let fixed = [
            "index.source=csv",
            "index.meta=songs.csv",
            "index.dataset_path=audio",
            "download.per_minute=100000",
            "download.attempts=2",
            "download.backoff_s=0.1",
            "download.stall_s=1",
        ];
        fixed.iter().map(|&setting| setting.to_owned()).chain([url]).collect()
    }
}

/// The file of an id: half a second of mono, its own for every id.
pub fn wav(id: &str) -> Vec<u8> {
    let seed = id.bytes().fold(7u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into())) % 97;
    crate::support::wav(0.5, 0.6, 0.05 + f64::from(seed) * 0.003)
}

fn answer(mut stream: TcpStream, log: &Log, body_time: Duration) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut from = 0;
    for line in lines.by_ref() {
        let line = line?.to_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.split('-').next().and_then(|from| from.parse().ok()).unwrap_or(0);
        }
        if line.starts_with("cookie: ") {
            log.lock().unwrap().entry(line.clone()).or_default().push(Instant::now());
        }
        if line.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    // Asked as a proxy, the path is a whole address.
    let id = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".wav");
    let count = {
        let mut log = log.lock().unwrap();
        let times = log.entry(id.to_owned()).or_default();
        times.push(Instant::now());
        times.len()
    };
    let (kind, number) = id.split_once('-').unwrap_or((id, "0"));
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    let bad = count <= digits.parse().unwrap_or(0);
    let refusal = match kind {
        "gone" => Some("404 Not Found"),
        "busy" => Some("429 Too Many Requests\r\nRetry-After: 2"),
        "error" => Some("503 Service Unavailable"),
        _ => None,
    };
    if let Some(refusal) = refusal.filter(|_| bad) {
        return write!(stream, "HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let body = wav(id);
    let (total, rest) = (body.len(), &body[from.min(body.len())..]);
    let status = if from == 0 {
        "200 OK".to_owned()
    } else {
        format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}", total - 1)
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: audio/x-wav\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        rest.len()
    )?;
    let cut = bad && (kind == "short" || kind == "stall");
    let sent = if cut { &rest[..rest.len() / 2] } else { rest };
    for chunk in sent.chunks(400) {
        stream.write_all(chunk)?;
        std::thread::sleep(body_time.mul_f64(chunk.len() as f64 / total as f64));
    }
    if cut && kind == "stall" {
        std::thread::sleep(Duration::from_secs(20));
    }
    stream.shutdown(Shutdown::Both)
}
