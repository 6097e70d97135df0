//! Limits the work: as many requests run as there are workers, some more may wait, and all others are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::{Histogram, IntGauge};
use tokio::sync::Semaphore;

use super::refusal::Refusal;

/// No request waits longer than this.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// The workers, and places for requests that wait for them.
pub struct Queue {
    places: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    count: usize,
    /// How long a piece of work took lately, in milliseconds.
    lately_ms: Arc<AtomicU64>,
    waiting: IntGauge,
    working: IntGauge,
    seconds: Histogram,
}

impl Queue {
    /// A queue of this many workers and places to wait.
    pub fn new(workers: usize, places: usize, metrics: (IntGauge, IntGauge, Histogram)) -> Self {
        let (waiting, working, seconds) = metrics;
        Self {
            places: Arc::new(Semaphore::new(workers + places)),
            workers: Arc::new(Semaphore::new(workers)),
            count: workers,
            lately_ms: Arc::new(AtomicU64::new(1000)),
            waiting,
            working,
            seconds,
        }
    }

    /// Whether a request would be refused now; asked before a file is taken.
    ///
    /// # Errors
    /// All places are taken.
    pub fn expect_room(&self) -> Result<(), Refusal> {
        if self.places.available_permits() == 0 { Err(self.full()) } else { Ok(()) }
    }

    fn full(&self) -> Refusal {
        let waiting = self.waiting.get().max(1) as u64;
        let seconds = waiting * self.lately_ms.load(Ordering::Relaxed) / 1000 / self.count.max(1) as u64;
        let text = format!("the server is busy: {waiting} requests wait already; come again");
        Refusal::busy(text, seconds.clamp(1, 60))
    }

    /// Computes in a thread that may block, once it is this request's turn. Whoever goes away while waiting gives up the place;
    /// what has begun is finished.
    ///
    /// # Errors
    /// All places are taken, or the turn does not come; the errors of the work itself.
    pub async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| self.full())?;
        let waiting = GaugeGuard::new(&self.waiting);
        let turn = tokio::time::timeout(MAX_WAIT, self.workers.clone().acquire_owned()).await;
        let Ok(Ok(worker)) = turn else { return Err(self.full()) };
        drop(waiting);
        let (working, seconds, lately_ms) =
            (GaugeGuard::new(&self.working), self.seconds.clone(), self.lately_ms.clone());
        let done = tokio::task::spawn_blocking(move || {
            let _held = (place, worker, working);
            let started = Instant::now();
            let done = work();
            let took = started.elapsed();
            seconds.observe(took.as_secs_f64());
            let before = lately_ms.load(Ordering::Relaxed);
            lately_ms.store((7 * before + took.as_millis() as u64) / 8, Ordering::Relaxed);
            done
        });
        done.await.unwrap_or_else(|error| {
            Err(Refusal::internal(&anyhow::anyhow!("the work on this request broke: {error}")))
        })
    }
}

/// Keeps a gauge one higher as long as it lives.
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

    fn queue(workers: usize, places: usize) -> Queue {
        let gauge = |name: &str| IntGauge::new(name, name).unwrap();
        let histogram = Histogram::with_opts(prometheus::HistogramOpts::new("s", "s")).unwrap();
        Queue::new(workers, places, (gauge("a"), gauge("b"), histogram))
    }

    type Answer<T> = tokio::task::JoinHandle<Result<T, Refusal>>;

    /// A queue whose one worker works until something is sent, and whose one place is taken.
    async fn full() -> (Arc<Queue>, std::sync::mpsc::Sender<()>, Answer<bool>, Answer<i32>) {
        let queue = Arc::new(queue(1, 1));
        let (go, wait) = std::sync::mpsc::channel::<()>();
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
        (queue, go, first, second)
    }

    #[tokio::test]
    async fn requests_beyond_the_queue_are_refused_with_a_retry_time() {
        let (queue, go, first, second) = full().await;
        let refused = queue.work(|| Ok(3)).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.body.retry_after_s.is_some_and(|seconds| seconds >= 1), "{refused:?}");
        assert!(queue.expect_room().is_err());
        go.send(()).unwrap();
        assert!(first.await.unwrap().unwrap());
        assert_eq!(second.await.unwrap().unwrap(), 2);
        assert_eq!((queue.waiting.get(), queue.working.get()), (0, 0));
        queue.expect_room().unwrap();
    }

    #[tokio::test]
    async fn leaving_clients_free_their_slot_and_a_panic_is_an_answer() {
        let (queue, go, first, second) = full().await;
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        queue.expect_room().unwrap();
        go.send(()).unwrap();
        first.await.unwrap().unwrap();
        let broken = queue.work(|| -> Result<(), Refusal> { panic!("no") }).await.unwrap_err();
        assert_eq!(broken.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(queue.work(|| Ok(4)).await.unwrap(), 4, "the worker is there again");
    }
}
