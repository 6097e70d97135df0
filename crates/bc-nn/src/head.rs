//! What follows the pooling in every network: the embedding, the BNNeck and the classifier
//! (Du et al. 2021, section 3.3; Luo et al. 2019 for the BNNeck).

use candle_core::{Result, Tensor};

use crate::gradients::Gradients;
use crate::layers::{Norm, Parameter, Weights, linear, linear_backward};
use crate::ops::norm::{Activation, Saved};

/// Sizes of a head.
pub(crate) struct HeadSizes {
    /// Channels that come from the pooling.
    pub inputs: usize,
    /// Size of the linear embedding; 0: none.
    pub projection: usize,
    /// Outputs of the classifier; 0: none.
    pub classes: usize,
}

/// The layers.
pub(crate) struct Head {
    projection: Option<Parameter>,
    neck: Norm,
    classifier: Option<Parameter>,
}

/// What the backward pass through a [`Head`] needs.
pub(crate) struct HeadSaved {
    pooled: Tensor,
    /// f_t as an image, for the neck.
    image: Tensor,
    saved: Saved,
    f_c: Tensor,
}

/// f_t, f_c and the logits, or their gradients: all (size, B).
pub(crate) struct Columns<T> {
    pub f_t: T,
    pub f_c: T,
    pub logits: Option<Tensor>,
}

impl Head {
    pub fn new(sizes: &HeadSizes, weights: &mut Weights<'_>) -> Result<Self> {
        let HeadSizes { inputs, projection, classes } = *sizes;
        let embedding = if projection > 0 { projection } else { inputs };
        let mut linear = |name: &str, inputs, size| match size {
            0 => Ok(None),
            size => weights.linear(name, inputs, size).map(Some),
        };
        let projection = linear("projection", inputs, projection)?;
        let neck = Norm::new(weights, "bn_fc", embedding, 0)?;
        let classifier = match classes {
            0 => None,
            classes => Some(weights.linear("fc", embedding, classes)?),
        };
        Ok(Self { projection, neck, classifier })
    }

    /// f_t and f_c of (channels, B), by running statistics.
    pub fn forward(&self, pooled: Tensor) -> Result<(Tensor, Tensor)> {
        let f_t = match &self.projection {
            Some(projection) => linear(&pooled, projection)?,
            None => pooled,
        };
        let (size, batch) = f_t.dims2()?;
        let f_c = self.neck.forward(&f_t.reshape((size, batch, 1, 1))?, None, Activation::Identity, None)?;
        Ok((f_t, f_c.reshape((size, batch))?))
    }

    /// The logits of f_c, if there is a classifier.
    pub fn logits(&self, f_c: &Tensor) -> Result<Option<Tensor>> {
        self.classifier.as_ref().map(|classifier| linear(f_c, classifier)).transpose()
    }

    /// The classifier's weights.
    pub fn classifier(&self) -> Option<&Parameter> {
        self.classifier.as_ref()
    }

    /// By the batch's statistics; the running ones are updated.
    pub fn forward_train(&self, pooled: Tensor) -> Result<(Columns<Tensor>, HeadSaved)> {
        let f_t = match &self.projection {
            Some(projection) => linear(&pooled, projection)?,
            None => pooled.clone(),
        };
        let (size, batch) = f_t.dims2()?;
        let image = f_t.reshape((size, batch, 1, 1))?;
        let (f_c, saved) = self.neck.forward_train(&image, None, Activation::Identity, None)?;
        let f_c = f_c.reshape((size, batch))?;
        let logits = self.logits(&f_c)?;
        Ok((Columns { f_t, f_c: f_c.clone(), logits }, HeadSaved { pooled, image, saved, f_c }))
    }

    /// The gradient of what was pooled, from those that a loss gave; `None` if it gave none.
    pub fn backward(
        &self,
        saved: HeadSaved,
        of: Columns<Option<Tensor>>,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let HeadSaved { pooled, image, saved, f_c } = saved;
        let mut of_neck = of.f_c;
        if let (Some(classifier), Some(of_logits)) = (&self.classifier, of.logits) {
            of_neck = Some(linear_backward(&f_c, &of_logits, classifier, of_neck, gradients)?);
        }
        let mut dy = of.f_t;
        if let Some(of_neck) = of_neck {
            let (through, _) =
                self.neck.backward(&image, &saved, of_neck.reshape(image.shape())?, None, gradients)?;
            let through = through.reshape(f_c.shape())?;
            dy = Some(match dy {
                Some(dy) => (dy + through)?,
                None => through,
            });
        }
        match (&self.projection, dy) {
            (Some(projection), Some(dy)) => {
                Ok(Some(linear_backward(&pooled, &dy, projection, None, gradients)?))
            }
            (_, dy) => Ok(dy),
        }
    }
}
