//! Reads state dicts as `torch.save` writes them: a ZIP archive of a pickle and of one file per storage.
//!
//! candle reads them. It allocates what a pickle declares before it checks whether the bytes exist, so that a damaged file
//! of 2 kB can request gigabytes; the lengths are checked here first.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, copy, sink};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::Tensor;
use candle_core::pickle::PthTensors;
use zip::ZipArchive;

/// Reads the flat state dict of a `.pt` file, or the one under a usual key.
pub(super) fn read(path: &Path) -> Result<HashMap<String, Tensor>> {
    let unreadable =
        || format!("{} cannot be read as a PyTorch checkpoint (torch.save of a state dict)", path.display());
    require_strings(path).with_context(unreadable)?;
    for key in [None, Some("state_dict"), Some("model_state_dict"), Some("model")] {
        // A missing key is an error too; the final error is reported below.
        let tensors = match (PthTensors::new(path, key), key) {
            (Ok(tensors), _) => tensors,
            (Err(error), None) => {
                return Err(error).with_context(unreadable);
            }
            (Err(_), Some(_)) => continue,
        };
        let names: Vec<String> = tensors.tensor_infos().keys().cloned().collect();
        if names.is_empty() {
            continue;
        }
        let mut found = HashMap::new();
        require_values(path, &tensors).with_context(unreadable)?;
        for name in names {
            let tensor =
                tensors.get(&name).with_context(|| format!("{}: the tensor {name}", path.display()))?;
            found.extend(tensor.map(|tensor| (name, tensor)));
        }
        return Ok(found);
    }
    bail!(
        "{} holds no state dict that could be found; save one with torch.save(model.state_dict(), ...)",
        path.display()
    )
}

fn archive(path: &Path) -> Result<ZipArchive<BufReader<File>>> {
    Ok(ZipArchive::new(BufReader::new(File::open(path)?))?)
}

/// Refuses pickles with strings or numbers that are longer than the rest of the file.
fn require_strings(path: &Path) -> Result<()> {
    let mut archive = archive(path)?;
    for number in 0..archive.len() {
        let entry = archive.by_index(number)?;
        if entry.name()?.ends_with("data.pkl") {
            require_arguments(&mut BufReader::new(entry))?;
        }
    }
    Ok(())
}

/// Reads the instructions of a pickle (PEP 307, PEP 3154) up to its end, or to an instruction that candle does not know and
/// refuses.
fn require_arguments(pickle: &mut impl BufRead) -> Result<()> {
    loop {
        let mut instruction = [0];
        pickle.read_exact(&mut instruction)?;
        let skipped: u64 = match instruction[0] {
            // GLOBAL: a module and a name, each up to the end of a line.
            b'c' => {
                pickle.skip_until(b'\n')?;
                pickle.skip_until(b'\n')?;
                0
            }
            // BINUNICODE
            b'X' => u64::from(u32::from_le_bytes(bytes(pickle)?)),
            // LONG1: candle's integers have 64 bits.
            0x8a => {
                let [length] = bytes(pickle)?;
                ensure!(length <= 8, "an integer of {length} bytes");
                length.into()
            }
            // PROTO, BINPUT, BINGET, BININT1
            0x80 | b'q' | b'h' | b'K' => 1,
            // BININT2
            b'M' => 2,
            // LONG_BINPUT, LONG_BINGET, BININT
            b'r' | b'j' | b'J' => 4,
            // BINFLOAT
            b'G' => 8,
            // STOP, or an instruction without an argument: MARK, the tuples, lists and dictionaries, None, True, False, and what
            // calls and builds.
            b'.' => return Ok(()),
            b'('
            | b')'
            | b'R'
            | b't'
            | b'Q'
            | b'N'
            | 0x81
            | 0x85..=0x89
            | b's'
            | b'u'
            | b'}'
            | b'd'
            | b'b'
            | b']'
            | b'a'
            | b'e' => 0,
            _ => return Ok(()),
        };
        let read = copy(&mut pickle.by_ref().take(skipped), &mut sink())?;
        ensure!(read == skipped, "a string of {skipped} bytes where {read} are left");
    }
}

fn bytes<const N: usize>(pickle: &mut impl Read) -> Result<[u8; N]> {
    let mut read = [0; N];
    pickle.read_exact(&mut read)?;
    Ok(read)
}

/// Refuses tensors with more values than their storage in the archive.
fn require_values(path: &Path, tensors: &PthTensors) -> Result<()> {
    let mut archive = archive(path)?;
    for (name, tensor) in tensors.tensor_infos() {
        let shape = tensor.layout.dims();
        let storage = archive.by_name(&tensor.path).with_context(|| format!("the tensor {name}"))?;
        let size = shape.iter().try_fold(tensor.dtype.size_in_bytes(), |size, &dim| size.checked_mul(dim));
        if size.is_none_or(|size| size as u64 > storage.size() || storage.size() > storage.compressed_size())
        {
            bail!("the tensor {name} of shape {shape:?} has {} bytes of values", storage.size());
        }
    }
    Ok(())
}
