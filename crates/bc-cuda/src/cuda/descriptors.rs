//! cuDNN's descriptors of a convolution, and the conversion of its statuses to errors.

use std::ffi::{c_char, c_int};

use cudarc::cudnn::sys::{
    self, cudnnConvolutionMode_t, cudnnDataType_t, cudnnMathType_t, cudnnStatus_t, cudnnTensorFormat_t,
};

use crate::error::{Error, Result};
use crate::shape::{Convolution, Element, Shape};

/// Converts a status other than success to an error with cuDNN's message.
pub(super) fn checked(status: cudnnStatus_t, name: &'static str) -> Result<()> {
    if status == cudnnStatus_t::CUDNN_STATUS_SUCCESS {
        return Ok(());
    }
    let mut text = [0u8; 1024];
    // SAFETY: the call writes a text of at most so many bytes, its end included.
    unsafe { sys::cudnnGetLastErrorString(text.as_mut_ptr().cast::<c_char>(), text.len()) };
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let text = String::from_utf8_lossy(&text[..end]);
    Err(Error::Call { call: name, message: format!("{status:?} {text}").trim_end().to_owned() })
}

/// The descriptors of the tensors x, w and y and of the convolution.
pub(super) struct Descriptors {
    pub x: sys::cudnnTensorDescriptor_t,
    pub w: sys::cudnnFilterDescriptor_t,
    pub y: sys::cudnnTensorDescriptor_t,
    pub convolution: sys::cudnnConvolutionDescriptor_t,
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: each was created or is null, and is destroyed here alone. Nothing can be done about a failure.
        unsafe {
            if !self.x.is_null() {
                let _ = sys::cudnnDestroyTensorDescriptor(self.x);
            }
            if !self.w.is_null() {
                let _ = sys::cudnnDestroyFilterDescriptor(self.w);
            }
            if !self.y.is_null() {
                let _ = sys::cudnnDestroyTensorDescriptor(self.y);
            }
            if !self.convolution.is_null() {
                let _ = sys::cudnnDestroyConvolutionDescriptor(self.convolution);
            }
        }
    }
}

impl Descriptors {
    fn create() -> Result<Self> {
        let (x, w, y) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        let mut d = Self { x, w, y, convolution: std::ptr::null_mut() };
        // SAFETY: each call writes one descriptor, which is dropped with `d` whatever happens.
        unsafe {
            checked(sys::cudnnCreateTensorDescriptor(&mut d.x), "cudnnCreateTensorDescriptor")?;
            checked(sys::cudnnCreateFilterDescriptor(&mut d.w), "cudnnCreateFilterDescriptor")?;
            checked(sys::cudnnCreateTensorDescriptor(&mut d.y), "cudnnCreateTensorDescriptor")?;
            checked(
                sys::cudnnCreateConvolutionDescriptor(&mut d.convolution),
                "cudnnCreateConvolutionDescriptor",
            )?;
        }
        Ok(d)
    }

    /// Creates the descriptors of a convolution of an input of this shape.
    pub fn new(
        input: Shape,
        convolution: &Convolution,
        element: Element,
        math: cudnnMathType_t,
    ) -> Result<Self> {
        let d = Self::create()?;
        let kind = match element {
            Element::F32 => cudnnDataType_t::CUDNN_DATA_FLOAT,
            Element::Bf16 => cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        };
        let last = cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let c = convolution;
        let output = c.output(input)?;
        let filter = Shape { batch: c.outputs, height: c.kernel[0], width: c.kernel[1], channels: c.inputs };
        let [pad_height, pad_width] = [c.padding.top, c.padding.left].map(|size| size as c_int);
        let [down, along] = c.stride.map(|size| size as c_int);
        // The order of the arguments is always (n, c, h, w); the format says how they are stored.
        let sizes = |s: Shape| [s.batch, s.channels, s.height, s.width].map(|size| size as c_int);
        let ([xn, xc, xh, xw], [yn, yc, yh, yw]) = (sizes(input), sizes(output));
        let [wk, wc, wh, ww] = sizes(filter);
        // SAFETY: the descriptors were created above.
        unsafe {
            let tensor = "cudnnSetTensor4dDescriptor";
            checked(sys::cudnnSetTensor4dDescriptor(d.x, last, kind, xn, xc, xh, xw), tensor)?;
            checked(sys::cudnnSetTensor4dDescriptor(d.y, last, kind, yn, yc, yh, yw), tensor)?;
            checked(
                sys::cudnnSetFilter4dDescriptor(d.w, kind, last, wk, wc, wh, ww),
                "cudnnSetFilter4dDescriptor",
            )?;
            let mode = cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
            let sums = cudnnDataType_t::CUDNN_DATA_FLOAT;
            checked(
                sys::cudnnSetConvolution2dDescriptor(
                    d.convolution,
                    pad_height,
                    pad_width,
                    down,
                    along,
                    1,
                    1,
                    mode,
                    sums,
                ),
                "cudnnSetConvolution2dDescriptor",
            )?;
        }
        d.set_math(math)?;
        Ok(d)
    }

    /// Sets which arithmetic the convolution may use.
    pub fn set_math(&self, math: cudnnMathType_t) -> Result<()> {
        // SAFETY: the descriptor lives.
        checked(
            unsafe { sys::cudnnSetConvolutionMathType(self.convolution, math) },
            "cudnnSetConvolutionMathType",
        )
    }
}
