//! Limits the work: as many requests compute as there are workers, a limited number waits, and all others are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::{Histogram, IntGauge};
use tokio::sync::Semaphore;

use super::api_error::ApiError;

/// Maximum waiting time of a request.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// The workers, and slots for the requests that compute or wait.
pub struct Queue {
    slots: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    count: usize,
    /// Running mean of the time that a request computes, in milliseconds.
    recent_mean_ms: Arc<AtomicU64>,
    waiting: IntGauge,
    working: IntGauge,
    seconds: Histogram,
}

impl Queue {
    /// A queue with this many workers and waiting slots.
    pub fn new(workers: usize, waiting_slots: usize, metrics: (IntGauge, IntGauge, Histogram)) -> Self {
        let (waiting, working, seconds) = metrics;
        Self {
            slots: Arc::new(Semaphore::new(workers + waiting_slots)),
            workers: Arc::new(Semaphore::new(workers)),
            count: workers,
            recent_mean_ms: Arc::new(AtomicU64::new(1000)),
            waiting,
            working,
            seconds,
        }
    }

    /// Refuses a request if no slot is free; called before a file is received.
    ///
    /// # Errors
    /// All slots are in use.
    pub fn require_free_slot(&self) -> Result<(), ApiError> {
        if self.slots.available_permits() == 0 { Err(self.full()) } else { Ok(()) }
    }

    fn full(&self) -> ApiError {
        let waiting = self.waiting.get().max(1) as u64;
        let seconds = waiting * self.recent_mean_ms.load(Ordering::Relaxed) / 1000 / self.count.max(1) as u64;
        let text = format!("the server is busy: {waiting} requests are already waiting; try again later");
        ApiError::busy(text, seconds.clamp(1, 60))
    }

    /// Runs `work` in a thread that may block, when a worker is free. A client that disconnects while waiting frees its slot;
    /// work that has begun is finished.
    ///
    /// # Errors
    /// All slots are in use, or no worker becomes free in time; the errors of the work itself.
    pub async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| self.full())?;
        let waiting = GaugeGuard::new(&self.waiting);
        let turn = tokio::time::timeout(MAX_WAIT, self.workers.clone().acquire_owned()).await;
        let Ok(Ok(worker)) = turn else { return Err(self.full()) };
        drop(waiting);
        let (working, seconds, recent_mean_ms) =
            (GaugeGuard::new(&self.working), self.seconds.clone(), self.recent_mean_ms.clone());
        let done = tokio::task::spawn_blocking(move || {
            let _guards = (slot, worker, working);
            let started = Instant::now();
            let result = work();
            let took = started.elapsed();
            seconds.observe(took.as_secs_f64());
            let before = recent_mean_ms.load(Ordering::Relaxed);
            recent_mean_ms.store((7 * before + took.as_millis() as u64) / 8, Ordering::Relaxed);
            result
        });
        done.await.unwrap_or_else(|error| {
            Err(ApiError::internal(&anyhow::anyhow!("the work on this request panicked: {error}")))
        })
    }
}

/// Raises a gauge by one until it is dropped.
struct GaugeGuard(IntGauge);

impl GaugeGuard {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    fn queue(workers: usize, waiting_slots: usize) -> Queue {
        let gauge = |name: &str| IntGauge::new(name, name).unwrap();
        let histogram = Histogram::with_opts(prometheus::HistogramOpts::new("s", "s")).unwrap();
        Queue::new(workers, waiting_slots, (gauge("a"), gauge("b"), histogram))
    }

    type Answer<T> = tokio::task::JoinHandle<Result<T, ApiError>>;

    /// A queue whose only worker computes until a message is sent, and whose only waiting slot is in use.
    async fn full_queue() -> (Arc<Queue>, std::sync::mpsc::Sender<()>, Answer<bool>, Answer<i32>) {
        let queue = Arc::new(queue(1, 1));
        let (finish, wait) = std::sync::mpsc::channel::<()>();
        let first = tokio::spawn({
            let queue = queue.clone();
            async move { queue.work(move || Ok(wait.recv().is_ok())).await }
        });
        while queue.working.get() == 0 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let queue = queue.clone();
            async move { queue.work(|| Ok(2)).await }
        });
        while queue.waiting.get() == 0 {
            tokio::task::yield_now().await;
        }
        (queue, finish, first, second)
    }

    #[tokio::test]
    async fn requests_beyond_the_queue_are_refused_with_a_retry_time() {
        let (queue, finish, first, second) = full_queue().await;
        let error = queue.work(|| Ok(3)).await.unwrap_err();
        assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(error.body.retry_after_s.is_some_and(|seconds| seconds >= 1), "{error:?}");
        assert!(queue.require_free_slot().is_err());
        finish.send(()).unwrap();
        assert!(first.await.unwrap().unwrap());
        assert_eq!(second.await.unwrap().unwrap(), 2);
        assert_eq!((queue.waiting.get(), queue.working.get()), (0, 0));
        queue.require_free_slot().unwrap();
    }

    #[tokio::test]
    async fn disconnected_clients_free_their_slot_and_a_panic_is_an_error_response() {
        let (queue, finish, first, second) = full_queue().await;
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        queue.require_free_slot().unwrap();
        finish.send(()).unwrap();
        first.await.unwrap().unwrap();
        let broken = queue.work(|| -> Result<(), ApiError> { panic!("no") }).await.unwrap_err();
        assert_eq!(broken.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(queue.work(|| Ok(4)).await.unwrap(), 4, "the worker is free again");
    }
}
