//! Losses with their gradients, mining and sums on the device.

use crate::device::Argument;
use crate::error::{Result, ensure};
use crate::gpu::Gpu;
use crate::shape::{Element, Shape};
use crate::tensor::{Buffer, Image};

/// Side of the blocks of distances.
const SIDE: usize = 16;

/// Which triplets of a batch enter the loss, as `bc-train` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mining {
    /// Every row with its farthest positive and its nearest negative.
    BatchHard,
    /// Every row and positive with the nearest negative that is farther; with the farthest if none is.
    SemiHard,
}

/// Triplets: `slots` for each row as the anchor, none where its positive is below zero.
#[derive(Debug)]
pub struct Triplets {
    positives: Buffer<i32>,
    negatives: Buffer<i32>,
    rows: usize,
    slots: usize,
}

fn number(size: usize) -> Argument {
    (size as i32).into()
}

fn matrix(x: &Image) -> Result<[usize; 2]> {
    let fits = x.shape.positions() == 1 && x.element == Element::F32;
    ensure(fits, || format!("a loss of {} of {}", x.shape, x.element.name()))?;
    Ok([x.shape.batch, x.shape.channels])
}

impl Gpu {
    /// The sum of the parts, times `factor`, into `to[at]`; or added to it.
    ///
    /// # Errors
    /// An index outside.
    pub fn sum_parts(
        &self,
        parts: &Buffer<f32>,
        to: &mut Buffer<f32>,
        at: usize,
        factor: f32,
        add: bool,
    ) -> Result<()> {
        ensure(at < to.len(), || format!("value {at} of {}", to.len()))?;
        let addresses = [parts.address(), to.at(at)];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        arguments.extend([number(parts.len()), factor.into(), i32::from(add).into()]);
        // SAFETY: there are as many parts as stated, and the sum is inside its buffer.
        unsafe { self.launch("sum_parts".to_owned(), [1, 1, 1], arguments) }
    }

    /// Cross entropy with label smoothing of the first `counted` rows of logits (batch, classes; 32 bits): `weight` times
    /// the mean over `of` rows (the classified rows of all processes) into `loss[at]`, and the gradient of the logits,
    /// stored as `element`. Labels are of the counted rows at least, each below the number of classes.
    ///
    /// # Errors
    /// Shapes that do not fit; no memory.
    pub fn cross_entropy(
        &self,
        logits: &Image,
        labels: &Buffer<i32>,
        by: &CrossEntropy,
        loss: &mut Buffer<f32>,
        at: usize,
    ) -> Result<Image> {
        let [rows, classes] = matrix(logits)?;
        let fits = by.counted <= rows && by.counted <= labels.len() && by.of > 0 && classes > 0;
        ensure(fits, || {
            format!("{} labels for {} of {rows} rows of {classes} classes", labels.len(), by.counted)
        })?;
        let gradient = self.image(logits.shape, by.element)?;
        let parts = self.buffer(rows)?;
        let scale = by.weight / by.of as f32;
        let addresses = [logits.address(), labels.address(), parts.address(), gradient.address()];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        arguments.extend([number(classes), number(by.counted), by.smoothing.into(), scale.into()]);
        let kernel = format!("cross_entropy_{}", by.element.name());
        // SAFETY: there is a block for each row of logits and gradient, a part for each, and a label for each counted one.
        unsafe { self.launch(kernel, [rows, 1, 1], arguments)? };
        self.sum_parts(&parts, loss, at, scale, false)?;
        Ok(gradient)
    }

    /// Squared distances of all rows of x (batch, dimensions; 32 bits), and distances with 1e-6 added to each difference:
    /// both (batch, batch).
    ///
    /// # Errors
    /// Another element; no memory.
    pub fn distances(&self, x: &Image) -> Result<[Buffer<f32>; 2]> {
        let [rows, dimensions] = matrix(x)?;
        let [squared, apart] = [self.buffer(rows * rows)?, self.buffer(rows * rows)?];
        let mut arguments: Vec<Argument> =
            [x.address(), squared.address(), apart.address()].map(Argument::from).to_vec();
        arguments.extend([number(rows), number(dimensions)]);
        let blocks = rows.div_ceil(SIDE);
        // SAFETY: x has so many rows, both results have a value for each pair.
        unsafe { self.launch("distances".to_owned(), [blocks, blocks, 1], arguments)? };
        Ok([squared, apart])
    }

    /// Triplets of the rows by their labels and squared distances.
    ///
    /// # Errors
    /// Shapes that do not fit; no memory.
    pub fn mine(&self, mining: Mining, squared: &Buffer<f32>, labels: &Buffer<i32>) -> Result<Triplets> {
        let rows = labels.len();
        ensure(squared.len() == rows * rows, || format!("{} distances of {rows} rows", squared.len()))?;
        let (kernel, slots, grid) = match mining {
            Mining::BatchHard => ("mine_hard", 1, [rows, 1, 1]),
            Mining::SemiHard => ("mine_semi_hard", rows, [rows, rows, 1]),
        };
        let [positives, negatives] = [self.buffer(rows * slots)?, self.buffer(rows * slots)?];
        let addresses = [squared.address(), labels.address(), positives.address(), negatives.address()];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        arguments.push(number(rows));
        // SAFETY: there is a distance for each pair, a label for each row, and a place for each slot of each row.
        unsafe { self.launch(kernel.to_owned(), grid, arguments)? };
        Ok(Triplets { positives, negatives, rows, slots })
    }

    /// Triplets that the host has chosen: (anchor, positive, negative).
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

    /// `weight` times the mean of `max(0, |a - p| - |a - n| + margin)` over the triplets into `loss[at]` (0 without any),
    /// and the gradient of the `count` rows of x from `first` on.
    ///
    /// # Errors
    /// Shapes that do not fit; no memory.
    pub fn triplet_margin(
        &self,
        x: &Image,
        apart: &Buffer<f32>,
        triplets: &Triplets,
        by: &TripletMargin,
        loss: &mut Buffer<f32>,
        at: usize,
    ) -> Result<Image> {
        let [rows, dimensions] = matrix(x)?;
        let [first, count] = by.rows;
        let fits =
            apart.len() == rows * rows && triplets.rows == rows && first + count <= rows && at < loss.len();
        ensure(fits, || format!("triplets of {} rows for {rows}", triplets.rows))?;
        let [parts, counts] = [self.buffer::<f32>(rows)?, self.buffer::<f32>(rows)?];
        let pulls = self.buffer::<f32>(rows * rows)?;
        let scale = self.buffer::<f32>(1)?;
        let addresses = [
            apart.address(),
            triplets.positives.address(),
            triplets.negatives.address(),
            parts.address(),
            counts.address(),
            pulls.address(),
        ];
        let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
        arguments.extend([number(rows), number(triplets.slots), by.margin.into()]);
        let addresses = [parts.address(), counts.address(), loss.at(at), scale.address()];
        let mut finish: Vec<Argument> = addresses.map(Argument::from).to_vec();
        finish.extend([number(rows), by.weight.into()]);
        let gradient = self.image(Shape::matrix(count, dimensions), Element::F32)?;
        let addresses = [x.address(), pulls.address(), scale.address(), gradient.address()];
        let mut backward: Vec<Argument> = addresses.map(Argument::from).to_vec();
        backward.extend([rows, dimensions, first].map(number));
        let columns = dimensions.div_ceil(crate::device::BLOCK);
        // SAFETY: all buffers have a value for each row or pair of rows, triplets name rows of the batch, and the gradient
        // was made for the rows that the last kernel goes over.
        unsafe {
            self.launch("triplet_parts".to_owned(), [rows, 1, 1], arguments)?;
            self.launch("triplet_finish".to_owned(), [1, 1, 1], finish)?;
            self.launch("triplet_gradient".to_owned(), [columns, count, 1], backward)?;
        }
        Ok(gradient)
    }
}

/// How a cross entropy is taken, see [`Gpu::cross_entropy`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossEntropy {
    /// Rows that have a label; the first ones.
    pub counted: usize,
    /// Rows that the mean is over.
    pub of: usize,
    /// Share of the target that is spread evenly.
    pub smoothing: f32,
    /// Factor of the loss.
    pub weight: f32,
    /// How the gradient is stored.
    pub element: Element,
}

/// How a triplet loss is taken, see [`Gpu::triplet_margin`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TripletMargin {
    /// How much farther a negative is to be.
    pub margin: f32,
    /// Factor of the loss.
    pub weight: f32,
    /// The first row whose gradient is wanted, and how many.
    pub rows: [usize; 2],
}
