//! The head of every network, after the pooling: the embedding, the BNNeck and the classifier (Du et al. 2021, section 3.3;
//! Luo et al. 2019 for the BNNeck).

use anyhow::Result;

use crate::backend::{Array, BackwardPass, Epilogue, Norm, Operators, Saved, TrainPass, Weights};
use crate::layers::{Linear, ParameterBuilder, norm};
use crate::parameters::Parameters;

/// Sizes of a head.
pub(crate) struct HeadSizes {
    /// Number of channels after the pooling.
    pub inputs: usize,
    /// Size of the linear embedding; 0 for none.
    pub projection: usize,
    /// Number of outputs of the classifier; 0 for none.
    pub classes: usize,
}

/// The layers of a head.
pub(crate) struct Head {
    projection: Option<Linear>,
    neck: Norm,
    classifier: Option<Linear>,
}

/// The tensors that the backward pass through a [`Head`] needs.
pub(crate) struct HeadSaved {
    pooled: Array,
    f_t: Array,
    saved: Saved,
    f_c: Array,
}

/// f_t, f_c and the logits, or their gradients: all (size, B).
#[derive(Clone, Default)]
pub struct HeadOutputs<T> {
    /// The embedding before the BNNeck, which the triplet loss uses.
    pub f_t: T,
    /// The embedding after the BNNeck, which retrieval compares.
    pub f_c: T,
    /// The classifier's outputs.
    pub logits: Option<Array>,
}

impl Head {
    pub fn new(sizes: &HeadSizes, builder: &mut ParameterBuilder) -> Self {
        let HeadSizes { inputs, projection, classes } = *sizes;
        let embedding = if projection > 0 { projection } else { inputs };
        let projection = (projection > 0).then(|| Linear::new(builder, "projection", inputs, projection));
        let neck = norm(builder, "bn_fc", embedding, 0);
        let classifier = (classes > 0).then(|| Linear::new(builder, "fc", embedding, classes));
        Self { projection, neck, classifier }
    }

    /// Applies the linear embedding, if there is one.
    fn project(&self, backend: &dyn Operators, parameters: &Parameters, pooled: &Array) -> Result<Array> {
        match &self.projection {
            Some(projection) => projection.forward(backend, parameters, pooled),
            None => Ok(pooled.clone()),
        }
    }

    /// Computes f_t and f_c of the pooled channels (channels, B), by running statistics.
    pub fn forward(&self, weights: Weights<'_>, pooled: &Array) -> Result<(Array, Array)> {
        let f_t = self.project(weights.backend, weights.parameters, pooled)?;
        let f_c = weights.backend.norm(&f_t, weights, &self.neck, Epilogue::NOTHING)?;
        Ok((f_t, f_c))
    }

    /// Computes the logits of f_c, if there is a classifier.
    pub fn logits(
        &self,
        backend: &dyn Operators,
        parameters: &Parameters,
        f_c: &Array,
    ) -> Result<Option<Array>> {
        self.classifier.as_ref().map(|classifier| classifier.forward(backend, parameters, f_c)).transpose()
    }

    /// Returns the classifier.
    pub fn classifier(&self) -> Option<&Linear> {
        self.classifier.as_ref()
    }

    /// Computes the outputs by the statistics of the batch, updates the running ones, and returns what the backward pass
    /// needs.
    pub fn forward_train(
        &self,
        pooled: Array,
        pass: &mut TrainPass<'_>,
    ) -> Result<(HeadOutputs<Array>, HeadSaved)> {
        let f_t = self.project(pass.backend, pass.parameters, &pooled)?;
        let (f_c, saved) = pass.backend.norm_train(&f_t, pass, &self.neck, Epilogue::NOTHING)?;
        let logits = self.logits(pass.backend, pass.parameters, &f_c)?;
        let saved = HeadSaved { pooled, f_t: f_t.clone(), saved, f_c: f_c.clone() };
        Ok((HeadOutputs { f_t, f_c, logits }, saved))
    }

    /// Computes the gradient of the pooled input, from the gradients of a loss; `None` if there are none.
    pub fn backward(
        &self,
        saved: HeadSaved,
        of: HeadOutputs<Option<Array>>,
        pass: &mut BackwardPass<'_>,
    ) -> Result<Option<Array>> {
        let HeadSaved { pooled, f_t, saved, f_c } = saved;
        let mut of_neck = of.f_c;
        if let (Some(classifier), Some(of_logits)) = (&self.classifier, of.logits) {
            of_neck = Some(classifier.backward(&f_c, &of_logits, of_neck, pass)?);
        }
        let mut dy = of.f_t;
        if let Some(of_neck) = of_neck {
            let (through, _) = pass.backend.norm_backward(&saved, &f_t, of_neck, None, &self.neck, pass)?;
            dy = Some(match dy {
                Some(dy) => pass.backend.add(dy, &through)?,
                None => through,
            });
        }
        match (&self.projection, dy) {
            (Some(projection), Some(dy)) => Ok(Some(projection.backward(&pooled, &dy, None, pass)?)),
            (_, dy) => Ok(dy),
        }
    }
}
