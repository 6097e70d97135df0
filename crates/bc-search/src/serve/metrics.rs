//! The metrics that Prometheus reads.

use anyhow::Result;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// Upper bounds of the histogram buckets in seconds.
const BUCKETS: [f64; 12] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0];

/// Counters of one server.
pub struct ServerMetrics {
    registry: Registry,
    /// Number of requests, by route, method and status.
    pub requests: IntCounterVec,
    /// Time from the headers to the answer, by route.
    pub request_seconds: HistogramVec,
    /// Time that a request computed, without waiting.
    pub work_seconds: Histogram,
    /// Requests that wait for a worker.
    pub waiting: IntGauge,
    /// Requests that compute.
    pub working: IntGauge,
    /// Open connections.
    pub connections: IntGauge,
    /// Bytes of uploaded files on disk.
    pub spooled: IntGauge,
    /// Recordings of the index.
    pub recordings: IntGauge,
}

impl ServerMetrics {
    /// Metrics with all values at zero.
    ///
    /// # Errors
    /// Does not fail, because the names are valid.
    pub fn new() -> Result<Self> {
        let registry = Registry::new_custom(Some("bytecover".into()), None)?;
        let gauge = |name: &str, help: &str| -> Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let buckets = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        let requests = IntCounterVec::new(
            Opts::new("requests_total", "Requests answered"),
            &["route", "method", "status"],
        )?;
        let request_seconds =
            HistogramVec::new(buckets("request_seconds", "Time from the headers to the answer"), &["route"])?;
        let work_seconds =
            Histogram::with_opts(buckets("work_seconds", "Time that a request computed, without waiting"))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(request_seconds.clone()))?;
        registry.register(Box::new(work_seconds.clone()))?;
        Ok(Self {
            requests,
            request_seconds,
            work_seconds,
            waiting: gauge("waiting", "Requests that wait for a worker")?,
            working: gauge("working", "Requests that compute")?,
            connections: gauge("connections", "Open connections")?,
            spooled: gauge("spooled_bytes", "Bytes of uploaded files on disk")?,
            recordings: gauge("recordings", "Recordings of the index")?,
            registry,
        })
    }

    /// All metrics in Prometheus's text format.
    ///
    /// # Errors
    /// Does not fail, because the names are valid.
    pub fn text(&self) -> Result<String> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}
