//! A node's environment in the simulation: virtual clock, seeded chance, and steps at which it may end.

use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Inner, NodeId, SIM_EPOCH_MS};
use crate::{Env, LocalFuture};

/// What the simulation shows one node of the world. Made by [`super::Sim::env`].
///
/// # Panics
/// Its methods panic once the simulation that made it is gone.
#[derive(Clone)]
pub struct SimEnv {
    inner: Weak<Inner>,
    node: NodeId,
}

impl SimEnv {
    pub(super) fn new(inner: &Rc<Inner>, node: NodeId) -> Self {
        Self { inner: Rc::downgrade(inner), node }
    }

    /// The node that it belongs to.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    fn inner(&self) -> Rc<Inner> {
        self.inner.upgrade().expect("a node's environment is used only while its simulation lives")
    }
}

impl std::fmt::Debug for SimEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimEnv({})", self.node)
    }
}

impl Env for SimEnv {
    fn now_ms(&self) -> i64 {
        let inner = self.inner();
        let core = inner.core.borrow();
        SIM_EPOCH_MS + (core.now_ns / 1_000_000) as i64 + core.skew_ms(self.node)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.inner().core.borrow().now_ns)
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()> {
        let now_ns = self.inner().core.borrow().now_ns;
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Box::pin(Sleep { inner: self.inner.clone(), due_ns: now_ns.saturating_add(nanos), timer: None })
    }

    fn random_u64(&self) -> u64 {
        self.inner().core.borrow_mut().rng.next_u64()
    }

    fn crash_point(&self, label: &'static str) -> LocalFuture<'static, ()> {
        let env = self.clone();
        Box::pin(async move {
            env.inner().pass(env.node, label);
            // Always a scheduling point: either this node is stopped here, or the others may go first.
            yield_now().await;
        })
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send + 'static>) -> LocalFuture<'static, ()> {
        Box::pin(async move {
            yield_now().await;
            work();
        })
    }

    fn trace(&self, event: std::fmt::Arguments<'_>) {
        self.inner().event(format_args!("{} {event}", self.node));
    }
}

/// Completes once the virtual clock has reached its time.
struct Sleep {
    inner: Weak<Inner>,
    due_ns: u64,
    timer: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(inner) = self.inner.upgrade() else { return Poll::Pending };
        let mut core = inner.core.borrow_mut();
        if core.now_ns >= self.due_ns {
            return Poll::Ready(());
        }
        let timer = *self.timer.get_or_insert_with(|| core.next_timer_id());
        core.timers.insert((self.due_ns, timer), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(timer), Some(inner)) = (self.timer, self.inner.upgrade()) {
            inner.core.borrow_mut().timers.remove(&(self.due_ns, timer));
        }
    }
}

/// Lets every other ready task go first, once.
pub(super) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(move |context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
