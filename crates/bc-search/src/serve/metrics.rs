//! The metrics that Prometheus reads.

use anyhow::Result;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// Upper ends of the times that are counted apart, in seconds.
const SECONDS: [f64; 12] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0];

/// Counters of one server.
pub struct ServerMetrics {
    registry: Registry,
    /// By route, method and status.
    pub requests: IntCounterVec,
    /// From the headers to the answer, by route.
    pub request_seconds: HistogramVec,
    /// What a request computed, without waiting.
    pub work_seconds: Histogram,
    /// Requests that wait for a worker.
    pub waiting: IntGauge,
    /// Requests that compute.
    pub working: IntGauge,
    /// Open connections.
    pub connections: IntGauge,
    /// Bytes of uploaded files that are there.
    pub spooled: IntGauge,
    /// Recordings of the index.
    pub recordings: IntGauge,
}

impl ServerMetrics {
    /// All at zero.
    ///
    /// # Errors
    /// None: the names are valid.
    pub fn new() -> Result<Self> {
        let registry = Registry::new_custom(Some("bytecover".into()), None)?;
        let gauge = |name: &str, help: &str| -> Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let buckets = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let requests = IntCounterVec::new(
            Opts::new("requests_total", "Requests answered"),
            &["route", "method", "status"],
        )?;
        let request_seconds =
            HistogramVec::new(buckets("request_seconds", "From the headers to the answer"), &["route"])?;
        let work_seconds =
            Histogram::with_opts(buckets("work_seconds", "What a request computed, without waiting"))?;
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
            spooled: gauge("spooled_bytes", "Bytes of uploaded files that are there")?,
            recordings: gauge("recordings", "Recordings of the index")?,
            registry,
        })
    }

    /// All of them in Prometheus's text format.
    ///
    /// # Errors
    /// None: the names are valid.
    pub fn text(&self) -> Result<String> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}
