//! Computes the pooled constant-Q magnitude of an audio file.
//!
//! **In**: a path. **Out**: [`Features`], the 16-bit magnitudes of the configured
//! transform, or a [`DecodeError`] that says what is wrong with the file. Everything is
//! a stream ([`decode`] -> [`resample`] -> [`cqt`] -> pooling in [`extract`]), so a three-hour
//! mix costs no more memory than a song, apart from its features.
//!
//! MP3 is decoded by [`bc_mp3`], which computes only the channel and the bands that are used (decoding was two thirds of the
//! time, and no library leaves them out), Opus by [`bc_opus`], everything else by symphonia.
//!
//! It is a crate of its own because three programs need it: bc-features extracts features with it, bc-download-index verifies
//! files with it, and bc-search embeds queries with it.

use bc_formats::config::Mp3Decoder;

pub mod cqt;
mod cut_off;
pub mod deadline;
pub mod decode;
pub mod extract;
pub mod inspect;
pub mod need;
pub mod resample;
mod retry_when;

pub use cut_off::CutOff;
pub use decode::DecodeError;
pub use extract::{Extractor, Features, Limits};

/// Version of the extractor: raised with every change of decoding, resampling, transform or pooling that changes magnitudes.
/// Feature files record it, and files of two versions are not used together.
pub const EXTRACTOR: &str = "bc-audio 2";

/// Returns [`EXTRACTOR`], with the name of the MP3 decoder if that is not [`bc_mp3`]: results of another decoder differ in the last
/// bits, and for damaged files.
pub fn extractor(mp3: Mp3Decoder) -> String {
    match mp3 {
        Mp3Decoder::Own => EXTRACTOR.to_owned(),
        Mp3Decoder::Symphonia => format!("{EXTRACTOR}, mp3 by symphonia"),
    }
}

/// Extensions that count as audio in a search through folders. When a file is decoded, its kind is recognised by its
/// content.
pub const EXTENSIONS: [&str; 16] = [
    "mp3", "m4a", "ogg", "flac", "wav", "opus", "webm", "aac", "mp4", "oga", "mkv", "mka", "aif", "aiff",
    "caf", "weba",
];

/// Extensions of audio and video that a search through folders passes over.
const UNREAD_EXTENSIONS: [&str; 48] = [
    "wma", "ac3", "eac3", "wv", "ape", "mpc", "mp+", "mpp", "mp1", "mp2", "mpa", "mpga", "dsf", "dff", "dts",
    "amr", "awb", "au", "snd", "ra", "rm", "ram", "tta", "tak", "shn", "thd", "mlp", "spx", "gsm", "voc",
    "w64", "rf64", "bwf", "aifc", "m4b", "m4p", "m4r", "m4v", "3gp", "3g2", "mov", "avi", "wmv", "asf",
    "flv", "mpg", "mpeg", "vob",
];

/// Returns the extension of a file that is passed over although it is audio or video, with a dot and in lower case;
/// for audio without any extension, "no extension". `None` for all other files.
pub fn unread_kind(path: &std::path::Path) -> Option<String> {
    if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
        return None;
    }
    match path.extension() {
        Some(extension) => {
            let extension = extension.to_string_lossy().to_lowercase();
            UNREAD_EXTENSIONS.contains(&extension.as_str()).then(|| format!(".{extension}"))
        }
        // Only the content tells whether it is audio.
        None => inspect::headers(path).is_ok().then(|| "no extension".to_owned()),
    }
}

/// Returns whether a file's name has an extension of audio.
pub fn is_audio(path: &std::path::Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.to_lowercase().as_str()))
}
