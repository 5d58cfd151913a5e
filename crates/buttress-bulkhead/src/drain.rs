use std::{
    pin::Pin,
    task::{Context, Poll},
};

use buttress_kit::wakers::Parked;

use crate::Bulkhead;

/// Waits until nothing runs and nobody waits; made by [`Bulkhead::drain`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Drain {
    bulkhead: Bulkhead,
    /// Among those who wait, once it was polled and had to.
    parked: Option<Parked>,
}

impl Bulkhead {
    /// Waits for a moment at which no call runs and none waits. To get there under steady load,
    /// [`close`](Self::close) first.
    ///
    /// # Cancellation
    /// Dropping the future changes nothing for anybody else.
    pub fn drain(&self) -> Drain {
        Drain { bulkhead: self.clone(), parked: None }
    }
}

impl Future for Drain {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { bulkhead, parked } = &mut *self;
        match bulkhead.shared.gate.poll_drained(parked, cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if let Some(parked) = self.parked.take() {
            self.bulkhead.shared.gate.forget_drainer(parked);
        }
    }
}
