//! Which fault the next request meets.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::Fault;

/// Queued faults come first, then the fault of the time window, then the permanent fault.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// Each with how many requests it still applies to.
    queue: VecDeque<(usize, Fault)>,
    /// With its end. `None`: it never ends.
    window: Option<(Option<Instant>, Fault)>,
    always: Option<Fault>,
}

impl Script {
    pub(crate) fn queue(&mut self, times: usize, fault: Fault) {
        if times > 0 {
            self.queue.push_back((times, fault));
        }
    }

    pub(crate) fn set_window(&mut self, now: Instant, time: Duration, fault: Fault) {
        self.window = Some((now.checked_add(time), fault));
    }

    pub(crate) fn set_always(&mut self, fault: Fault) {
        self.always = Some(fault);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The fault of the next request, if any.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Fault> {
        if let Some((times, fault)) = self.queue.front_mut() {
            *times -= 1;
            let (left, fault) = (*times, fault.clone());
            if left == 0 {
                self.queue.pop_front();
            }
            return Some(fault);
        }
        let in_window = |(end, _): &&(Option<Instant>, Fault)| end.is_none_or(|end| now < end);
        self.window.as_ref().filter(in_window).map(|(_, fault)| fault).or(self.always.as_ref()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(script: &mut Script, now: Instant, times: usize) -> Vec<Option<u16>> {
        (0..times).map(|_| script.next(now).and_then(|fault| fault.status_code())).collect()
    }

    #[test]
    fn queued_faults_come_in_order_and_run_out() {
        let mut script = Script::default();
        script.queue(2, Fault::status(500));
        script.queue(0, Fault::status(501));
        script.queue(1, Fault::status(502));
        let now = Instant::now();
        assert_eq!(names(&mut script, now, 4), [Some(500), Some(500), Some(502), None]);
    }

    #[test]
    fn queue_before_window_before_always() {
        let mut script = Script::default();
        let now = Instant::now();
        script.set_always(Fault::status(503));
        script.set_window(now, Duration::from_secs(1), Fault::status(501));
        script.queue(1, Fault::status(500));
        assert_eq!(names(&mut script, now, 2), [Some(500), Some(501)]);
        assert_eq!(names(&mut script, now + Duration::from_secs(1), 2), [Some(503), Some(503)]);
        script.clear();
        assert_eq!(names(&mut script, now, 1), [None]);
    }

    #[test]
    fn a_window_without_end_lasts() {
        let mut script = Script::default();
        let now = Instant::now();
        script.set_window(now, Duration::MAX, Fault::status(501));
        assert_eq!(names(&mut script, now + Duration::from_secs(9999), 1), [Some(501)]);
    }
}
