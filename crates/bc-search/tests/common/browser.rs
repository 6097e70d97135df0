//! Chromium by its DevTools protocol: what a visitor does, and what a visitor sees.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

/// A browser with one page.
pub struct Browser {
    child: Child,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    number: u64,
    /// Addresses of everything that the page asked for.
    pub requested: Vec<String>,
    /// What scripts threw, and what the console says.
    pub complaints: Vec<String>,
}

impl Browser {
    /// Opens `url` in a browser that keeps its things in `folder`.
    pub fn open(program: &Path, folder: &Path, url: &str) -> Self {
        let mut child = Command::new(program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"])
            .args(["--autoplay-policy=no-user-gesture-required", "--hide-scrollbars"])
            .args(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"])
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .arg("about:blank")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.by_ref().map(Result::unwrap).find(|line| line.contains("DevTools listening on"));
        let address = line.unwrap().split("listening on ").nth(1).unwrap().trim().to_owned();
        // Its log goes on; a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        let (socket, _) = tungstenite::connect(address).unwrap();
        let (requested, complaints) = (Vec::new(), Vec::new());
        let mut browser = Self { child, socket, session: None, number: 0, requested, complaints };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log", "DOM", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.call("Page.navigate", json!({ "url": url }));
        browser.until("document.readyState === 'complete'");
        browser
    }

    /// Calls a method and waits for its answer; events on the way are noted.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.clone().into();
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => {
                self.requested.push(params["request"]["url"].as_str().unwrap().to_owned());
            }
            "Runtime.exceptionThrown" => self.complaints.push(params["exceptionDetails"].to_string()),
            "Log.entryAdded" => self.complaints.push(params["entry"].to_string()),
            _ => {}
        }
    }

    /// What a script says; promises are waited for.
    pub fn eval(&mut self, script: &str) -> Value {
        let params =
            json!({ "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{script}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until a script says so.
    pub fn until(&mut self, script: &str) {
        let waiting = format!(
            "(async () => {{ for (let n = 0; n < 2400; n++) {{ if ({script}) return true; \
             await new Promise(done => setTimeout(done, 50)); }} return false; }})()"
        );
        let so = self.eval(&waiting);
        let seen = || "document.body.innerText.slice(0, 3000)";
        if so != true {
            let text = self.eval(seen());
            panic!("{script} does not come; the page says: {text}\n{:?}", self.complaints);
        }
    }

    /// Puts files into an input, as somebody who chooses them does.
    pub fn choose(&mut self, input: &str, files: &[&Path]) {
        let root = self.call("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
        let node =
            self.call("DOM.querySelector", json!({ "nodeId": root, "selector": input }))["nodeId"].clone();
        let files: Vec<String> = files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
        self.call("DOM.setFileInputFiles", json!({ "nodeId": node, "files": files }));
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({ "type": kind, "key": key });
            if kind == "keyDown" && !text.is_empty() {
                params["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// A window of this width, light or dark.
    pub fn look(&mut self, width: u32, height: u32, scheme: &str) {
        let mobile = width < 600;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
        self.eval(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))",
        );
    }

    /// What it looks like, all of the page, as PNG.
    pub fn picture(&mut self) -> Vec<u8> {
        use base64::Engine;
        let params = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.call("Page.captureScreenshot", params);
        base64::engine::general_purpose::STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
    }

    /// Roles and names of what assistive programs can operate.
    pub fn controls(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().unwrap().clone();
        let text = |node: &Value, name: &str| node[name]["value"].as_str().unwrap_or_default().to_owned();
        let all = nodes.iter().filter(|node| node["ignored"] == false);
        let controls = all.map(|node| (text(node, "role"), text(node, "name")));
        controls
            .filter(|control| ["button", "slider", "textbox", "image", "link"].contains(&&*control.0))
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
