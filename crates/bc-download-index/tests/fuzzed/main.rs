//! Replays the fuzzer's corpus and findings (`fuzz/README.md`) with the assertions of its targets.

mod checks;

use bc_testing::fuzzed::{replay, write_seed};

/// Counts what the parsers take.
#[global_allocator]
static MEMORY: bc_testing::memory::Counting = bc_testing::memory::Counting;

#[test]
fn importers() {
    replay("importers", checks::importers);
}

#[test]
fn ids_npy() {
    replay("ids_npy", checks::ids_npy);
}

#[test]
fn download_notes() {
    replay("download_notes", checks::download_notes);
}

#[test]
fn verify_notes() {
    replay("verify_notes", checks::verify_notes);
}

#[test]
#[ignore = "rewrites fuzz/corpus"]
fn write_corpus() {
    let lists = [
        "1\t2\tSong\tAnn\thttps://youtu.be/IAa9tvus61z\t200\n1\t3\tSong, again\tBen\ta/b.mp3\t404\n",
        "A_Song/ann+Medusa+03-A_Song\nA_Song/ben+Live+01-A_Song\n",
        "{\"utt\": \"u0\", \"wav\": \"a/b.wav\", \"dur_s\": 31.5, \"song\": \"A\", \"version\": \"b\"}\n",
        "{\"W_1\": {\"P_1\": {\"work_title\": \"A\", \"perf_title\": \"A\", \"perf_artist\": \"Ann\", \"perf_mbid\": \"x\"}}}",
        "{\"C-1\": [{\"version_id\": \"V-1\", \"youtube_id\": \"IAa9tvus61z\"}], \"C-2\": []}",
        "{\"clique_id\": \"C-1\", \"versions\": [{\"version_id\": \"V-1\", \"tracks\": [{\"track_title\": \"A\", \
         \"track_artist_names\": [\"Ann\"]}], \"youtube_video\": [{\"id\": \"IAa9tvus61z\"}]}]}\n",
        "clique,version,title,performer,Video ID,status,id\n0,0,\"One, two\",Ann,IAa9tvus61z,True,a-1\n",
        "version_id,clique_id,title,performer,split,url,path\na,1,\"A \"\"b\"\"\",Ann,train,https://e.org/a,a.mp3\n",
    ];
    for (choice, (list, text)) in (0u8..).zip(checks::LISTS.iter().zip(lists)) {
        write_seed("importers", list, &[&[choice], text.as_bytes()].concat());
    }
    let npy = |descr: &str, data: &[u8]| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}\n");
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
    };
    write_seed("ids_npy", "wide", &npy("<U2", b"a\0\0\0b\0\0\0c\0\0\0\0\0\0\0"));
    write_seed("ids_npy", "bytes", &npy("|S2", b"abc\0"));
    // As NumPy 1 writes it, pickle protocol 3.
    let pickle = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02C\x01bq\x03\x87q\x04\
        Rq\x05(K\x01K\x02\x85q\x06cnumpy\ndtype\nq\x07X\x02\x00\x00\x00O8q\x08\x89\x88\x87q\x09Rq\x0a(K\x03X\x01\x00\x00\x00|\
        q\x0bNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tq\x0cb\x89]q\x0d(X\x02\x00\x00\x00abq\x0eX\x01\x00\x00\x00cq\x0fetq\x10b.";
    write_seed("ids_npy", "pickled", &npy("|O", pickle));
    let notes = "{\"id\": \"a\", \"url\": \"u\", \"reason\": \"Sign in to confirm your age\", \"passing\": false}\n\
        {\"id\": \"a\", \"url\": \"u\", \"reason\": \"stalled\", \"passing\": true, \"access\": \"no cookies\"}\n{\"id\": \"b\"";
    write_seed("download_notes", "three", notes.as_bytes());
    let notes = "{\"file\": {\"path\": \"a.mp3\", \"bytes\": 9, \"modified\": 8}, \"facts\": {\"fast\": false, \"hash\": \"0123\", \
        \"error\": null, \"passing\": false, \"unread\": false, \"codec\": \"mp3\", \"rate\": 44100, \"channels\": 2, \
        \"duration_s\": 31.5, \"declared_s\": 31.4, \"peak\": 0.5, \"rms\": 0.1, \"packets\": [100, 1]}}\n{\"file\"";
    write_seed("verify_notes", "one", notes.as_bytes());
}
