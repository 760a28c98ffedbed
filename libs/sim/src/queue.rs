//! What happens next: events in the order of their virtual time, those of one moment in the order in which they were planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Virtual time in microseconds since the run began.
pub(crate) type Micros = u64;

struct Planned<E> {
    at: Micros,
    /// Makes the order total, and the run reproducible.
    sequence: u64,
    event: E,
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    /// The heap gives its greatest first: the earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// The clock of a run and everything that is still to come.
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Planned<E>>,
    sequence: u64,
    now: Micros,
}

impl<E> Queue<E> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0, now: 0 }
    }

    /// The virtual time.
    pub(crate) const fn now(&self) -> Micros {
        self.now
    }

    /// Plans an event; one in the past happens now.
    pub(crate) fn at(&mut self, at: Micros, event: E) {
        self.sequence += 1;
        self.heap.push(Planned { at: at.max(self.now), sequence: self.sequence, event });
    }

    pub(crate) fn after(&mut self, delay: Micros, event: E) {
        self.at(self.now.saturating_add(delay), event);
    }

    /// The next event; the clock moves to its time.
    pub(crate) fn next(&mut self) -> Option<E> {
        let planned = self.heap.pop()?;
        self.now = planned.at;
        Some(planned.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_planning() {
        let mut queue = Queue::new();
        for (at, name) in [(20, "c"), (10, "a"), (20, "d"), (10, "b")] {
            queue.at(at, name);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
        assert_eq!(queue.now(), 20);
        queue.at(5, "late");
        assert_eq!((queue.next(), queue.now()), (Some("late"), 20));
    }
}
