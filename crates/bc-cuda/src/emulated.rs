//! Runs the kernels on CPU threads, so that all operators can be tested without a GPU.
//!
//! In: the folder of HIP-CPU (MIT, header-only) and a g++ with TBB. Out: a [`Device`] that compiles the same sources as
//! nvrtc does, and has plain loops in the place of cuDNN and cuBLAS. Memory is filled with NaN and followed by guard bytes, which
//! are checked when it is freed, so that tests find kernels that leave out a value or write beyond their memory. It is slow, for
//! tests only.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use half::bf16;
use libloading::Library;

use crate::device::{Address, Convolve, Device, Launch, Multiply, Pass, Staging};
use crate::error::{Error, Result, ensure};
use crate::kernels::{HEADERS, MAIN, SOURCES};
use crate::shape::Element;

/// Number of guard bytes after each block.
const GUARD: usize = 256;
/// Value of the guard bytes.
const MARK: u8 = 0xa5;
const ALIGNMENT: usize = 256;

/// Returns a message about what is missing to run kernels on CPU threads; `None` if nothing is missing.
pub fn missing(hip_cpu: &Path) -> Option<String> {
    if !hip_cpu.join("include/hip/hip_runtime.h").is_file() {
        return Some(format!("no HIP-CPU in {}", hip_cpu.display()));
    }
    let quiet = |command: &mut Command| {
        let done = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    };
    if !quiet(Command::new("g++").arg("--version")) {
        return Some("no g++".to_owned());
    }
    if !quiet(Command::new("g++").args(["-E", "-x", "c++", "-include", "tbb/parallel_for.h", "/dev/null"])) {
        return Some("no TBB (Debian's libtbb-dev)".to_owned());
    }
    None
}

type LaunchFunction = unsafe extern "C" fn(*const c_char, *const c_uint, *mut *mut c_void) -> c_int;
type CountFunction = unsafe extern "C" fn() -> c_int;

struct Emulated {
    launch: LaunchFunction,
    kernels: usize,
    blocks: Mutex<HashMap<Address, Layout>>,
    /// Kept open as long as `launch` may be called.
    _library: Library,
}

/// Opens a device on CPU threads. Its library is compiled once for each state of the sources, into the folder of temporary files.
///
/// # Errors
/// g++ fails; the message has its output.
pub fn open(hip_cpu: &Path) -> Result<Arc<dyn Device>> {
    let path = compiled(hip_cpu)?;
    let call = |error: libloading::Error| Error::Call { call: "dlopen", message: error.to_string() };
    // SAFETY: the library is of our own sources; loading it fills a table of kernels and nothing else. The functions have
    // the types of `emulated.cpp`.
    unsafe {
        let library = Library::new(&path).map_err(call)?;
        let launch = *library.get::<LaunchFunction>(b"bc_launch\0").map_err(call)?;
        let count = library.get::<CountFunction>(b"bc_kernels\0").map_err(call)?();
        let kernels = count.cast_unsigned() as usize;
        Ok(Arc::new(Emulated { launch, kernels, blocks: Mutex::default(), _library: library }))
    }
}

/// Compiles the library of the kernels in the folder of temporary files, unless it exists; returns its path. Each source file is
/// compiled separately, once for each state of it.
fn compiled(hip_cpu: &Path) -> Result<PathBuf> {
    let mut units: Vec<(&str, &str)> =
        SOURCES.iter().map(|source| (source.file, source.original())).collect();
    units.push(MAIN);
    let folder = std::env::temp_dir().join("bytecover-emulated");
    std::fs::create_dir_all(&folder).map_err(io(&folder))?;
    let named = |name: &str, texts: &[&str]| {
        let mut hash = blake3::Hasher::new();
        texts.iter().for_each(|text| {
            hash.update(text.as_bytes());
        });
        folder.join(format!("{}-{}", &hash.finalize().to_hex()[..16], name))
    };
    let objects: Vec<PathBuf> = units
        .iter()
        .map(|(name, text)| named(&format!("{name}.o"), &[HEADERS[0].1, HEADERS[1].1, text]))
        .collect();
    let texts: Vec<&str> = HEADERS.iter().chain(&units).map(|(_, text)| *text).collect();
    let library = named("kernels.so", &texts);
    if library.is_file() {
        return Ok(library);
    }
    let work = tempfile::tempdir_in(&folder).map_err(io(&folder))?;
    for (name, text) in HEADERS.iter().chain(&units) {
        let path = work.path().join(name);
        std::fs::write(&path, text).map_err(io(&path))?;
    }
    let sources = work.path();
    std::thread::scope(|scope| {
        let compiling: Vec<_> = units
            .iter()
            .zip(&objects)
            .filter(|(_, object)| !object.is_file())
            .map(|((name, _), object)| scope.spawn(move || compile(hip_cpu, sources, name, object)))
            .collect();
        compiling.into_iter().try_for_each(|thread| thread.join().expect("no panic while compiling"))
    })?;
    let built = work.path().join("kernels.so");
    run(Command::new("g++")
        .arg("-shared")
        .arg("-o")
        .arg(&built)
        .args(&objects)
        .args(["-ltbb", "-lpthread"]))?;
    std::fs::rename(&built, &library).map_err(io(&library))?;
    Ok(library)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Io { path, source }
}

/// Compiles one source file to an object file, under a temporary name first, because another process may compile it too.
fn compile(hip_cpu: &Path, work: &Path, name: &str, object: &Path) -> Result<()> {
    let built = work.join(format!("{name}.o"));
    let mut command = Command::new("g++");
    command.args([
        "-std=c++17",
        "-O1",
        "-fPIC",
        "-w",
        "-ffp-contract=off",
        "-DBC_HIP_CPU",
        "-c",
        "-x",
        "c++",
    ]);
    command.arg("-I").arg(hip_cpu.join("include")).arg("-I").arg(work);
    run(command.arg("-o").arg(&built).arg(work.join(name)))?;
    std::fs::rename(&built, object).map_err(io(object))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(io(Path::new("g++")))?;
    ensure(output.status.success(), || {
        format!("the kernels do not compile with g++: {}", String::from_utf8_lossy(&output.stderr))
    })
}

impl Emulated {
    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Address, Layout>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads `count` values at an address, converted to 32 bits.
///
/// # Safety
/// There are `count` values of the element type.
unsafe fn values(at: Address, count: usize, element: Element) -> Vec<f32> {
    // SAFETY: the caller's; blocks are aligned to more than either type needs, and offsets are whole values.
    unsafe {
        match element {
            Element::F32 => std::slice::from_raw_parts(at as *const f32, count).to_vec(),
            Element::Bf16 => {
                std::slice::from_raw_parts(at as *const bf16, count).iter().map(|x| x.to_f32()).collect()
            }
        }
    }
}

/// Writes values to an address, or adds them to the existing ones if `add`.
///
/// # Safety
/// There is room for the values.
unsafe fn put(at: Address, values: &[f32], element: Element, add: bool) {
    for (index, value) in values.iter().enumerate() {
        // SAFETY: the caller's.
        unsafe {
            match element {
                Element::F32 => {
                    let to = (at as *mut f32).add(index);
                    *to = if add { *to + value } else { *value };
                }
                Element::Bf16 => {
                    let to = (at as *mut bf16).add(index);
                    *to = bf16::from_f32(if add { (*to).to_f32() + value } else { *value });
                }
            }
        }
    }
}

// SAFETY: memory is of the allocator and counted as such; all calls are done before they return, so their order is kept.
unsafe impl Device for Emulated {
    fn name(&self) -> String {
        format!("{} kernels on CPU threads", self.kernels)
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        let layout = Layout::from_size_align(bytes + GUARD, ALIGNMENT)
            .map_err(|error| Error::Shape(error.to_string()))?;
        // SAFETY: the size is not zero; both parts lie in the block.
        let address = unsafe {
            let block = alloc(layout);
            if block.is_null() {
                return Err(Error::OutOfMemory { asked: bytes, free: 0, total: 0, held: 0 });
            }
            block.write_bytes(0xff, bytes);
            block.add(bytes).write_bytes(MARK, GUARD);
            block as Address
        };
        self.locked().insert(address, layout);
        Ok(address)
    }

    unsafe fn free(&self, address: Address) {
        let layout = self.locked().remove(&address).expect("memory is freed once");
        // SAFETY: the block came from `allocate` with this layout.
        let untouched = unsafe {
            let guard = (address as *const u8).add(layout.size() - GUARD);
            let untouched = std::slice::from_raw_parts(guard, GUARD).iter().all(|byte| *byte == MARK);
            dealloc(address as *mut u8, layout);
            untouched
        };
        assert!(untouched, "something wrote beyond a block of {} bytes", layout.size() - GUARD);
    }

    fn memory(&self) -> Result<[usize; 2]> {
        Ok([usize::MAX / 2; 2])
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<()> {
        let name = CString::new(launch.kernel.as_str()).map_err(|error| Error::Shape(error.to_string()))?;
        let mut values: Vec<u64> = launch.arguments.iter().map(|argument| argument.0).collect();
        let mut places: Vec<*mut c_void> =
            values.iter_mut().map(|value| (value as *mut u64).cast()).collect();
        // SAFETY: there are as many places as the kernel has arguments, by the caller, and each has 8 bytes.
        let found = unsafe { (self.launch)(name.as_ptr(), launch.grid.as_ptr(), places.as_mut_ptr()) };
        ensure(found != 0, || format!("there is no kernel {}", launch.kernel))
    }

    unsafe fn write(&self, to: Address, from: &[u8]) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
        Ok(())
    }

    unsafe fn read(&self, to: &mut [u8], from: Address) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    unsafe fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) };
        Ok(())
    }

    unsafe fn zero(&self, to: Address, bytes: usize) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { (to as *mut u8).write_bytes(0, bytes) };
        Ok(())
    }

    unsafe fn convolve(&self, call: &Convolve) -> Result<()> {
        ensure(call.convolution.padding.is_symmetric(), || format!("{} is not cuDNN's", call.convolution))?;
        let (weights, output) = (call.convolution.weights(), call.convolution.output(call.input)?);
        let [x, w, y] = [(call.x, call.input.count()), (call.w, weights), (call.y, output.count())];
        let read = |(address, count): (Address, usize)| {
            // SAFETY: the caller's.
            unsafe { values(address, count, call.element) }
        };
        let (result, to) = match call.pass {
            Pass::Forward => (loops::forward(call, &read(x), &read(w)), y),
            Pass::BackwardData => (loops::backward_data(call, &read(y), &read(w)), x),
            Pass::BackwardFilter => (loops::backward_filter(call, &read(x), &read(y)), w),
        };
        assert_eq!(result.len(), to.1);
        // SAFETY: the caller's.
        unsafe { put(to.0, &result, call.element, call.add) };
        Ok(())
    }

    unsafe fn multiply(&self, call: &Multiply) -> Result<()> {
        let Multiply { rows, columns, inner, .. } = *call;
        // SAFETY: the caller's.
        let [a, b] = unsafe {
            [
                values(call.matrices[0], rows * inner, call.element),
                values(call.matrices[1], inner * columns, call.element),
            ]
        };
        let product = loops::multiply(call, &a, &b);
        // SAFETY: the caller's.
        unsafe { put(call.matrices[2], &product, call.result, call.add) };
        Ok(())
    }

    fn staging(&self, bytes: usize) -> Result<Box<dyn Staging>> {
        let words = || vec![u32::MAX; bytes.div_ceil(4)];
        Ok(Box::new(Slot { sent: words(), memory: words(), bytes: None, read: false }))
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}

/// An upload slot that finds wrong uses: an upload arrives as late as allowed, when it is received, and memory that may not be read
/// (before the arrival and after the release) holds NaN.
struct Slot {
    sent: Vec<u32>,
    memory: Vec<u32>,
    /// Number of bytes of the upload that was sent and not yet received.
    bytes: Option<usize>,
    /// Whether an upload was received and not yet released.
    read: bool,
}

impl Staging for Slot {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        ensure(!self.read, || "a batch is written over another one that is still read".to_owned())?;
        let room: &mut [u8] = bytemuck::cast_slice_mut(&mut self.sent);
        ensure(bytes.len() <= room.len(), || format!("{} bytes for a slot of {}", bytes.len(), room.len()))?;
        room[..bytes.len()].copy_from_slice(bytes);
        self.bytes = Some(bytes.len());
        Ok(())
    }

    fn receive(&mut self) -> Result<Address> {
        let bytes = self.bytes.take().ok_or_else(|| Error::Shape("no batch was sent".to_owned()))?;
        let (sent, memory): (&[u8], &mut [u8]) =
            (bytemuck::cast_slice(&self.sent), bytemuck::cast_slice_mut(&mut self.memory));
        memory[..bytes].copy_from_slice(&sent[..bytes]);
        self.read = true;
        Ok(self.memory.as_ptr() as Address)
    }

    fn release(&mut self) -> Result<()> {
        ensure(self.read, || "a batch is released that nobody has received".to_owned())?;
        // All that was queued is done here.
        self.memory.fill(u32::MAX);
        self.read = false;
        Ok(())
    }
}

/// Convolutions and products of matrices in plain loops, summed in 32 bits.
mod loops {
    use crate::device::{Convolve, Multiply};

    /// Calls `work(position in x, tap, position in y)` for every term of a convolution. Positions are indices into the batch x height
    /// x width positions of an image.
    fn pairs(call: &Convolve, mut work: impl FnMut(usize, usize, usize)) {
        let (c, x) = (&call.convolution, call.input);
        let padded = c.padding.apply(x);
        let out = |axis: usize, size: usize| (size - c.kernel[axis]) / c.stride[axis] + 1;
        let (out_height, out_width) = (out(0, padded.height), out(1, padded.width));
        for item in 0..x.batch {
            for (row, column) in
                (0..out_height).flat_map(|row| (0..out_width).map(move |column| (row, column)))
            {
                for tap in 0..c.taps() {
                    let from_row = row * c.stride[0] + tap / c.kernel[1];
                    let from_column = column * c.stride[1] + tap % c.kernel[1];
                    let rows = c.padding.top..c.padding.top + x.height;
                    let columns = c.padding.left..c.padding.left + x.width;
                    if rows.contains(&from_row) && columns.contains(&from_column) {
                        let from = (item * x.height + from_row - c.padding.top) * x.width;
                        let to = (item * out_height + row) * out_width + column;
                        work(from + from_column - c.padding.left, tap, to);
                    }
                }
            }
        }
    }

    pub fn forward(call: &Convolve, x: &[f32], w: &[f32]) -> Vec<f32> {
        let c = &call.convolution;
        let count = c.output(call.input).map_or(0, |shape| shape.count());
        let mut y = vec![0f32; count];
        // (taps, inputs, outputs), so that the inner loop runs over outputs.
        let mut across = vec![0f32; w.len()];
        for (index, value) in w.iter().enumerate() {
            across[index % (c.taps() * c.inputs) * c.outputs + index / (c.taps() * c.inputs)] = *value;
        }
        pairs(call, |from, tap, to| {
            let y = &mut y[to * c.outputs..][..c.outputs];
            for (input, x) in x[from * c.inputs..][..c.inputs].iter().enumerate() {
                let row = &across[(tap * c.inputs + input) * c.outputs..][..c.outputs];
                y.iter_mut().zip(row).for_each(|(y, w)| *y += x * w);
            }
        });
        y
    }

    pub fn backward_data(call: &Convolve, dy: &[f32], w: &[f32]) -> Vec<f32> {
        let c = &call.convolution;
        let mut dx = vec![0f32; call.input.count()];
        pairs(call, |from, tap, to| {
            let dx = &mut dx[from * c.inputs..][..c.inputs];
            for (output, dy) in dy[to * c.outputs..][..c.outputs].iter().enumerate() {
                let row = &w[(output * c.taps() + tap) * c.inputs..][..c.inputs];
                dx.iter_mut().zip(row).for_each(|(dx, w)| *dx += dy * w);
            }
        });
        dx
    }

    pub fn backward_filter(call: &Convolve, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let c = &call.convolution;
        let mut dw = vec![0f32; c.weights()];
        pairs(call, |from, tap, to| {
            let x = &x[from * c.inputs..][..c.inputs];
            for (output, dy) in dy[to * c.outputs..][..c.outputs].iter().enumerate() {
                let row = &mut dw[(output * c.taps() + tap) * c.inputs..][..c.inputs];
                row.iter_mut().zip(x).for_each(|(dw, x)| *dw += dy * x);
            }
        });
        dw
    }

    pub fn multiply(call: &Multiply, a: &[f32], b: &[f32]) -> Vec<f32> {
        let Multiply { rows, columns, inner, transposed, .. } = *call;
        let at = |row: usize, k: usize| if transposed[0] { a[k * rows + row] } else { a[row * inner + k] };
        let mut c = vec![0f32; rows * columns];
        for (row, c) in c.chunks_mut(columns.max(1)).enumerate() {
            for k in 0..inner {
                let a = at(row, k);
                for (column, c) in c.iter_mut().enumerate() {
                    *c += a * if transposed[1] { b[column * inner + k] } else { b[k * columns + column] };
                }
            }
        }
        c
    }
}
