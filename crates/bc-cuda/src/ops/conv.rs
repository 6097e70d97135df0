//! Convolutions by cuDNN, after a padding kernel if the padding is circular or asymmetric.

use crate::device::{Argument, Convolve, Pass};
use crate::error::{Result, ensure};
use crate::gpu::{Gpu, kernel, vector};
use crate::ops::elements::WeightCopies;
use crate::shape::{Convolution, Padding, Shape};
use crate::tensor::{Buffer, Image};

/// Alignment of x, w and y in bytes: cuDNN reads and writes 16 bytes at a time.
const ALIGNMENT: u64 = 16;

impl Convolution {
    /// Returns the same convolution without padding, for an image that is already padded.
    fn unpadded(&self) -> Self {
        Self { padding: Padding::default(), ..*self }
    }
}

impl Gpu {
    /// Computes y from x and the weight whose copy begins at index `weight`.
    ///
    /// # Errors
    /// Sizes or elements that do not match; no deterministic algorithm; not enough memory.
    pub fn conv(
        &self,
        x: &Image,
        weights: &WeightCopies,
        weight: usize,
        sizes: &Convolution,
    ) -> Result<Image> {
        let shape = sizes.output(x.shape)?;
        let (x, sizes) = self.padded(x, sizes)?;
        let y = self.image(shape, x.element)?;
        let w = weights.at(weight, sizes.weights())?;
        ensure(weights.element() == x.element, || "weights of another element than the image".to_owned())?;
        // SAFETY: x has the shape that the call says, y was made for the output's, and the weight is inside its buffer.
        unsafe {
            self.convolve(&Convolve {
                pass: Pass::Forward,
                convolution: sizes,
                input: x.shape,
                element: x.element,
                tf32: self.tf32(),
                x: x.address(),
                w,
                y: y.address(),
                add: false,
            })?;
        }
        Ok(y)
    }

    /// Computes dx from dy and the weight, for an input of shape `x`. If `add_to` is given, adds dx to it, in its memory if that is
    /// not shared.
    ///
    /// # Errors
    /// The errors of [`Gpu::conv`].
    pub fn conv_input_gradient(
        &self,
        dy: &Image,
        weights: &WeightCopies,
        weight: usize,
        sizes: &Convolution,
        x: Shape,
        add_to: Option<Image>,
    ) -> Result<Image> {
        ensure(sizes.output(x)? == dy.shape, || format!("a gradient of {} for {sizes} of {x}", dy.shape))?;
        let fits = add_to.as_ref().is_none_or(|dx| dx.shape == x && dx.element == dy.element);
        ensure(fits && weights.element() == dy.element, || {
            "a gradient of another shape or element".to_owned()
        })?;
        let w = weights.at(weight, sizes.weights())?;
        let (padding, inner) = (sizes.padding, sizes.unpadded());
        let by_library = padding.is_symmetric();
        let add = add_to.is_some();
        let dx = match add_to {
            Some(dx) => self.own(dx)?,
            None => self.image(x, dy.element)?,
        };
        let padded = if by_library { dx.clone() } else { self.image(padding.apply(x), dy.element)? };
        // SAFETY: dy has the output's shape, by the line above; `padded` has the input's of the convolution that is
        // called; the weight is inside its buffer.
        unsafe {
            self.convolve(&Convolve {
                pass: Pass::BackwardData,
                convolution: if by_library { *sizes } else { inner },
                input: padded.shape,
                element: dy.element,
                tf32: self.tf32(),
                x: padded.address(),
                w,
                y: dy.address(),
                add: add && by_library,
            })?;
        }
        if !by_library {
            self.pad_gradient(&padded, &dx, padding, add)?;
        }
        Ok(dx)
    }

    /// Computes dw from x and dy and adds it to the flat gradient from index `weight` on, in PyTorch's order.
    ///
    /// # Errors
    /// The errors of [`Gpu::conv`].
    pub fn conv_weight_gradient(
        &self,
        x: &Image,
        dy: &Image,
        sizes: &Convolution,
        gradients: &mut Buffer<f32>,
        weight: usize,
    ) -> Result<()> {
        ensure(
            sizes.output(x.shape)? == dy.shape
                && x.element == dy.element
                && weight + sizes.weights() <= gradients.len(),
            || format!("a gradient of {} for {sizes} of {}", dy.shape, x.shape),
        )?;
        let (x, inner) = self.padded(x, sizes)?;
        let dw = self.image(Shape::matrix(sizes.outputs, sizes.inputs * sizes.taps()), x.element)?;
        // SAFETY: x and dy have the shapes of the call, dw was made for the weights, and the flat gradient has room.
        unsafe {
            self.convolve(&Convolve {
                pass: Pass::BackwardFilter,
                convolution: inner,
                input: x.shape,
                element: x.element,
                tf32: self.tf32(),
                x: x.address(),
                w: dw.address(),
                y: dy.address(),
                add: false,
            })?;
            self.add_weight_gradient(dw.address(), dw.element, sizes, gradients, weight)
        }
    }

    /// Queues a convolution, after checking that its arrays are aligned for cuDNN. The library allocates its workspace from the
    /// device, not from the pool.
    ///
    /// # Safety
    /// The requirements of [`Device::convolve`](crate::device::Device::convolve).
    unsafe fn convolve(&self, call: &Convolve) -> Result<()> {
        ensure([call.x, call.w, call.y].iter().all(|address| address.is_multiple_of(ALIGNMENT)), || {
            format!("arrays of {} that do not begin at multiples of {ALIGNMENT} bytes", call.convolution)
        })?;
        // SAFETY: the caller's.
        self.with_spare_memory(|| unsafe { self.device.convolve(call) })
    }

    /// Pads the image if the library does not support the padding; returns it with the convolution that remains to be computed.
    fn padded(&self, x: &Image, sizes: &Convolution) -> Result<(Image, Convolution)> {
        if sizes.padding.is_symmetric() {
            return Ok((x.clone(), *sizes));
        }
        Ok((self.pad(x, sizes.padding)?, sizes.unpadded()))
    }

    /// Pads an image with zeros, or circularly along the height if the padding is a ring.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn pad(&self, x: &Image, padding: Padding) -> Result<Image> {
        let y = self.image(padding.apply(x.shape), x.element)?;
        let mut arguments = vec![Argument::from(x.address()), y.address().into()];
        arguments.extend(pad_sizes(x.shape, padding).map(Argument::from));
        let v = vector(x.shape.channels, x.element);
        // SAFETY: the kernel has a thread for each pack of y and reads within x.
        unsafe { self.launch(kernel("pad", x.element, v), pack_grid(y.shape, v), arguments)? };
        Ok(y)
    }

    /// Computes the gradient of [`Gpu::pad`]: dx from dy, added to the values of `dx` if `add`.
    pub(crate) fn pad_gradient(&self, dy: &Image, dx: &Image, padding: Padding, add: bool) -> Result<()> {
        ensure(dy.shape == padding.apply(dx.shape), || {
            format!("a gradient of {} for {}", dy.shape, dx.shape)
        })?;
        let mut arguments = vec![Argument::from(dy.address()), dx.address().into()];
        arguments.extend(pad_sizes(dx.shape, padding).map(Argument::from));
        arguments.push(i32::from(add).into());
        let v = vector(dx.shape.channels, dx.element);
        // SAFETY: the kernel has a thread for each pack of dx and reads within dy.
        unsafe { self.launch(kernel("pad_gradient", dx.element, v), pack_grid(dx.shape, v), arguments) }
    }
}

/// Returns the grid for kernels with one thread for each pack of an image.
pub(crate) fn pack_grid(shape: Shape, vector: usize) -> [usize; 3] {
    [(shape.count() / vector).div_ceil(crate::device::BLOCK), 1, 1]
}

fn pad_sizes(x: Shape, padding: Padding) -> [i32; 9] {
    let y = padding.apply(x);
    let ring = usize::from(padding.ring);
    [x.batch, x.height, x.width, x.channels, padding.top, padding.left, y.height, y.width, ring]
        .map(|size| size as i32)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use super::*;
    use crate::device::{Address, Device, Launch, Multiply, Staging};
    use crate::error::Error;
    use crate::shape::Precision;

    /// A device whose library finds no workspace until something was freed.
    #[derive(Default)]
    struct Full {
        taken: AtomicU64,
        freed: AtomicUsize,
        convolved: AtomicUsize,
    }

    fn unused<T>() -> Result<T> {
        unreachable!("a convolution alone is queued")
    }

    // SAFETY: addresses differ, and nothing reads or writes what is behind them.
    unsafe impl Device for Full {
        fn name(&self) -> String {
            "full".to_owned()
        }

        fn allocate(&self, bytes: usize) -> Result<Address> {
            Ok(0x1000 + self.taken.fetch_add(bytes.next_multiple_of(256) as u64, Ordering::Relaxed))
        }

        unsafe fn free(&self, _address: Address) {
            self.freed.fetch_add(1, Ordering::Relaxed);
        }

        fn memory(&self) -> Result<[usize; 2]> {
            unused()
        }

        unsafe fn launch(&self, _launch: &Launch) -> Result<()> {
            unused()
        }

        unsafe fn write(&self, _to: Address, _from: &[u8]) -> Result<()> {
            unused()
        }

        unsafe fn read(&self, _to: &mut [u8], _from: Address) -> Result<()> {
            unused()
        }

        unsafe fn copy(&self, _to: Address, _from: Address, _bytes: usize) -> Result<()> {
            unused()
        }

        unsafe fn zero(&self, _to: Address, _bytes: usize) -> Result<()> {
            unused()
        }

        unsafe fn convolve(&self, _call: &Convolve) -> Result<()> {
            if self.freed.load(Ordering::Relaxed) == 0 {
                return Err(Error::OutOfMemory { asked: 1 << 30, free: 0, total: 1 << 30, held: 1 << 30 });
            }
            self.convolved.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        unsafe fn multiply(&self, _call: &Multiply) -> Result<()> {
            unused()
        }

        fn staging(&self, _bytes: usize) -> Result<Box<dyn Staging>> {
            unused()
        }

        fn synchronize(&self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_convolution_without_a_workspace_takes_what_the_pool_does_not_use() {
        let device = Arc::new(Full::default());
        let gpu = Gpu::new(Arc::clone(&device) as Arc<dyn Device>, Precision::F32);
        let padding = Padding::symmetric(1, 1);
        let sizes = Convolution { inputs: 2, outputs: 3, kernel: [3, 3], stride: [1, 1], padding };
        let weights = gpu.weight_copies(sizes.weights()).unwrap();
        let x = gpu.image(Shape::new(2, 1, 5, 6), gpu.element()).unwrap();
        // Nothing to give back: the error is reported.
        let error = gpu.conv(&x, &weights, 0, &sizes).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        gpu.trim();
        device.freed.store(0, Ordering::Relaxed);
        drop(gpu.buffer::<f32>(1 << 20).unwrap());
        gpu.conv(&x, &weights, 0, &sizes).unwrap();
        assert_eq!(device.convolved.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn weights_that_cudnn_cannot_read_are_refused() {
        let gpu = Gpu::new(Arc::new(Full::default()), Precision::Bf16);
        let padding = Padding::default();
        let sizes = Convolution { inputs: 8, outputs: 8, kernel: [1, 1], stride: [1, 1], padding };
        let weights = gpu.weight_copies(5 + sizes.weights()).unwrap();
        let x = gpu.image(Shape::new(8, 1, 5, 6), gpu.element()).unwrap();
        let error = gpu.conv(&x, &weights, 5, &sizes).unwrap_err().to_string();
        assert!(error.contains("multiples of 16 bytes") && error.contains("1x1 of 8 to 8"), "{error}");
    }
}
