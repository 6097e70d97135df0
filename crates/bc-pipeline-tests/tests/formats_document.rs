//! docs/FORMATS.md's Python snippet, run as it is, and other readers of Parquet.

use std::path::Path;
use std::process::Command;

use bc_formats::features::{CqtSettings, FeatureRow, PartWriter, Source};
use bc_formats::provenance::Provenance;
use bc_testing::python_with;
use half::f16;

fn write_part(path: &Path) -> FeatureRow {
    let settings = CqtSettings::default();
    let frames = 7;
    let magnitude = (0..settings.bins * frames).map(|value| f16::from_f32(value as f32 / 8.0)).collect();
    let row = FeatureRow {
        version_id: "version one".into(),
        frames,
        source_hash: "hash".into(),
        source: Source::default(),
        error_share: None,
        magnitude,
    };
    let mut part = PartWriter::create(path, settings).unwrap();
    part.push(row.clone()).unwrap();
    part.commit(Provenance {
        format: String::new(),
        tool: "test".into(),
        settings: serde_json::Value::Null,
        fingerprint: String::new(),
        inputs: Default::default(),
    })
    .unwrap();
    row
}

fn run_python(python: &Path, program: &str) -> String {
    let output = Command::new(python).args(["-c", program]).output().unwrap();
    assert!(output.status.success(), "{program}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn documented_snippet_converts_a_row_to_an_array() {
    let Some(python) = python_with("numpy, pyarrow") else { return };
    let document = include_str!("../../../docs/FORMATS.md");
    let snippet = document.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    let snippet = snippet.expect("docs/FORMATS.md has a Python snippet");
    assert!(snippet.lines().count() <= 6, "the snippet has grown to {} lines", snippet.lines().count());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part-0.parquet");
    let row = write_part(&path);
    let check = "print(' '.join(str(float(v)) for v in x.ravel()))";
    let printed = run_python(&python, &format!("PATH = {:?}\n{snippet}{check}", path.to_str().unwrap()));
    let mut lines = printed.lines();
    assert_eq!(lines.next(), Some("version one (84, 7) float16"));
    let values: Vec<f32> = lines.next().unwrap().split(' ').map(|value| value.parse().unwrap()).collect();
    let expected: Vec<f32> = row.magnitude.iter().map(|value| value.to_f32()).collect();
    assert_eq!(values, expected);
}

#[test]
fn pandas_polars_and_duckdb_open_a_feature_file() {
    let Some(python) = python_with("numpy, pandas, polars, duckdb") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part-0.parquet");
    write_part(&path);
    let program = format!(
        "import pandas, polars, duckdb\n\
         path = {:?}\n\
         a = pandas.read_parquet(path); b = polars.read_parquet(path)\n\
         c = duckdb.sql(f\"select version_id, frames, octet_length(magnitude) from '{{path}}'\").fetchall()\n\
         print(a.version_id[0], len(a.magnitude[0]), b['frames'][0], len(b['magnitude'][0]), c)",
        path.to_str().unwrap()
    );
    assert_eq!(run_python(&python, &program).trim(), "version one 1176 7 1176 [('version one', 7, 1176)]");
}
