//! Opens the report in a real browser, at phone and desktop width, light and dark: it must be complete and free of errors.

mod common;

use std::path::Path;
use std::process::Command;

use common::{clusters, succeed};
use serde_json::Value;

/// Shows the page in a frame of a given width and reports what a visitor would see.
const FRAME: &str = r#"<!doctype html><body><script>
addEventListener('error', event => document.body.dataset.error = event.message);
function look(frame) {
  const page = frame.contentDocument, root = page.documentElement;
  const sections = [...page.querySelectorAll('section')];
  document.body.dataset.facts = JSON.stringify({
    width: root.clientWidth,
    needed: root.scrollWidth,
    background: getComputedStyle(page.body).backgroundColor,
    sections: sections.map(section => section.id),
    flat: sections.filter(section => section.getBoundingClientRect().height < 30).map(section => section.id),
    pictures: page.querySelectorAll('svg').length,
    drawn: page.querySelectorAll('svg circle, svg rect, svg path, svg polyline').length,
    clipped: [...page.querySelectorAll('svg text')].filter(text => {
      const label = text.getBoundingClientRect(), svg = text.closest('svg').getBoundingClientRect();
      return label.left < svg.left - .5 || label.right > svg.right + .5 || label.top < svg.top - .5 || label.bottom > svg.bottom + .5;
    }).map(text => text.textContent),
    counted: page.querySelectorAll('[id=reliability] circle').length,
    from_elsewhere: [...page.querySelectorAll('[src],[href]')].length,
    text: page.body.innerText.slice(0, 20000),
  });
}
</script><iframe src="report.html" style="width:WIDTHpx;height:900px;border:0" onload="look(this)"></iframe></body>"#;

/// Facts about the page at a width; `scheme` is 0 for dark and 1 for light.
fn page_facts(browser: &Path, folder: &Path, width: u32, scheme: u32) -> Value {
    let frame = folder.join("frame.html");
    std::fs::write(&frame, FRAME.replace("WIDTH", &width.to_string())).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"])
        .args([
            "--enable-logging=stderr",
            "--virtual-time-budget=5000",
            "--window-size=1600,1000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("file://{}", frame.display()))
        .output()
        .unwrap();
    let (page, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!log.contains("CONSOLE"), "the page logs errors: {log}");
    assert!(!page.contains("data-error"), "a script fails: {page}");
    let start = page.find("data-facts=\"").unwrap_or_else(|| panic!("nothing was shown: {page}\n{log}")) + 12;
    let facts = &page[start..][..page[start..].find('"').unwrap()];
    let plain = [("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    let text = plain.iter().fold(facts.to_owned(), |text, (entity, letter)| text.replace(entity, letter));
    serde_json::from_str(&text).unwrap()
}

/// An evaluation of a dozen cliques, with titles that would break a careless page.
fn evaluation(folder: &Path) {
    let path = folder.join("embeddings.parquet");
    clusters(&path, [24, 3], 16, 1.6, |label| {
        let number = label.clique_id.trim_start_matches("clique ");
        label.title = format!("Title <b>{number}</b> & \"Söhne\" 愛 with words that go on and on and on");
        let (_, version) = label.version_id.split_once('-').unwrap();
        label.performer = format!("Performer {version} </section><script>nothing()</script>");
        label.duration_s = 50.0 + 40.0 * version.parse::<f32>().unwrap();
    });
    succeed(folder, &["metrics", "--embeddings", "embeddings.parquet", "--json", "metrics.json"]);
    succeed(folder, &["calibrate", "--embeddings", "embeddings.parquet"]);
}

#[test]
fn report_is_complete_and_fits_phone_and_desktop_in_light_and_dark() {
    let Some(browser) = bc_testing::chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    evaluation(folder.path());
    succeed(folder.path(), &["report", "."]);
    let mut backgrounds = Vec::new();
    for (width, scheme) in [(360, 0), (360, 1), (1280, 1)] {
        let facts = page_facts(&browser, folder.path(), width, scheme);
        for section in [
            "summary",
            "figures",
            "precision-recall",
            "distances",
            "reliability",
            "thresholds",
            "pair-thresholds",
            "by-clique-size",
            "by-duration",
            "map",
            "hardest",
            "provenance",
        ] {
            assert!(facts["sections"].as_array().unwrap().contains(&section.into()), "no {section}: {facts}");
        }
        assert_eq!(facts["flat"].as_array().unwrap().len(), 0, "empty sections: {facts}");
        assert!(facts["pictures"].as_u64() >= Some(4) && facts["drawn"].as_u64() > Some(60), "{facts}");
        assert_eq!(facts["clipped"].as_array().unwrap().len(), 0, "labels are cut off: {facts}");
        assert!(
            facts["counted"].as_u64() > Some(0),
            "points of the reliability curve have no counts: {facts}"
        );
        assert_eq!(facts["from_elsewhere"], 0, "the page is not self-contained: {facts}");
        assert!(facts["needed"].as_u64() <= facts["width"].as_u64(), "wider than {width}: {facts}");
        let text = facts["text"].as_str().unwrap();
        assert!(
            text.contains("Söhne") && text.contains("</section><script>"),
            "titles are shown as they are"
        );
        let lead =
            text.lines().find(|line| line.starts_with("Mean average precision is")).unwrap_or_default();
        assert!(lead.contains("where a random order has") && lead.contains("by chance"), "{text}");
        assert!(text.contains("mAP") && text.contains("fedcba9876543210"), "{text}");
        backgrounds.push(facts["background"].as_str().unwrap().to_owned());
    }
    assert_ne!(backgrounds[0], backgrounds[1], "dark and light are equal");
}

#[test]
fn a_report_of_two_runs_shows_both() {
    let Some(browser) = bc_testing::chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    for name in ["one/eval", "two/eval"] {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
        evaluation(&folder.path().join(name));
    }
    succeed(folder.path(), &["report", "one/eval", "two/eval", "--out", "."]);
    let facts = page_facts(&browser, folder.path(), 1280, 1);
    let maps = facts["sections"].as_array().unwrap().iter().filter(|id| *id == "map").count();
    assert_eq!(maps, 2, "{facts}");
    assert!(facts["needed"].as_u64() <= facts["width"].as_u64(), "{facts}");
}
