//! The CUDA device: memory, the stream on which work is queued, and kernel launches, by the driver's interface.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, result};
use cudarc::nvrtc::Ptx;

use super::cublas::Cublas;
use super::cudnn::Cudnn;
use super::staging::{Ring, Slot};
use super::{allocation, call, libraries, nvrtc};
use crate::device::{Address, BLOCK, Convolve, Device, Launch, Multiply, Staging};
use crate::error::{Error, Result};
use crate::kernels::SOURCES;

/// Minimum compute capability: the lowest one with bf16.
const MIN_CAPABILITY: (i32, i32) = (8, 0);

/// A CUDA device with its stream and libraries.
pub struct CudaDevice {
    pub(super) context: Arc<CudaContext>,
    pub(super) stream: Arc<CudaStream>,
    modules: Vec<Arc<CudaModule>>,
    functions: Mutex<HashMap<String, CudaFunction>>,
    writes: Mutex<Ring>,
    cublas: Cublas,
    cudnn: Mutex<Cudnn>,
    name: String,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CudaDevice {
    /// Opens device number `ordinal` of those that the driver sees.
    pub(super) fn new(ordinal: usize) -> Result<Arc<Self>> {
        let count = count()?;
        if ordinal >= count {
            return Err(Error::NoDevice { ordinal, count });
        }
        libraries::CUBLAS.require()?;
        libraries::CUDNN.require()?;
        let context = CudaContext::new(ordinal).map_err(call("cuDevicePrimaryCtxRetain"))?;
        let name = context.name().map_err(call("cuDeviceGetName"))?;
        let capability = context.compute_capability().map_err(call("cuDeviceGetAttribute"))?;
        if capability < MIN_CAPABILITY {
            return Err(Error::TooOld { name, capability });
        }
        let stream = context.new_stream().map_err(call("cuStreamCreate"))?;
        let modules = load_modules(&context, capability)?;
        let writes = Mutex::new(Ring::new(&context)?);
        let cublas = Cublas::new(&stream)?;
        let cudnn = Mutex::new(Cudnn::new(&stream)?);
        let functions = Mutex::default();
        let name = format!("{name} (cuda:{ordinal}, compute capability {}.{})", capability.0, capability.1);
        Ok(Arc::new(Self { context, stream, modules, functions, writes, cublas, cudnn, name }))
    }

    /// Returns the UUID of the GPU.
    ///
    /// # Errors
    /// The driver fails.
    pub fn uuid(&self) -> Result<String> {
        let uuid = self.context.uuid().map_err(call("cuDeviceGetUuid"))?;
        let digits: String = uuid.bytes.iter().map(|byte| format!("{:02x}", byte.cast_unsigned())).collect();
        Ok(format!("GPU-{digits}"))
    }

    pub(super) fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(call("cuCtxSetCurrent"))
    }

    fn function(&self, name: &str) -> Result<CudaFunction> {
        let mut functions = locked(&self.functions);
        if let Some(function) = functions.get(name) {
            return Ok(function.clone());
        }
        let found = self.modules.iter().find_map(|module| module.load_function(name).ok());
        let function = found.ok_or_else(|| Error::Shape(format!("there is no kernel {name}")))?;
        functions.insert(name.to_owned(), function.clone());
        Ok(function)
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        // Page-locked memory and handles may still be in use. On failure they leak, in a process whose device has failed.
        let _ = self.synchronize();
    }
}

/// Returns the number of devices that the driver sees.
///
/// # Errors
/// There is no driver.
pub fn count() -> Result<usize> {
    libraries::DRIVER.require()?;
    // Without this check, a driver without devices would fail with a worse message.
    result::init().map_err(call("cuInit"))?;
    Ok(CudaContext::device_count().map_err(call("cuDeviceGetCount"))?.max(0) as usize)
}

fn load_modules(context: &Arc<CudaContext>, capability: (i32, i32)) -> Result<Vec<Arc<CudaModule>>> {
    let folder = nvrtc::cache_folder();
    let cache = folder.as_deref();
    let load = |source| {
        let code = nvrtc::cached(source, capability, cache)?;
        context.load_module(Ptx::from_binary(code)).map_err(call("cuModuleLoadData"))
    };
    let one = |source| match (load(source), cache) {
        // The cached code is damaged, or was made for another driver.
        (Err(Error::Call { .. }), Some(folder)) => {
            nvrtc::forget(source, capability, folder)?;
            load(source)
        }
        (loaded, _) => loaded,
    };
    SOURCES.iter().map(one).collect()
}

// SAFETY: memory comes from the driver; everything is queued on one stream, whose order the driver keeps.
unsafe impl Device for CudaDevice {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        self.bind()?;
        allocation::allocate(bytes)
    }

    unsafe fn free(&self, address: Address) {
        // On failure the memory leaks, in a process whose device has failed anyway.
        let _ = self.synchronize();
        // SAFETY: the caller's: it was allocated, and nothing uses it any more once the queue is done.
        let _ = unsafe { result::free_sync(address) };
    }

    fn memory(&self) -> Result<[usize; 2]> {
        self.bind()?;
        let (free, total) = result::mem_get_info().map_err(call("cuMemGetInfo"))?;
        Ok([free, total])
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<()> {
        self.bind()?;
        let function = self.function(&launch.kernel)?;
        let mut values: Vec<u64> = launch.arguments.iter().map(|argument| argument.0).collect();
        let mut places: Vec<*mut c_void> =
            values.iter_mut().map(|value| (value as *mut u64).cast()).collect();
        let [x, y, z] = launch.grid;
        // SAFETY: the function's module lives as long as it; the driver copies the arguments, which are 8 bytes each and
        // begin with their lowest byte, before it returns; the caller vouches for what they point to.
        unsafe {
            result::launch_kernel(
                function.cu_function(),
                (x, y, z),
                (BLOCK as u32, 1, 1),
                0,
                self.stream.cu_stream(),
                &mut places,
            )
        }
        .map_err(|error| Error::Call {
            call: "cuLaunchKernel",
            message: format!("{}: {error}", launch.kernel),
        })
    }

    unsafe fn write(&self, to: Address, from: &[u8]) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's.
        unsafe { locked(&self.writes).write(&self.stream, to, from) }
    }

    unsafe fn read(&self, to: &mut [u8], from: Address) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's; the copy is done when `synchronize` returns, and `to` is borrowed until then.
        let queued = unsafe { result::memcpy_dtoh_async(to, from, self.stream.cu_stream()) };
        self.synchronize()?;
        queued.map_err(call("cuMemcpyDtoH"))
    }

    unsafe fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
            .map_err(call("cuMemcpyDtoD"))
    }

    unsafe fn zero(&self, to: Address, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the caller's.
        unsafe { result::memset_d8_async(to, 0, bytes, self.stream.cu_stream()) }.map_err(call("cuMemsetD8"))
    }

    unsafe fn convolve(&self, by: &Convolve) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's.
        unsafe { locked(&self.cudnn).convolve(by) }
    }

    unsafe fn multiply(&self, by: &Multiply) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's.
        unsafe { self.cublas.multiply(by) }
    }

    fn staging(&self, bytes: usize) -> Result<Box<dyn Staging>> {
        self.bind()?;
        Ok(Box::new(Slot::new(&self.context, &self.stream, bytes)?))
    }

    fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().map_err(call("cuStreamSynchronize"))
    }
}
