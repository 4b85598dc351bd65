//! Wakers: one that counts, and those that call what a test gives them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Counts how often its wakers are woken.
#[derive(Debug, Clone, Default)]
pub struct Wakes(Arc<Count>);

#[derive(Debug, Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    /// Returns one that has counted none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a waker that is counted here; all of them wake the same.
    pub fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    /// Returns how often they were woken so far.
    pub fn count(&self) -> usize {
        self.0.0.load(Ordering::Relaxed)
    }

    /// Returns how often they were woken since the last call.
    pub fn take(&self) -> usize {
        self.0.0.swap(0, Ordering::Relaxed)
    }

    /// Returns how many of its wakers are still kept.
    pub fn kept(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    /// Polls once, with a waker that is counted here.
    pub fn poll<F: Future + ?Sized>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&self.waker()))
    }
}

/// Polls once, so that this waker is left with what waits.
#[track_caller]
pub fn leave<F: Future + Unpin>(future: &mut F, waker: &Waker) {
    let polled = Pin::new(future).poll(&mut Context::from_waker(waker));
    assert!(polled.is_pending(), "it does not wait");
}

/// Returns a waker that calls this wherever it is woken.
pub fn waker_fn(call: impl Fn() + Send + Sync + 'static) -> Waker {
    struct Calls<F>(F);
    impl<F: Fn() + Send + Sync + 'static> Wake for Calls<F> {
        fn wake(self: Arc<Self>) {
            (self.0)();
        }
    }
    Waker::from(Arc::new(Calls(call)))
}

thread_local! {
    /// The calls of this thread's wakers. Wakers have to be `Send`, the values that these use are not.
    static CALLS: RefCell<BTreeMap<u64, Rc<dyn Fn()>>> = const { RefCell::new(BTreeMap::new()) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// Returns a waker that calls this on the thread it was made on, where alone it may be woken. The
/// closure is dropped with the last clone of the waker.
pub fn local_waker(call: impl Fn() + 'static) -> Waker {
    struct Local(u64);
    impl Wake for Local {
        fn wake(self: Arc<Self>) {
            let call = CALLS.with_borrow(|calls| calls.get(&self.0).cloned());
            match call {
                Some(call) => call(),
                None => panic!("woken on another thread"),
            }
        }
    }
    impl Drop for Local {
        fn drop(&mut self) {
            // Dropped here, outside of the borrow: it may be anything. At the end of the thread
            // the closures went before.
            let call = CALLS.try_with(|calls| calls.borrow_mut().remove(&self.0));
            drop(call);
        }
    }
    let id = NEXT.replace(NEXT.get() + 1);
    CALLS.with_borrow_mut(|calls| calls.insert(id, Rc::new(call)));
    Waker::from(Arc::new(Local(id)))
}

/// For a world under a loop that nothing wakes.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "tests make it")]
pub struct Nobody;

impl tidegate::driver::Wake for Nobody {
    fn wake(&self) {}
}
