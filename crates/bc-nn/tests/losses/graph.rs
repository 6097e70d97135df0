//! The losses as a graph of candle's operations, as they were computed before they had a closed form: what
//! `losses.rs` compares with. Gradients are those of candle's own differentiation.

use candle_core::{D, DType, Result, Tensor};

/// Added to each difference before its norm is taken, as in PyTorch's pairwise distance.
const PAIRWISE_EPSILON: f64 = 1e-6;

/// Mean cross entropy of logits (B, classes) with label smoothing: a share `smoothing` of
/// the target is spread evenly over all classes.
///
/// # Errors
/// Labels that are not as many as rows, or not below the number of classes.
pub fn cross_entropy_smoothed(logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if labels.len() != rows || labels.iter().any(|label| *label as usize >= classes) {
        candle_core::bail!("{} labels for {rows} rows of {classes} classes", labels.len());
    }
    // The maximum shifts the logits without changing the loss; it takes no part in the graph.
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let log_probability = shifted.broadcast_sub(&log_sum)?;
    let index = Tensor::from_slice(labels, (rows, 1), logits.device())?;
    let of_label = log_probability.gather(&index, 1)?.mean_all()?;
    let of_all = log_probability.mean_all()?;
    ((of_label * (smoothing - 1.0))? + (of_all * -smoothing)?)?.reshape(())
}

/// Mean of `max(0, |a - p| - |a - n| + margin)` over rows, Euclidean (PyTorch's TripletMarginLoss).
///
/// # Errors
/// Shapes that differ.
pub fn triplet_margin(
    anchors: &Tensor,
    positives: &Tensor,
    negatives: &Tensor,
    margin: f64,
) -> Result<Tensor> {
    let distance = |to: &Tensor| ((anchors - to)? + PAIRWISE_EPSILON)?.sqr()?.sum(1)?.sqrt();
    ((distance(positives)? - distance(negatives)?)? + margin)?.relu()?.mean_all()
}

/// Which pairs of a batch are versions of one work, and which of two: 1 or 0 in (B, B).
struct Pairs {
    positive: Tensor,
    negative: Tensor,
    /// Positives of each row.
    positives: Vec<usize>,
}

impl Pairs {
    fn new(like: &Tensor, labels: &[u32]) -> Result<Self> {
        let rows = like.dim(0)?;
        if labels.len() != rows {
            candle_core::bail!("{} labels for {rows} rows", labels.len());
        }
        let matrix = |of: &dyn Fn(usize, usize) -> bool| {
            let values = (0..rows * rows).map(|at| f32::from(u8::from(of(at / rows, at % rows))));
            Tensor::from_vec(values.collect::<Vec<f32>>(), (rows, rows), like.device())
        };
        let same = |a: usize, b: usize| labels[a] == labels[b];
        Ok(Self {
            positive: matrix(&|a, b| a != b && same(a, b))?,
            negative: matrix(&|a, b| !same(a, b))?,
            positives: (0..rows).map(|a| (0..rows).filter(|b| *b != a && same(a, *b)).count()).collect(),
        })
    }
}

/// Rows divided by their Euclidean norm.
fn directions(x: &Tensor) -> Result<Tensor> {
    // Rows of zeros get no direction, and no division by zero.
    x.broadcast_div(&(x.sqr()?.sum_keepdim(1)? + 1e-24)?.sqrt()?)
}

/// Logits that are cosines times `scale`: of the rows of x (B, dimensions) with the rows of the classifier's
/// weights (classes, dimensions). Their cross entropy is the normalised softmax loss (Wang et al. 2017, "NormFace",
/// section 3.3; its margin-free form).
///
/// # Errors
/// Shapes that do not fit.
pub fn cosine_logits(x: &Tensor, weight: &Tensor, scale: f64) -> Result<Tensor> {
    directions(x)?.matmul(&directions(weight)?.t()?)? * scale
}

/// The supervised contrastive loss (Khosla et al. 2020, equation 2) of the rows of x (B, dimensions)
/// by their cosines: for each row with a positive, the mean over its positives of
/// `-ln(exp(s_p / temperature) / sum over all others of exp(s / temperature))`; the mean over these rows.
///
/// # Errors
/// Labels that are not as many as rows; no two equal labels.
pub fn supervised_contrastive(x: &Tensor, labels: &[u32], temperature: f64) -> Result<Tensor> {
    let pairs = Pairs::new(x, labels)?;
    let anchors = pairs.positives.iter().filter(|count| **count > 0).count();
    if anchors == 0 {
        candle_core::bail!("a contrastive loss needs a batch with two versions of one work");
    }
    let z = directions(x)?;
    let similarities = (z.matmul(&z.t()?)? / temperature)?;
    let others = (&pairs.positive + &pairs.negative)?;
    // Cosines are at most 1: shifted by that, no power overflows, whatever the temperature.
    let powers = ((&similarities - 1.0 / temperature)?.exp()? * others)?;
    let log_sum = (powers.sum_keepdim(1)?.log()? + 1.0 / temperature)?;
    let weights: Vec<f32> = pairs
        .positives
        .iter()
        .map(|count| if *count > 0 { 1.0 / (*count * anchors) as f32 } else { 0.0 })
        .collect();
    let weights = Tensor::from_vec(weights, (labels.len(), 1), x.device())?;
    let weighted = pairs.positive.broadcast_mul(&weights)?;
    (similarities.broadcast_sub(&log_sum)? * weighted)?.sum_all()?.neg()
}

/// Alignment and uniformity of the rows of x (B, dimensions), as CLEWS has them (Serrà et al. 2025,
/// section 3.3): `mean(d+) + ln(mean(exp(-5 d-)))`, where d is the squared Euclidean distance divided by
/// the number of dimensions, over all pairs of versions of one work (d+) and of two (d-).
///
/// # Errors
/// Labels that are not as many as rows; no positive or no negative pair.
pub fn alignment_uniformity(x: &Tensor, labels: &[u32]) -> Result<Tensor> {
    /// Of CLEWS.
    const STEEPNESS: f64 = 5.0;
    let pairs = Pairs::new(x, labels)?;
    let positives: usize = pairs.positives.iter().sum();
    let negatives = labels.len() * (labels.len() - 1) - positives;
    if positives == 0 || negatives == 0 {
        candle_core::bail!("this loss needs a batch with two versions of one work and another work");
    }
    let squares = x.sqr()?.sum_keepdim(1)?;
    let products = (x.matmul(&x.t()?)? * 2.0)?;
    let distances = squares.broadcast_add(&squares.t()?)?.broadcast_sub(&products)?;
    let distances = (distances / x.dim(1)? as f64)?;
    let alignment = ((&distances * &pairs.positive)?.sum_all()? / positives as f64)?;
    // Shifted by the smallest distance: with powers that all vanish the logarithm would too.
    let apart = pairs
        .negative
        .eq(1f32)?
        .where_cond(&distances.detach(), &distances.detach().max_all()?.broadcast_as(distances.shape())?)?;
    let least = f64::from(apart.min_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
    let powers = (((&distances - least)? * -STEEPNESS)?.exp()? * &pairs.negative)?;
    let uniformity = ((powers.sum_all()? / negatives as f64)?.log()? - STEEPNESS * least)?;
    alignment + uniformity
}
