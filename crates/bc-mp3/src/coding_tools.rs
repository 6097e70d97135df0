//! Which coding tools of the standard the fixtures use: a decoder that is tested with them alone is tested only for these.

use std::path::Path;

use crate::codes::LINBITS;
use crate::reader::Reader;
use crate::side_info::{BlockType, Granule, SideInfo};

/// Returns all granules of the fixtures with the names of their files, and whether they use scfsi.
fn granules_of_fixtures() -> Vec<(String, Granule, bool)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|extension| extension != "mp3") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let mut reader = Reader::new(&bytes[..], None);
        while let Some(frame) = reader.next_frame().unwrap() {
            let side = SideInfo::read(&frame.header, frame.bytes).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy();
            let granules = side.granules.iter().take(frame.header.granules());
            for granule in granules.flat_map(|granule| &granule[..frame.header.channels()]) {
                found.push((name.clone().into_owned(), *granule, side.scfsi.as_flattened().contains(&true)));
            }
        }
    }
    found
}

#[test]
fn fixtures_use_every_coding_tool_that_encoders_use() {
    let granules = granules_of_fixtures();
    let uses = |what: &str, test: &dyn Fn(&Granule) -> bool| {
        let count = granules.iter().filter(|(_, granule, _)| test(granule)).count();
        println!("{what}: {count} granules");
        assert!(count > 0, "no fixture has {what}");
    };
    for (what, block_type) in [
        ("normal windows", BlockType::Normal),
        ("start windows", BlockType::Start),
        ("short windows", BlockType::Short),
        ("stop windows", BlockType::Stop),
    ] {
        uses(what, &|granule| granule.block_type == block_type && granule.big_values > 0);
    }
    uses("preflag", &|granule| granule.preflag);
    uses("scalefac_scale", &|granule| granule.scalefac_scale);
    uses("subblock_gain", &|granule| granule.subblock_gain.iter().any(|&gain| gain > 0));
    uses("linbits", &|granule| granule.table_select.iter().any(|&table| LINBITS[table] > 0));
    uses("count1 table A", &|granule| granule.big_values > 0 && !granule.count1table_select);
    uses("count1 table B", &|granule| granule.big_values > 0 && granule.count1table_select);
    assert!(granules.iter().any(|(_, _, scfsi)| *scfsi), "no fixture has scfsi");
}
