//! The server under test, and a client that can also send malformed requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::stage;

/// `bc-search serve` on a free port; killed at the end of the test.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    pub spool: PathBuf,
    lines: BufReader<std::process::ChildStdout>,
}

impl Server {
    /// Starts a server for the index `index` in `folder`.
    pub fn start(folder: &Path, index: &str, args: &[&str]) -> Self {
        let spool = folder.join("spool");
        let spool_text = spool.to_string_lossy();
        let args = [&["--spool", &spool_text], args].concat();
        Self::start_command(folder, index, &args, |_| {}, spool.clone())
    }

    /// As [`Server::start`], with a spool that the server makes in the folder `temporary` and must remove.
    pub fn start_with_own_spool(folder: &Path, index: &str, args: &[&str], temporary: &Path) -> Self {
        let set_folder = |command: &mut Command| {
            command.env("TMPDIR", temporary);
        };
        Self::start_command(folder, index, args, set_folder, temporary.to_owned())
    }

    fn start_command(
        folder: &Path,
        index: &str,
        args: &[&str],
        adjust: impl FnOnce(&mut Command),
        spool: PathBuf,
    ) -> Self {
        let mut command = stage(folder, &[&["serve", index, "--listen", "127.0.0.1:0"], args].concat());
        adjust(&mut command);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}")).parse().unwrap();
        Self { child, address, spool, lines }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream
    }

    /// Sends bytes as they are, and reads until the server closes the connection.
    pub fn raw(&self, bytes: &[u8]) -> Response {
        let mut stream = self.connect();
        // A server that has already refused the request may not read all of it.
        let _ = stream.write_all(bytes);
        Response::read(&mut stream)
    }

    pub fn get(&self, path: &str) -> Response {
        self.get_with(path, "")
    }

    /// Sends additional header lines, each of them with its line end.
    pub fn get_with(&self, path: &str, headers: &str) -> Response {
        self.raw(
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")
                .as_bytes(),
        )
    }

    pub fn post(&self, path: &str, parts: &[FormPart]) -> Response {
        self.post_with(path, parts, "")
    }

    pub fn post_with(&self, path: &str, parts: &[FormPart], headers: &str) -> Response {
        self.raw(&request(path, parts, headers))
    }

    /// Sends a signal and waits for the process to exit.
    pub fn stop(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap()
    }

    pub fn signal(&self, signal: &str) {
        let sent = std::process::Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Peak resident memory of the server, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        1024 * line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    }

    /// Polls until the condition holds, and fails after two minutes.
    pub fn wait_until(&self, description: &str, condition: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !condition(self) {
            assert!(started.elapsed() < Duration::from_secs(120), "timed out waiting for {description}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it printed after the line with its address.
    pub fn remaining_output(&mut self) -> String {
        let mut text = String::new();
        self.lines.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One field of a form.
pub struct FormPart {
    pub name: &'static str,
    pub file: Option<String>,
    pub bytes: Vec<u8>,
}

impl FormPart {
    pub fn text(name: &'static str, text: &str) -> Self {
        Self { name, file: None, bytes: text.into() }
    }

    /// The contents of a file, under its own name.
    pub fn from_path(name: &'static str, path: &Path) -> Self {
        Self::file(name, &path.file_name().unwrap().to_string_lossy(), std::fs::read(path).unwrap())
    }

    pub fn file(name: &'static str, file: &str, bytes: Vec<u8>) -> Self {
        Self { name, file: Some(file.to_owned()), bytes }
    }
}

/// The body of a multipart form.
pub fn body(parts: &[FormPart]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        let file = part.file.as_ref().map_or_else(String::new, |file| format!("; filename=\"{file}\""));
        body.extend(
            format!("--limit\r\ncontent-disposition: form-data; name=\"{}\"{file}\r\n\r\n", part.name)
                .bytes(),
        );
        body.extend_from_slice(&part.bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--limit--\r\n");
    body
}

/// A complete request with a form.
pub fn request(path: &str, parts: &[FormPart], headers: &str) -> Vec<u8> {
    let body = body(parts);
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: multipart/form-data; \
         boundary=limit\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// The response of the server.
#[derive(Debug)]
pub struct Response {
    /// 0 if there was no response.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        // What arrived before the connection was reset counts as the response.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end else { return Self { status: 0, headers: Vec::new(), body: bytes } };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_lowercase(), value.trim().to_owned())
        };
        let headers: Vec<(String, String)> = lines.map(header).collect();
        let chunked = headers.iter().any(|header| header.1 == "chunked");
        let rest = &bytes[end + 4..];
        Self { status, headers, body: if chunked { decode_chunked(rest) } else { rest.to_vec() } }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|header| header.0 == name).map_or("", |header| &header.1)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON. Fails unless the status is `status`.
    pub fn json(&self, status: u16) -> serde_json::Value {
        assert_eq!(self.status, status, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The message of an error response with this status.
    pub fn error(&self, status: u16) -> String {
        self.json(status)["error"].as_str().unwrap().to_owned()
    }
}

fn decode_chunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        decoded.extend_from_slice(&bytes[end + 2..][..size]);
        bytes = &bytes[end + 4 + size..];
    }
    decoded
}
