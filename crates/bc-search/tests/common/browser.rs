//! Controls Chromium through its DevTools protocol, to act as a visitor of the page and read what it shows.

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
    message_id: u64,
    /// URLs of all requests of the page.
    pub requested: Vec<String>,
    /// Exceptions of scripts, and entries of the browser's log.
    pub errors: Vec<String>,
}

impl Browser {
    /// Opens `url` in a browser whose profile is in `folder`.
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
        // The browser keeps writing its log; a full pipe would block it.
        std::thread::spawn(move || lines.for_each(drop));
        let (socket, _) = tungstenite::connect(address).unwrap();
        let (requested, errors) = (Vec::new(), Vec::new());
        let mut browser = Self { child, socket, session: None, message_id: 0, requested, errors };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log", "DOM", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.call("Page.navigate", json!({ "url": url }));
        browser.wait_until("document.readyState === 'complete'");
        browser
    }

    /// Calls a method and waits for its result; events that arrive before it are recorded.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.message_id += 1;
        let mut message = json!({ "id": self.message_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.clone().into();
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let received: Value = serde_json::from_str(&text).unwrap();
            if received["id"] == self.message_id {
                assert!(received["error"].is_null(), "{method}: {received}");
                return received["result"].clone();
            }
            self.record_event(&received);
        }
    }

    fn record_event(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => {
                self.requested.push(params["request"]["url"].as_str().unwrap().to_owned());
            }
            "Runtime.exceptionThrown" => self.errors.push(params["exceptionDetails"].to_string()),
            "Log.entryAdded" => self.errors.push(params["entry"].to_string()),
            _ => {}
        }
    }

    /// Evaluates a script and returns its value; a promise is awaited.
    pub fn eval(&mut self, script: &str) -> Value {
        let params =
            json!({ "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{script}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until the script evaluates to true, and fails after two minutes.
    pub fn wait_until(&mut self, script: &str) {
        let poll = format!(
            "(async () => {{ for (let n = 0; n < 2400; n++) {{ if ({script}) return true; \
             await new Promise(done => setTimeout(done, 50)); }} return false; }})()"
        );
        if self.eval(&poll) != true {
            let text = self.eval("document.body.innerText.slice(0, 3000)");
            panic!("timed out waiting for {script}; the page shows: {text}\n{:?}", self.errors);
        }
    }

    /// Selects files in a file input.
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

    /// Sets the size of the window and the colour scheme (`light` or `dark`).
    pub fn set_viewport(&mut self, width: u32, height: u32, scheme: &str) {
        let mobile = width < 600;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
        self.eval(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))",
        );
    }

    /// A screenshot of the complete page, as PNG.
    pub fn screenshot(&mut self) -> Vec<u8> {
        use base64::Engine;
        let params = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.call("Page.captureScreenshot", params);
        base64::engine::general_purpose::STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
    }

    /// Roles and names of the controls in the accessibility tree.
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
