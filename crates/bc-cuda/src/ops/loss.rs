//! Losses with their gradients, and the distances that losses and mining need.

use crate::device::{Address, Argument, BLOCK};
use crate::error::{Result, ensure};
use crate::gpu::Gpu;
use crate::shape::{Element, Shape};
use crate::tensor::{Buffer, Image};

/// Number of rows and columns of distances that a block of threads computes.
const SIDE: usize = 16;

/// Triplets: `slots` pairs of a positive and a negative for each row as the anchor; a slot with a negative number as its positive is
/// unused.
#[derive(Debug)]
pub struct Triplets {
    positives: Buffer<i32>,
    negatives: Buffer<i32>,
    rows: usize,
    slots: usize,
}

fn matrix(x: &Image) -> Result<[usize; 2]> {
    let fits = x.shape.positions() == 1 && x.element == Element::F32;
    ensure(fits, || format!("a loss of {} of {}", x.shape, x.element.name()))?;
    Ok([x.shape.batch, x.shape.channels])
}

impl Gpu {
    /// Adds the sum of the parts to `to[at]`.
    ///
    /// # Errors
    /// `at` is outside of the buffer.
    pub(crate) fn add_sum(&self, parts: &Buffer<f32>, to: &mut Buffer<f32>, at: usize) -> Result<()> {
        ensure(at < to.len(), || format!("value {at} of {}", to.len()))?;
        // SAFETY: the sum is inside its buffer.
        unsafe { self.sum_parts(parts, to.at(at), 1.0, true) }
    }

    /// Writes `factor` times the sum of the parts to `to`, or adds it to the existing value if `add`.
    ///
    /// # Safety
    /// There is a value at `to`.
    unsafe fn sum_parts(&self, parts: &Buffer<f32>, to: Address, factor: f32, add: bool) -> Result<()> {
        let mut arguments: Vec<Argument> = [parts.address(), to].map(Argument::from).to_vec();
        arguments.extend([Argument::from(parts.len()), factor.into(), i32::from(add).into()]);
        // SAFETY: the parts are as many as said; the caller's.
        unsafe { self.launch("sum_parts".to_owned(), [1, 1, 1], arguments) }
    }

    /// Computes the cross entropy with label smoothing of the first rows of the logits (batch, classes; 32 bits), as many rows as
    /// there are labels. Labels must be below the number of classes. Returns the mean as a single value, and `weight` times the
    /// gradient of the logits.
    ///
    /// # Errors
    /// Shapes that do not match; not enough memory.
    pub fn cross_entropy(
        &self,
        logits: &Image,
        labels: &Buffer<i32>,
        smoothing: f32,
        weight: f32,
    ) -> Result<(Image, Image)> {
        let ([rows, classes], counted) = (matrix(logits)?, labels.len());
        ensure((1..=rows).contains(&counted) && classes > 0, || {
            format!("{counted} labels for {rows} rows of {classes} classes")
        })?;
        let (loss, gradient) = (self.single()?, self.image(logits.shape, Element::F32)?);
        let parts = self.buffer(rows)?;
        let addresses = [logits.address(), labels.address(), parts.address(), gradient.address()];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        let scale = weight / counted as f32;
        arguments.extend([Argument::from(classes), counted.into(), smoothing.into(), scale.into()]);
        // SAFETY: there is a block for each row of logits and gradient, a part for each, and a label for each counted one.
        unsafe {
            self.launch("cross_entropy".to_owned(), [rows, 1, 1], arguments)?;
            self.sum_parts(&parts, loss.address(), 1.0 / counted as f32, false)?;
        }
        Ok((loss, gradient))
    }

    /// Allocates an image for a single value.
    fn single(&self) -> Result<Image> {
        self.image(Shape::matrix(1, 1), Element::F32)
    }

    /// Computes the squared distances of all pairs of rows of x (batch, dimensions; 32 bits), and the distances with 1e-6 added to
    /// each difference (as in PyTorch's `pairwise_distance`); both are (batch, batch).
    ///
    /// # Errors
    /// Another element type; not enough memory.
    pub fn distances(&self, x: &Image) -> Result<[Buffer<f32>; 2]> {
        let [rows, dimensions] = matrix(x)?;
        let [squared, apart] = [self.buffer(rows * rows)?, self.buffer(rows * rows)?];
        let mut arguments: Vec<Argument> =
            [x.address(), squared.address(), apart.address()].map(Argument::from).to_vec();
        arguments.extend([rows, dimensions].map(Argument::from));
        let blocks = rows.div_ceil(SIDE);
        // SAFETY: x has so many rows, both results have a value for each pair.
        unsafe { self.launch("distances".to_owned(), [blocks, blocks, 1], arguments)? };
        Ok([squared, apart])
    }

    /// Uploads triplets that the host has chosen: rows of (anchor, positive, negative).
    ///
    /// # Errors
    /// A row outside the batch.
    pub fn triplets(&self, rows: usize, chosen: &[[u32; 3]]) -> Result<Triplets> {
        let mut of_anchors = vec![Vec::new(); rows];
        for [anchor, positive, negative] in chosen {
            let inside = [anchor, positive, negative].iter().all(|row| (**row as usize) < rows);
            ensure(inside, || format!("a triplet of rows {anchor}, {positive}, {negative} of {rows}"))?;
            of_anchors[*anchor as usize].push([*positive as i32, *negative as i32]);
        }
        let slots = of_anchors.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let list = |which: usize| -> Vec<i32> {
            let slot = |of: &Vec<[i32; 2]>, slot: usize| of.get(slot).map_or(-1, |triplet| triplet[which]);
            of_anchors.iter().flat_map(|of| (0..slots).map(move |number| slot(of, number))).collect()
        };
        Ok(Triplets { positives: self.upload(&list(0))?, negatives: self.upload(&list(1))?, rows, slots })
    }

    /// Computes the mean of `max(0, |a - p| - |a - n| + margin)` over the triplets as a single value (0 without triplets), and
    /// `weight` times the gradient of x. `apart` holds the distances of [`Gpu::distances`].
    ///
    /// # Errors
    /// Shapes that do not match; not enough memory.
    pub fn triplet_margin(
        &self,
        x: &Image,
        apart: &Buffer<f32>,
        triplets: &Triplets,
        margin: f32,
        weight: f32,
    ) -> Result<(Image, Image)> {
        let [rows, dimensions] = matrix(x)?;
        ensure(apart.len() == rows * rows && triplets.rows == rows, || {
            format!("triplets of {} rows for {rows}", triplets.rows)
        })?;
        let [parts, counts] = [self.buffer::<f32>(rows)?, self.buffer::<f32>(rows)?];
        let pulls = self.buffer::<f32>(rows * rows)?;
        let scale = self.buffer::<f32>(1)?;
        let (loss, gradient) = (self.single()?, self.image(x.shape, Element::F32)?);
        let addresses = [
            apart.address(),
            triplets.positives.address(),
            triplets.negatives.address(),
            parts.address(),
            counts.address(),
            pulls.address(),
        ];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        arguments.extend([Argument::from(rows), triplets.slots.into(), margin.into()]);
        let addresses = [parts.address(), counts.address(), loss.address(), scale.address()];
        let mut finish: Vec<Argument> = addresses.map(Argument::from).to_vec();
        finish.extend([Argument::from(rows), weight.into()]);
        let addresses = [x.address(), pulls.address(), scale.address(), gradient.address()];
        let mut backward: Vec<Argument> = addresses.map(Argument::from).to_vec();
        backward.extend([rows, dimensions].map(Argument::from));
        let columns = dimensions.div_ceil(BLOCK);
        // SAFETY: all buffers have a value for each row or pair of rows, triplets name rows of the batch, and the gradient
        // has x's shape.
        unsafe {
            self.launch("triplet_parts".to_owned(), [rows, 1, 1], arguments)?;
            self.launch("triplet_finish".to_owned(), [1, 1, 1], finish)?;
            self.launch("triplet_gradient".to_owned(), [columns, rows, 1], backward)?;
        }
        Ok((loss, gradient))
    }
}
